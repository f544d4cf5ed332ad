"""Detaches a forked child from what it shares with its parent, one of our processes.

A worker may fork: by `os.fork`, a pool of `multiprocessing`, a `preexec_fn`. The child inherits the
parent's signal handlers, wake-up descriptor, pipes and sockets. Without countermeasures, a SIGTERM
to the child would drain the parent, and a child that outlives its parent would keep the parent's
port and connections open. So the owner of each such resource registers what a child has to do with
it, and this module restores Python's default signal handling.

Only the thread that forked exists in the child, but locks of other threads may be held there. So a
registered call must take no lock. It must not call ZeroMQ either.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from itertools import count
from typing import Final, NoReturn

from mesh.log import flush, get_output

STRAY: Final = 70  # exit code of a child that returned to our code; EX_SOFTWARE
_OURS: Final = frozenset({"mesh", "gateway", "stage"})
# Blocked from before the fork until the child has its own handlers: the handler in C writes to the
# wake-up descriptor, which is the parent's.
_HELD_BACK: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD})

_owners: dict[int, Callable[[], None]] = {}
_numbers = count()
_masks = threading.local()  # signal masks, by the thread that forks
_is_child = False


def in_child(call: Callable[[], None]) -> Callable[[], None]:
    """Register a call that every forked child of this process makes from now on.

    Args:
        call: must take no lock; its exceptions are ignored.

    Returns:
        A function that unregisters it; repeated calls do nothing.

    Example:
        >>> undo = in_child(lambda: os.close(pipe))
    """
    number = next(_numbers)
    if not number:
        os.register_at_fork(
            before=_hold_back, after_in_parent=_let_through, after_in_child=_become_child
        )
    _owners[number] = call
    return lambda: _drop(number)


def _drop(number: int) -> None:
    _owners.pop(number, None)


def _hold_back() -> None:
    if _owners:
        _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)


def _let_through() -> None:
    before = _masks.__dict__.pop("before", None)
    if before is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _become_child() -> None:
    global _is_child
    if not _owners:
        return
    _is_child = True
    calls = list(_owners.values())
    _owners.clear()
    signal.set_wakeup_fd(-1)
    _reset_signals()
    for call in calls:
        with contextlib.suppress(Exception):
            call()
    _let_through()


def _reset_signals() -> None:
    """Restore Python's default handling of the signals that we handle."""
    for number in signal.valid_signals():
        found = signal.getsignal(number)
        if str(getattr(found, "__module__", "")).partition(".")[0] in _OURS:
            is_interrupt = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if is_interrupt else signal.SIG_DFL)


class Tripwire:
    """Replaces an object of the parent in a forked child.

    A child that returns from `forward` would go on as a second replica. The first object that it
    uses is a `Tripwire`, which ends the child.
    """

    def __getattr__(self, name: str) -> NoReturn:
        """End the process, whatever the attribute."""
        end_stray()

    def __enter__(self) -> NoReturn:
        """End the process. A ``with`` block looks this method up in the class."""
        end_stray()

    def __exit__(self, *_: object) -> None:
        """Never reached."""


def end_if_forked() -> None:
    """End this process if it is a forked child: only its parent goes on from here."""
    if _is_child:
        end_stray()


def end_stray() -> NoReturn:
    """End a forked child that returned to our code, and log that.

    A child that called `sys.exit` wants to end, and ends with its own code.
    """
    error = sys.exception()
    if isinstance(error, SystemExit):
        code = _exit_code(error)
    else:
        code = STRAY
        _log_now(
            f"a forked child returned from the worker's code (process {os.getpid()}, forked by "
            f"{os.getppid()}) and ends here, as only its parent may go on; "
            "end such a child with os._exit()"
        )
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    return error.code & 0xFF if isinstance(error.code, int) else 1


def _log_now(text: str) -> None:
    """Write a log line at once: the thread that usually writes them exists only in the parent."""
    get_output().emit("error", text, {})
    flush()
