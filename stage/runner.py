"""One batch through the user's worker: one outcome per task, whatever fails.

The code here is the only place that calls into a worker. What an item's own conversion raises, or
an exception instance among the results, fails that item alone; only what `forward` itself raises
fails the batch. Nothing of ours is kept between two runs but a note of what was logged.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mesh.board import SIZE, Board
from mesh.errors import ClientError, EncodingError, ForwardTimeout, ServerError, StartError
from mesh.messages import Buffer, Task
from mesh.ownership import isolate
from mesh.request_facts import Reply, RequestFacts, Requests
from mesh.worker import Worker
from stage.pace import LONG

_QUIET = 60.0  # seconds for which the same failure is not logged again
_TIMED_OUT = "forward_timeout"
_PLACES = 256  # failures told apart by the log; beyond that it starts afresh


@dataclass(slots=True)
class ItemOutcome:
    """What became of one task of a batch.

    Attributes:
        buffers: the answer's body after the last stage, else what the next stage receives. They
            are safe to send: nobody will change them.
        code: "" for a result, else the error's code.
        text: the error's message, fit for the client.
        seconds: what it took; for the tasks of one `forward` the time of the whole batch.
        status: HTTP status that the worker chose, 0 for the usual.
        headers: further HTTP headers that it set.
        content_type: the one that it chose, "" for the usual.
    """

    buffers: list[Buffer] = field(default_factory=list)
    code: str = ""
    text: str = ""
    seconds: float = 0.0
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = ""


class Runner:
    """Runs a worker, on the thread that constructed it.

    Args:
        worker: the user's, constructed.
        batching: `forward` takes and gives lists (`max_batch_size` above 1).
        log: where tracebacks of the user's code go, each at most once a minute.
        clock: monotonic, in seconds.
        board: where what is computed can be read after a crash.

    Attributes:
        interruptible: a signal may raise `ForwardTimeout` now, and at no other time: here it ends
            what runs, elsewhere it would lose what is already done.
        tasks: those that run one by one now, none otherwise. `give_up` is for them.
        done: outcomes of the first of them.

    Example:
        >>> class Upper(Worker):
        ...     def forward(self, data):
        ...         return data.upper()
        >>> runner = Runner(Upper(), batching=False, log=logging.getLogger("stage"))
        >>> task = Task(1, 1, (("upper", ""),), 0, 1, 9.0, [b'"hello"'], 7)
        >>> runner.run([task])[0].buffers
        [b'"HELLO"']
    """

    def __init__(
        self,
        worker: Worker,
        *,
        batching: bool,
        log: logging.Logger,
        clock: Callable[[], float] = time.perf_counter,
        board: Board | None = None,
    ) -> None:
        self._worker = worker
        self._board = board or Board(bytearray(SIZE))
        self._batching = batching
        self._log = log
        self._clock = clock
        self._logged: dict[tuple[str, str, int], float] = {}
        self._todo: deque[Task] = deque()
        self.tasks: Sequence[Task] = ()
        self.done: list[ItemOutcome] = []
        self.interruptible = False
        self._current: Sequence[Task] = ()  # what is computed

    def in_hand(self) -> list[str]:
        """Ids of the requests that are computed now, none between batches; from any thread."""
        batch, done = self._current, len(self.done)
        if not self._batching:  # one by one
            batch = batch[done : done + 1]
        return [facts.id for facts in Requests(batch, time.monotonic)]

    def warm_up(self) -> None:
        """Run the worker's `multi_examples`, or else its `example`, as they are.

        Raises:
            StartError: `forward` failed on one; the text has what it raised.
        """
        worker = self._worker
        examples = worker.multi_examples
        if examples is None:
            examples = () if worker.example is None else (worker.example,)
        for number, example in enumerate(examples, 1):
            try:
                # A batching worker's example should be a list; what else it is, `forward` judges.
                count = len(example) if self._batching and isinstance(example, list) else 1
                worker.requests = [RequestFacts()] * count
                worker.forward(example)
            except Exception as error:
                raise StartError(
                    f"{type(worker).__qualname__} failed on example {number} of {len(examples)}: "
                    f"{type(error).__name__}: {error}"
                ) from error
            finally:
                worker.requests = ()

    def run(self, tasks: list[Task]) -> list[ItemOutcome]:
        """Compute tasks: together with batching, else one by one.

        A `ForwardTimeout` that a signal raises fails the batch, or the one task that is running.
        `SystemExit` and its like pass through: they end the process, as they should.

        Args:
            tasks: at most `max_batch_size` of them if batching.

        Returns:
            One outcome for each, in order. Without batching only for those that were begun: once
            they have taken `LONG`, the rest is left for `give_up`.
        """
        self._board.begin(tasks, time.monotonic(), singly=not self._batching)
        self._current = tasks
        outcomes = self._run_together(tasks) if self._batching else self._run_singly(tasks)
        self._current = ()
        self._board.end()  # not if the worker ends the process: then they are suspects
        if not self._batching:
            return outcomes
        # The values are gone by now, so that what still refers to their arrays is the user's.
        isolate([outcome.buffers for outcome in outcomes])
        return outcomes

    def give_up(self) -> list[Task]:
        """Begin no more of what runs one by one; from any thread, while `tasks` is that.

        Returns:
            The tasks that were not begun. Of the others all but one are `done`.
        """
        rest: list[Task] = []
        todo = self._todo
        while todo:
            try:
                rest.append(todo.pop())
            except IndexError:  # the other thread took it from the other end meanwhile
                break
        return rest[::-1]

    def clear(self) -> None:
        """Let go of what ran."""
        self.tasks, self.done = (), []

    def close(self) -> None:
        """Let the worker unload; what goes wrong in that is logged."""
        try:
            self._worker.unload()
        except Exception as error:  # noqa: BLE001 - the replica is ending anyway
            self._report(error, "unload failed")

    def _run_singly(self, tasks: list[Task]) -> list[ItemOutcome]:
        """One by one, until they turn out slow or `give_up` took the rest."""
        todo = self._todo = deque(tasks)
        done = self.done = []
        task, spent = todo.popleft(), 0.0
        self.tasks = tasks
        while True:
            outcome = self._run_alone(task)
            buffers = outcome.buffers
            if len(buffers) != 1 or type(buffers[0]) is not bytes:
                isolate([buffers])  # before the next one may write to the same memory
            done.append(outcome)
            spent += outcome.seconds
            if spent >= LONG or outcome.code is _TIMED_OUT:
                return done
            if not todo:  # nearly always how it ends; to raise is slow
                return done
            try:
                task = todo.popleft()
            except IndexError:  # the other thread took it meanwhile
                return done
            self._board.step(len(done))

    def _run_alone(self, task: Task) -> ItemOutcome:
        started = self._clock()
        try:
            self.interruptible = True
            outcome: ItemOutcome = self._attempt(self._one, task)
            self.interruptible = False
        except ForwardTimeout as error:
            self.interruptible = False
            outcome = _timed_out(error)
        outcome.seconds = self._clock() - started
        return outcome

    def _one(self, task: Task) -> ItemOutcome:
        return self._encode(task, self._ask([task], self._decode(task)))

    def _ask(self, tasks: list[Task], given: Any) -> Any:
        """Call `forward`, telling the worker whose inputs these are."""
        worker = self._worker
        worker.requests = Requests(tasks, time.monotonic)
        try:
            return worker.forward(given)
        finally:
            worker.requests = ()  # or the payloads would live until the next forward

    def _run_together(self, tasks: list[Task]) -> list[ItemOutcome]:
        started = self._clock()
        try:
            self.interruptible = True
            outcomes = self._batch(tasks)
            self.interruptible = False
        except ForwardTimeout as error:
            self.interruptible = False
            outcomes = [_timed_out(error) for _ in tasks]
        seconds = self._clock() - started
        for outcome in outcomes:
            outcome.seconds = seconds
        return outcomes

    def _batch(self, tasks: list[Task]) -> list[ItemOutcome]:
        """Decode each, forward what decoded, encode each."""
        items = self._decoded(tasks)
        inputs = [item for item in items if type(item) is not ItemOutcome]
        if len(inputs) == len(tasks):
            decoded = tasks
        else:
            pairs = zip(tasks, items, strict=True)
            decoded = [task for task, item in pairs if type(item) is not ItemOutcome]
        results = self._encoded(decoded, self._forward(decoded, inputs) if inputs else ())
        if decoded is tasks:
            return results
        rest = iter(results)
        return [item if type(item) is ItemOutcome else next(rest) for item in items]

    def _decoded(self, tasks: list[Task]) -> list[Any]:
        """Each task's input, or the `ItemOutcome` of its failure."""
        decode, items = self._decode, []
        for task in tasks:
            try:
                items.append(decode(task))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is one item's failure
                items.append(self._failure(error))
        return items

    def _encoded(self, tasks: list[Task], results: Sequence[Any]) -> list[ItemOutcome]:
        """What became of each task, given its result."""
        encode, outcomes = self._encode, []
        for task, result in zip(tasks, results, strict=False):  # as many, when they were counted
            try:
                outcomes.append(encode(task, result))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is one item's failure
                outcomes.append(self._failure(error))
        return outcomes

    def _forward(self, tasks: list[Task], inputs: list[Any]) -> list[Any]:
        """Run the batch; its failure becomes each input's result."""
        results = self._attempt(self._checked_forward, tasks, inputs)
        return [results] * len(inputs) if type(results) is ItemOutcome else results

    def _checked_forward(self, tasks: list[Task], inputs: list[Any]) -> Any:
        count = len(inputs)
        results = self._ask(tasks, inputs)
        if not isinstance(results, list | tuple | np.ndarray):
            kind = type(results).__name__
            raise ServerError(f"forward returned a {kind}; with batching it must return a list")
        if type(results) not in (list, np.ndarray):  # what it yields counts, not what it says
            results = list(results)
        if len(results) != count:
            raise ServerError(f"forward returned {len(results)} results for {count} inputs")
        return results

    def _attempt(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """Call into the user's code; a failure is an `ItemOutcome`."""
        try:
            return step(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is one item's failure
            return self._failure(error)

    def _decode(self, task: Task) -> Any:
        buffers = task.buffers
        if not task.hop:
            first = buffers[0] if len(buffers) == 1 else None
            return self._worker.deserialize(first if type(first) is bytes else b"".join(buffers))
        return self._worker.deserialize_ipc(buffers[0] if len(buffers) == 1 else buffers)

    def _encode(self, task: Task, result: Any) -> ItemOutcome:
        if type(result) is ItemOutcome:
            return replace(result, buffers=[])
        if isinstance(result, Exception):
            return self._failure(result)
        if isinstance(result, Reply):
            return self._encode_reply(task, result)
        if len(task.path) == 1:
            return ItemOutcome([_checked(self._worker.serialize(result), "serialize")])
        output = self._worker.serialize_ipc(result)
        if type(output) is not list:
            return ItemOutcome([_checked(output, "serialize_ipc")])
        if not output:
            raise EncodingError("serialize_ipc returned an empty list; it must hold a buffer")
        return ItemOutcome([_checked(buffer, "serialize_ipc") for buffer in output])

    def _encode_reply(self, task: Task, reply: Reply) -> ItemOutcome:
        if len(task.path) > 1:
            raise EncodingError("forward returned a Reply; only the last stage of a route may")
        outcome = self._encode(task, reply.value)
        outcome.status = reply.status
        outcome.headers = tuple(reply.headers.items())
        outcome.content_type = reply.content_type or ""
        return outcome

    def _failure(self, error: Exception) -> ItemOutcome:
        """Say what the client may know: the texts of our own errors, and nothing of others."""
        if isinstance(error, ClientError | ServerError):
            text = str(error) or error.code.replace("_", " ")
            return ItemOutcome(code=error.code, text=text)
        self._report(error, "the worker failed")
        return ItemOutcome(code=ServerError.code, text="the worker failed")

    def _report(self, error: Exception, text: str) -> None:
        """Log a traceback, but not the same one again within a minute."""
        now = self._clock()
        place = _place(error)
        if now - self._logged.get(place, -_QUIET) < _QUIET:
            return
        if len(self._logged) >= _PLACES:
            self._logged.clear()
        self._logged[place] = now
        self._log.error("%s: %s: %s", text, type(error).__name__, error, exc_info=error)


def _timed_out(error: ForwardTimeout) -> ItemOutcome:
    text = str(error) or "forward took longer than its timeout"
    return ItemOutcome(code=_TIMED_OUT, text=text)


def _checked(buffer: object, method: str) -> Buffer:
    """Make sure that a buffer is flat bytes."""
    if type(buffer) is bytes:
        return buffer
    if isinstance(buffer, memoryview):
        flat = buffer.format == "B" and buffer.ndim == 1 and buffer.c_contiguous
        return buffer if flat else bytes(buffer)
    if isinstance(buffer, bytes | bytearray):
        return buffer
    advice = "; call .encode() on it" if isinstance(buffer, str) else ""
    kind = type(buffer).__name__
    raise EncodingError(f"{method} returned a {kind} where it must return bytes{advice}")


def _place(error: Exception) -> tuple[str, str, int]:
    """Tell failures apart: the type, and where it was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__qualname__, "", 0
    return type(error).__qualname__, trace.tb_frame.f_code.co_filename, trace.tb_lineno
