"""Describes exceptions of user code, however they behave when they are inspected.

Such an exception is a user's object: its text, name, traceback and causes are attributes that may
raise, lie, or be of any size. The functions here ask the interpreter instead where possible, handle
all exceptions, and bound their results.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from mesh.errors import ForwardTimeout
from mesh.logs.limit import first_and_last

MAX_MESSAGE_BYTES = 4096  # bytes of a message on a link
MAX_TRACEBACK_CHARS = 16 * 1024  # characters of a traceback for a client or a log
UNSPEAKABLE = "its text cannot be read"
_HOME = Path(__file__).resolve().parents[2]
_OURS = tuple(f"{_HOME}{os.sep}{name}{os.sep}" for name in ("mesh", "gateway", "stage"))
_STANDARD = sysconfig.get_path("stdlib")
_LIBRARIES = (_STANDARD, sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
# The interpreter's own functions: a user's class may override them.
_trace: Any = vars(BaseException)["__traceback__"].__get__
_qualname: Any = vars(type)["__qualname__"].__get__
_cause: Any = vars(BaseException)["__cause__"].__get__
_raised_while: Any = vars(BaseException)["__context__"].__get__
_hides_that: Any = vars(BaseException)["__suppress_context__"].__get__


class RaisedAt(NamedTuple):
    """Where an exception was raised; ("", 0) if it was never raised."""

    file: str
    line: int


def name_of(error: BaseException) -> str:
    """Return the name of its class."""
    return str(_qualname(type(error)))


def text_of(error: BaseException) -> str:
    """Return its text, at most `MAX_MESSAGE_BYTES` bytes; "" if it has none.

    Example:
        >>> text_of(ValueError("boom"))
        'boom'
    """
    try:
        return cut(str(error))
    except ForwardTimeout:
        raise
    except BaseException:  # noqa: BLE001 - it may raise anything; the text is unreadable then
        return UNSPEAKABLE


def what_silences(error: BaseException) -> BaseException | None:
    """Return the exception that reading its text raises; None if the text can be read."""
    try:
        str(error)
    except ForwardTimeout:
        raise
    except BaseException as raised:  # noqa: BLE001 - this is the result
        return raised
    return None


def cut(text: str, longest: int = MAX_MESSAGE_BYTES) -> str:
    """Return the text, or its beginning and its length."""
    mended = text.encode("utf-8", "replace")
    if len(mended) <= longest:
        return mended.decode()
    note = f" ... (cut; it has {len(text):,} characters)"
    return mended[: longest - len(note)].decode("utf-8", "ignore") + note


def line_of(error: BaseException) -> str:
    """Return its class and the first line of its text, and also the last line if it differs.

    Example:
        >>> line_of(ValueError("shapes differ\\n  (3, 4)\\nuse one shape"))
        'ValueError: shapes differ ... use one shape'
    """
    said = first_and_last(text_of(error))
    if isinstance_of(error, SystemExit):
        return f"it called sys.exit({', '.join(said)})"
    return ": ".join(filter(None, (name_of(error), " ... ".join(said))))


def isinstance_of(error: BaseException, kind: type | tuple[type, ...]) -> bool:
    """Return whether its class is one of these; `isinstance` would ask the object as well."""
    return issubclass(type(error), kind)


def place_of(error: BaseException) -> RaisedAt:
    """Return where it was raised."""
    frame = _trace(error)
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return (
        RaisedAt("", 0)
        if frame is None
        else RaisedAt(frame.tb_frame.f_code.co_filename, frame.tb_lineno)
    )


def users_frame(
    frames: Sequence[traceback.FrameSummary], folders: Sequence[str] = ()
) -> traceback.FrameSummary | None:
    """Return the innermost frame of the user's own code, as far as libraries can be recognized.

    Args:
        frames: the frames, outermost first.
        folders: folders that are known to contain the user's code.
    """
    others = [frame for frame in frames if not is_ours(frame.filename)]
    own = [frame for frame in others if os.path.dirname(frame.filename) in folders]
    own = own or [frame for frame in others if not frame.filename.startswith(_LIBRARIES)]
    installed = [frame for frame in others if not frame.filename.startswith(_STANDARD)]
    found = own or installed
    return found[-1] if found else None


def line_and_place(error: BaseException, folders: Sequence[str] = ()) -> str:
    """Return the line of `line_of`, and where in the user's code it was raised.

    Example:
        ``ModuleNotFoundError: No module named 'torch' (service.py:3)``
    """
    frame = users_frame(traceback.extract_tb(_trace(error)), folders)
    if frame is None:
        return line_of(error)
    return f"{line_of(error)} ({os.path.basename(frame.filename)}:{frame.lineno})"


def users_trace(error: BaseException) -> TracebackType | None:
    """Return its traceback from the first frame that is not ours, or all of it if there is none."""
    whole = frame = _trace(error)
    while frame is not None and is_ours(frame.tb_frame.f_code.co_filename):
        frame = frame.tb_next
    return frame or whole  # type: ignore[no-any-return]


def is_ours(file: str) -> bool:
    """Return whether a source file belongs to Meshline or to the import system."""
    return file.startswith(("<frozen ", *_OURS))


def trace_text(error: BaseException) -> str:
    """Return its bounded traceback as Python prints it, with causes, from the user's first
    frame."""
    trace = users_trace(error)
    try:
        lines = traceback.format_exception(type(error), error, trace)
    except ForwardTimeout:
        raise
    except BaseException:  # noqa: BLE001 - its causes or notes may raise when read
        lines = [*traceback.format_tb(trace), f"{name_of(error)}: {text_of(error)}\n"]
    text = "".join(lines)
    if len(text) <= MAX_TRACEBACK_CHARS:
        return text
    half = MAX_TRACEBACK_CHARS // 2
    return f"{text[:half]}\n  ... ({len(text):,} characters in all)\n{text[-half:]}"


def stack_text(error: BaseException) -> str:
    """Return the stack at which it was raised: only the user's frames."""
    frames = list(traceback.extract_tb(users_trace(error)))
    while len(frames) > 1 and is_ours(frames[-1].filename):  # our signal handler
        del frames[-1]
    return "".join(traceback.format_list(frames)).rstrip()


