"""Handling of exceptions of the user's code: an outcome for the client, a line in the log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from mesh.errors import ClientError, ForwardTimeout, ServerError
from mesh.logs.failure_text import (
    UNSPEAKABLE,
    cause_of,
    exc_info,
    is_worth_a_trace,
    isinstance_of,
    line_of,
    name_of,
    place_of,
    stack_of_thread,
    stack_text,
    text_of,
    trace_text,
    what_silences,
)
from mesh.logs.limit import LogLimit, fixed_part
from mesh.logs.loggers import SAID
from mesh.protocol.messages import Buffer, Task
from mesh.worker.request_info import Reply, name_of_request, requests_text
from stage.error_codes import ErrorAnswer, answer_of
from stage.item_outcome import ItemOutcome
from stage.results import TIMED_OUT

_FAILED = "the worker failed"
_MAX_FAULTY = 256
_MAX_NAMES_CHARS = 4096  # characters


class Failures:
    """Turns the exceptions of one worker into outcomes, and logs them.

    Args:
        log: where tracebacks go, the same one at most ten times a minute.
        clock: returns monotonic time in seconds.
        debug: whether outcomes carry the traceback, for the client.

    Attributes:
        limit: of log lines; while its `due` has come, `log_left_out` has something to say.
    """

    def __init__(self, log: logging.Logger, clock: Callable[[], float], *, debug: bool) -> None:
        self._log, self._clock, self._debug = log, clock, debug
        self.limit = LogLimit()
        self._faulty: set[str] = set()  # classes for which an invalid code or status was logged
        self._bodiless: set[int] = set()  # statuses for which a dropped value was logged

    def outcome(self, error: BaseException, tasks: Sequence[Task]) -> ItemOutcome:
        """Make the outcome for the client: with the text of our own error classes, but not of
        others."""
        is_theirs = isinstance_of(error, ClientError)
        text = text_of(error)
        if text is UNSPEAKABLE:
            self._log_silenced(error, tasks)
        if not is_theirs and not isinstance_of(error, ServerError):
            self.report(error, _FAILED, tasks)
            return ItemOutcome(self._raised(error), ServerError.code, _FAILED)
        base = ClientError if is_theirs else ServerError
        code, status, headers, fault = _safe_answer(error, base)
        if fault and name_of(error) not in self._faulty and len(self._faulty) < _MAX_FAULTY:
            self._faulty.add(name_of(error))
            self._log.warning("%s", fault)
        if not is_theirs:
            cause = cause_of(error)
            traced = cause is not None and (is_worth_a_trace(error) or is_worth_a_trace(cause))
            self.report(error, _FAILED, tasks, traced=traced)
        raised = [] if is_theirs and not self._debug else self._raised(error)
        text = text or code.replace("_", " ")
        return ItemOutcome(raised, code, text, status=status, headers=headers)

    def timed_out(self, error: ForwardTimeout, tasks: Sequence[Task]) -> ItemOutcome:
        """Make the outcome of an interrupted forward, and log where it was."""
        text = text_of(error) or "forward took longer than its timeout"
        self.report(error, "forward was interrupted", tasks, traced=False)
        return ItemOutcome(self._raised(error), TIMED_OUT, text)

    def _log_silenced(self, error: BaseException, tasks: Sequence[Task]) -> None:
        """Log why an error has no text; the client only learns that it has none."""
        why = what_silences(error)
        text = f"the text of {name_of(error)} cannot be read"
        if why is not None and self.limit.admits(text, self._clock()):
            said = f"{text}: {line_of(why)}{_whose(tasks)}"
            self._log.warning("%s", said, extra={SAID: True})

    def log_dropped(self, reply: Reply, task: Task) -> None:
        """Log, once per status, that a `Reply` has a value although its status has no body."""
        kind = type(reply.value).__name__
        article = "an" if kind[:1] in "aeiou" else "a"
        text = f"a Reply with status {reply.status} has no body: its value, {article} {kind}"
        if reply.status not in self._bodiless:
            self._bodiless.add(reply.status)
            self._log.warning("%s, is dropped%s", text, _whose([task]), extra={SAID: True})

    def _raised(self, error: BaseException) -> list[Buffer]:
        """Make the buffers of a failure: the exception as a line for the gateway's log and, with
        `debug`, the traceback. With `debug` the gateway shows both to the client."""
        line = line_of(error).encode("utf-8", "replace")
        return [line, trace_text(error).encode("utf-8", "replace")] if self._debug else [line]

    def report(
        self, error: BaseException, text: str, tasks: Sequence[Task], *, traced: bool | None = None
    ) -> None:
        """Log an error, unless the same error was logged often in the last minute.

        Errors are the same if they have the same class, place and text, apart from numbers. Unless
        `traced` says otherwise, the traceback is logged if it contains user code.
        """
        now = self._clock()
        if now >= self.limit.due:
            self.log_left_out(now)
        said = fixed_part(text_of(error))
        place = ":".join(map(str, place_of(error)))
        if self.limit.admits(f"{text}: {name_of(error)}: {said} ({place})", now):
            traced = is_worth_a_trace(error) if traced is None else traced
            self.record(error, text, tasks, traced=traced)

    def record(
        self, error: BaseException, text: str, tasks: Sequence[Task], *, traced: bool
    ) -> None:
        """Log an error without a limit."""
        line = f"{text}: {line_of(error)}{_whose(tasks)}"
        if isinstance_of(error, ForwardTimeout):  # not a bug: only its position matters
            line += f"; it was here:\n{stack_text(error)}"
        trace = exc_info(error) if traced else None
        self._log.error("%s", line, exc_info=trace, extra={SAID: True})

    def ignored(self, limit: float, tasks: Sequence[Task], thread: int) -> None:
        """Log that a forward goes on although it was interrupted at its limit."""
        names = [name_of_request(task) for task in tasks]
        text = "forward ignores its timeout of %g s: terminating this replica%s; it is here:\n%s"
        extra = {SAID: True, "ids": names}
        self._log.error(text, limit, _whose(tasks), stack_of_thread(thread), extra=extra)

    def log_left_out(self, now: float) -> None:
        """Log how many failures the limit kept out of the log in the minutes that are over."""
        for kind, count in self.limit.take_left_out(now):
            self._log.error("and %d more: %s", count, kind)


def _whose(tasks: Sequence[Task]) -> str:
    """Name the requests of a failure by the ids that their clients know."""
    if not tasks:
        return ""
    said = requests_text([name_of_request(task) for task in tasks], _MAX_NAMES_CHARS)
    where = "; a log in JSON has all of them in `ids`" if said.endswith(" more") else ""
    return f" ({said}{where})"


def _safe_answer(error: Any, base: type[ClientError | ServerError]) -> ErrorAnswer:
    """Return the answer for an error, whose attributes are user code and may raise."""
    try:
        return answer_of(error)
    except ForwardTimeout:
        raise
    except BaseException:  # noqa: BLE001 - user code may raise anything
        return ErrorAnswer(base.code, fault=f"{name_of(error)}: its code or status cannot be read")
