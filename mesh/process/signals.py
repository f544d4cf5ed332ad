"""The stop signals of a process: which ones it handles, and how it keeps its handlers.

Our processes receive signals through a descriptor, so that another thread notices them while the
main thread computes. A worker, or a library that it loads, may replace a handler or the descriptor;
`HeldSignals.retake` restores them.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FrameType

from mesh.log import get_logger

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Stop signals within this time count as one; a later one ends the process at once.
SAME_STOP_S = 1.0

# Bypasses the wrapper that converts the result to an enum: it costs 4 us, and a replica calls this
# for each forward.
_getsignal: Callable[[int], object] = _signal.getsignal

Reaction = Callable[[int, FrameType | None], object]


def prepare() -> tuple[signal.Signals, ...]:
    """Reset the signal handling that this process inherited. Call it first.

    Until `HeldSignals.take`, stop signals end the process silently, without a traceback. An ignored
    SIGCHLD is inherited, too, and would hide the exit codes of children.

    Returns:
        The stop signals that the process must handle.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    wanted = wanted_stops()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, wanted)
    for number in wanted:
        signal.signal(number, signal.SIG_DFL)
    return wanted


def wanted_stops() -> tuple[signal.Signals, ...]:
    """Return the stop signals that are not ignored, and always SIGTERM.

    A shell ignores SIGINT for processes in the background, and `nohup` ignores SIGHUP. Such a
    process must not end by that signal.
    """
    return tuple(
        number
        for number in STOP_SIGNALS
        if number is signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN
    )


def log_ignored(wanted: Iterable[signal.Signals]) -> None:
    """Log if Ctrl-C is not among the stop signals that this process handles."""
    if signal.SIGINT not in wanted:
        text = "Ctrl-C (SIGINT) is ignored, as this process was started so; stop it: kill %d"
        get_logger().info(text, os.getpid())


class HeldSignals:
    """Signals whose handling this process keeps. Only the main thread may use it.

    Args:
        stops: the stop signals; each is only written to the descriptor, as a byte.
        reactions: handlers of other signals.
        descriptor: the non-blocking write end of a pipe.
    """

    def __init__(
        self,
        stops: Iterable[signal.Signals],
        reactions: Mapping[signal.Signals, Reaction],
        descriptor: int,
    ) -> None:
        self._reactions: dict[signal.Signals, Reaction] = dict.fromkeys(stops, self._notice)
        self._reactions.update(reactions)
        watched = (signal.SIGTERM, *reactions)
        self._watched = tuple((one, self._reactions[one]) for one in watched)
        self._descriptor = descriptor
        self._logged = False

    def take(self) -> list[str]:
        """Set the handlers; return the names of the signals that had other handlers."""
        self._take_descriptor()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._reactions)
        others = [number for number in self._reactions if not self.holds(number)]
        for number in others:
            signal.signal(number, self._reactions[number])
        return [number.name for number in others]

    def retake(self) -> None:
        """Restore the handlers, and log it the first time that this was needed."""
        taken = self.take()
        if taken and not self._logged:
            self._logged = True
            text = (
                "the worker replaced the handler of %s; this replica needs its own and took it back"
            )
            get_logger().warning(text, ", ".join(taken))

    def holds(self, number: signal.Signals) -> bool:
        """Return whether the handler of this signal is ours; callable from any thread."""
        return _getsignal(number) is self._reactions[number]

    def are_intact(self) -> bool:
        """Return whether the handlers of SIGTERM and of `reactions` are ours.

        This is cheap enough for each forward. It leaves the other stop signals out: code that
        replaces one of them for long replaces SIGTERM, too.
        """
        for number, reaction in self._watched:  # noqa: SIM110 - a generator would be a second call
            if _getsignal(number) is not reaction:
                return False
        return True

    def release(self) -> None:
        """Detach the descriptor, and ignore the signals: the process is about to end."""
        signal.set_wakeup_fd(-1)
        for number in self._reactions:
            signal.signal(number, _ignore)

    def _take_descriptor(self) -> bool:
        """Make signals go to our descriptor; return whether they already did."""
        former = signal.set_wakeup_fd(self._descriptor, warn_on_full_buffer=False)
        return former == self._descriptor

    def _notice(self, number: int, frame: FrameType | None) -> None:
        """Write the signal's number if the interpreter wrote it to another descriptor."""
        if not self._take_descriptor():
            with contextlib.suppress(BlockingIOError):  # the pipe is full of signals: one is enough
                os.write(self._descriptor, bytes([number]))


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing. Unlike SIG_IGN, children do not inherit this handler."""


@contextlib.contextmanager
def waitable_children() -> Iterator[None]:
    """Inside the block, children leave an exit code, even if SIGCHLD was ignored before.

    Only the main thread of a process can arrange that; in other threads this does nothing.
    """
    former = signal.getsignal(signal.SIGCHLD)
    if former is not signal.SIG_IGN or not in_main_thread():
        yield
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, former)


def in_main_thread() -> bool:
    """Return whether this thread may set signal handlers."""
    return threading.current_thread() is threading.main_thread()