def stack_of_thread(ident: int) -> str:
    """Return the stack of a thread of this process: only the user's frames."""
    frames = traceback.extract_stack(sys._current_frames().get(ident))
    return "".join(traceback.format_list(users_stack(frames))).rstrip()


def users_stack(frames: list[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """Return a stack, outermost first, from the first frame that is not ours, or all of it."""
    first = next((at for at, one in enumerate(frames) if not is_ours(one.filename)), 0)
    return frames[first:]


def stack_of_crash(text: bytes) -> str:
    """Convert the output of `faulthandler` to a traceback: the user's frames, the innermost last.

    Example:
        >>> stack_of_crash(b'Fatal Python error: Aborted\\n  File "/srv/a.py", line 7 in run\\n')
        '  File "/srv/a.py", line 7 in run'
    """
    lines = text.rstrip(b"\0").decode("utf-8", "replace").splitlines()
    frames = [line for line in lines if line.startswith("  File ")]
    own = [line for line in frames if not is_ours(line.split('"')[1])]
    return "\n".join((own or frames)[::-1])


def cause_of(error: BaseException) -> BaseException | None:
    """Return its cause or context, as Python's own traceback shows it."""
    cause: BaseException | None = _cause(error)
    return cause if cause is not None or _hides_that(error) else _raised_while(error)


def is_worth_a_trace(error: BaseException) -> bool:
    """Return whether its traceback contains user code; that of a missing module does not."""
    own = users_frame(traceback.extract_tb(_trace(error))) is not None
    return own or isinstance_of(error, SyntaxError)


def exc_info(
    error: BaseException,
) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """Return the `exc_info` for a log line with its traceback.

    This is the exception itself or, if that cannot be printed or would fill the log, a substitute
    of the same name.
    """
    trace = users_trace(error)
    try:
        text = "".join(traceback.format_exception(type(error), error, trace))
    except ForwardTimeout:
        raise
    except BaseException:  # noqa: BLE001 - see `trace_text`
        text = ""
    if text and len(text) <= 4 * MAX_TRACEBACK_CHARS:
        return type(error), error, trace
    stand_in = type(name_of(error), (Exception,), {"__module__": "builtins"})
    return stand_in, stand_in(text_of(error)), trace
