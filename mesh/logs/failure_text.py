"""What is said of an exception that a user's code raised, whatever that exception does when asked.

An exception is an object of the user's: its text, its name, its traceback and its causes are
attributes that may raise, lie, or be of any size. Everything here asks the interpreter instead
where it can, survives the rest, and is bounded.
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

MAX_MESSAGE_BYTES = 4096  # bytes of a message, as a link carries it
MAX_TRACEBACK_CHARS = 16 * 1024  # characters of a traceback that a client or a log is shown
UNSPEAKABLE = "its text cannot be read"
_HOME = Path(__file__).resolve().parents[2]
_OURS = tuple(f"{_HOME}{os.sep}{name}{os.sep}" for name in ("mesh", "gateway", "stage"))
_STANDARD = sysconfig.get_path("stdlib")
_LIBRARIES = (_STANDARD, sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
# The interpreter's own answers: a class of the user's may have others.
_trace: Any = vars(BaseException)["__traceback__"].__get__
_qualname: Any = vars(type)["__qualname__"].__get__
_cause: Any = vars(BaseException)["__cause__"].__get__
_raised_while: Any = vars(BaseException)["__context__"].__get__
_hides_that: Any = vars(BaseException)["__suppress_context__"].__get__


class RaisedAt(NamedTuple):
    """Where an exception was raised; ("", 0) if it never was."""

    file: str
    line: int


def name_of(error: BaseException) -> str:
    """The name of its class."""
    return str(_qualname(type(error)))


def text_of(error: BaseException) -> str:
    """What it says: a text of at most `MAX_MESSAGE_BYTES` bytes, "" if it says nothing.

    Example:
        >>> text_of(ValueError("boom"))
        'boom'
    """
    try:
        return cut(str(error))
    except ForwardTimeout:
        raise
    except BaseException:  # noqa: BLE001 - whatever it raises when it is asked, it has failed
        return UNSPEAKABLE


def what_silences(error: BaseException) -> BaseException | None:
    """What it raises when it is asked for its text; None if it answers."""
    try:
        str(error)
    except ForwardTimeout:
        raise
    except BaseException as raised:  # noqa: BLE001 - that is what was asked
        return raised
    return None


def cut(text: str, longest: int = MAX_MESSAGE_BYTES) -> str:
    """The text itself, or its beginning, and how long it was."""
    mended = text.encode("utf-8", "replace")
    if len(mended) <= longest:
        return mended.decode()
    told = f" ... (cut; it has {len(text):,} characters)"
    return mended[: longest - len(told)].decode("utf-8", "ignore") + told


def line_of(error: BaseException) -> str:
    """Its class and the first line of what it says; the last one, too, where that is another.

    Example:
        >>> line_of(ValueError("shapes differ\\n  (3, 4)\\nuse one shape"))
        'ValueError: shapes differ ... use one shape'
    """
    said = first_and_last(text_of(error))
    if isinstance_of(error, SystemExit):
        return f"it called sys.exit({', '.join(said)})"
    return ": ".join(filter(None, (name_of(error), " ... ".join(said))))


def isinstance_of(error: BaseException, kind: type | tuple[type, ...]) -> bool:
    """Whether its class is one of these; `isinstance` would ask the object as well."""
    return issubclass(type(error), kind)


def place_of(error: BaseException) -> RaisedAt:
    """Where it was raised."""
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
    """The innermost frame of the user's own code, as far as it can be told from libraries'.

    Args:
        frames: outermost first.
        folders: where the user's code is known to lie.
    """
    others = [frame for frame in frames if not is_ours(frame.filename)]
    own = [frame for frame in others if os.path.dirname(frame.filename) in folders]
    own = own or [frame for frame in others if not frame.filename.startswith(_LIBRARIES)]
    installed = [frame for frame in others if not frame.filename.startswith(_STANDARD)]
    found = own or installed
    return found[-1] if found else None


def line_and_place(error: BaseException, folders: Sequence[str] = ()) -> str:
    """What `line_of` says, and where in the user's code it was.

    Example:
        ``ModuleNotFoundError: No module named 'torch' (service.py:3)``
    """
    frame = users_frame(traceback.extract_tb(_trace(error)), folders)
    if frame is None:
        return line_of(error)
    return f"{line_of(error)} ({os.path.basename(frame.filename)}:{frame.lineno})"


def users_trace(error: BaseException) -> TracebackType | None:
    """Its traceback from the first frame on that is not ours, or whole if all of them are."""
    whole = frame = _trace(error)
    while frame is not None and is_ours(frame.tb_frame.f_code.co_filename):
        frame = frame.tb_next
    return frame or whole  # type: ignore[no-any-return]


def is_ours(file: str) -> bool:
    """Whether a source file belongs to Meshline or to the import system."""
    return file.startswith(("<frozen ", *_OURS))


def trace_text(error: BaseException) -> str:
    """Its traceback as Python prints it, causes and all: the user's frames, and bounded."""
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
    """Where it was raised: the user's frames alone, one below the other."""
    frames = list(traceback.extract_tb(users_trace(error)))
    while len(frames) > 1 and is_ours(frames[-1].filename):  # whoever interrupted it
        del frames[-1]
    return "".join(traceback.format_list(frames)).rstrip()


def stack_of_thread(ident: int) -> str:
    """Where a thread of this process is: the user's frames, one below the other."""
    frames = traceback.extract_stack(sys._current_frames().get(ident))
    return "".join(traceback.format_list(users_stack(frames))).rstrip()


def users_stack(frames: list[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """A stack, outermost first, from the first frame on that is not ours, or whole."""
    first = next((at for at, one in enumerate(frames) if not is_ours(one.filename)), 0)
    return frames[first:]


def stack_of_crash(text: bytes) -> str:
    """What `faulthandler` wrote, as a traceback has it: the user's frames, the innermost last.

    Example:
        >>> stack_of_crash(b'Fatal Python error: Aborted\\n  File "/srv/a.py", line 7 in run\\n')
        '  File "/srv/a.py", line 7 in run'
    """
    lines = text.rstrip(b"\0").decode("utf-8", "replace").splitlines()
    frames = [line for line in lines if line.startswith("  File ")]
    own = [line for line in frames if not is_ours(line.split('"')[1])]
    return "\n".join((own or frames)[::-1])


def cause_of(error: BaseException) -> BaseException | None:
    """What it was raised from, or while, as Python's own traceback shows it."""
    cause: BaseException | None = _cause(error)
    return cause if cause is not None or _hides_that(error) else _raised_while(error)


def is_worth_a_trace(error: BaseException) -> bool:
    """Whether its traceback has anything of the user's: that a module is missing has not."""
    own = users_frame(traceback.extract_tb(_trace(error))) is not None
    return own or isinstance_of(error, SyntaxError)


def exc_info(
    error: BaseException,
) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """What a log line is given to print its traceback from.

    The exception itself, or one of the same name in its place where that cannot be printed or
    would fill the log.
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
