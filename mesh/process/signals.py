"""The signals that stop a process: which of them it takes, and how it keeps them.

A process of ours hears its own signals through a descriptor, so that they are noticed while its
main thread computes. A worker, or a library that it loads, may replace what happens on a signal, or
the descriptor; `HeldSignals.retake` undoes that.
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
# Stop signals of a process within so many seconds are one, a later one ends it at once.
SAME_STOP_S = 1.0

# Past the wrapper that makes an enum of its answer: it costs 4 us, and a replica asks each forward.
_getsignal: Callable[[int], object] = _signal.getsignal

Reaction = Callable[[int, FrameType | None], object]


def prepare() -> tuple[signal.Signals, ...]:
    """Undo what the parent did to this process's signals; the first thing that it does.

    Until they are taken, stop signals end the process without a word or a traceback. A SIGCHLD that
    is ignored is inherited, too: no process that was started would leave an exit code.

    Returns:
        The stop signals that are to be taken.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    wanted = wanted_stops()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, wanted)
    for number in wanted:
        signal.signal(number, signal.SIG_DFL)
    return wanted


def wanted_stops() -> tuple[signal.Signals, ...]:
    """The stop signals that are not ignored, and SIGTERM, which is how everybody stops a process.

    A shell starts what runs in the background with SIGINT ignored, `nohup` ignores SIGHUP: such a
    process is not to end by it.
    """
    return tuple(
        number
        for number in STOP_SIGNALS
        if number is signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN
    )


def log_ignored(wanted: Iterable[signal.Signals]) -> None:
    """Say so where Ctrl-C is none of the stop signals that are to be taken."""
    if signal.SIGINT not in wanted:
        text = "Ctrl-C (SIGINT) is ignored, as this process was started so; stop it: kill %d"
        get_logger().info(text, os.getpid())


class HeldSignals:
    """Signals that this process keeps for itself. All of it belongs to the main thread.

    Args:
        stops: these are only written, as a byte each, to the descriptor.
        reactions: what is done about others.
        descriptor: of a pipe, non-blocking.
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
        self._told = False

    def take(self) -> list[str]:
        """Take the signals over; returns the names of those that had handlers."""
        self._take_descriptor()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._reactions)
        others = [number for number in self._reactions if not self.holds(number)]
        for number in others:
            signal.signal(number, self._reactions[number])
        return [number.name for number in others]

    def retake(self) -> None:
        """Take them back, and say so the first time that this was needed."""
        taken = self.take()
        if taken and not self._told:
            self._told = True
            text = (
                "the worker replaced the handler of %s; this replica needs its own and took it back"
            )
            get_logger().warning(text, ", ".join(taken))

    def holds(self, number: signal.Signals) -> bool:
        """Whether what happens on this signal is what we want; from any thread."""
        return _getsignal(number) is self._reactions[number]

    def are_intact(self) -> bool:
        """Whether SIGTERM and the reactions are ours: a look that is cheap enough for each forward.

        The other stop signals are left out: who replaces one of them for long replaces SIGTERM.
        """
        for number, reaction in self._watched:  # noqa: SIM110 - a generator would be a second call
            if _getsignal(number) is not reaction:
                return False
        return True

    def release(self) -> None:
        """Write no more to the descriptor. The process is about to end: it ignores the signals."""
        signal.set_wakeup_fd(-1)
        for number in self._reactions:
            signal.signal(number, _ignore)

    def _take_descriptor(self) -> bool:
        """Have signals written to our descriptor; returns whether they were already."""
        former = signal.set_wakeup_fd(self._descriptor, warn_on_full_buffer=False)
        return former == self._descriptor

    def _notice(self, number: int, frame: FrameType | None) -> None:
        """The interpreter has written the signal's number, but if it was told of another place."""
        if not self._take_descriptor():
            with contextlib.suppress(BlockingIOError):  # full of signals: one is enough
                os.write(self._descriptor, bytes([number]))


def _ignore(number: int, frame: FrameType | None) -> None:
    """Not SIG_IGN, which every process that is started would inherit."""


@contextlib.contextmanager
def waitable_children() -> Iterator[None]:
    """Inside, processes that end leave an exit code, although SIGCHLD was ignored before.

    Only a process's main thread can see to that; in others this does nothing.
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
    """Whether this thread may say what happens on a signal."""
    return threading.current_thread() is threading.main_thread()
