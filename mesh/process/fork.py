"""What a forked child does about all that it shares with its parent, a process of ours.

A worker may fork: by `os.fork`, a pool of `multiprocessing`, a `preexec_fn`. The child has the
parent's signal handlers, its wake-up descriptor, its pipes and its sockets. Left so, a SIGTERM that
is meant for the child would drain the parent, and a child that outlives its parent would keep the
parent's port and connections. So whoever owns such a thing registers what a child has to do about
it, and signals go back to what they are in any Python process.

Threads other than the one that forked do not exist in the child, but their locks may be held there:
what is registered takes no lock. It never calls ZeroMQ either.
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

STRAY: Final = 70  # exit code of a child that came back to us; EX_SOFTWARE
_OURS: Final = frozenset({"mesh", "gateway", "stage"})
# Held back from before the fork until the child has its own handlers: the handler in C writes to
# the wake-up descriptor, which is the parent's.
_HELD_BACK: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD})

_owners: dict[int, Callable[[], None]] = {}
_numbers = count()
_masks = threading.local()  # of signals, per thread that is forking
_is_child = False


def in_child(call: Callable[[], None]) -> Callable[[], None]:
    """Have a call made in every forked child of this process, from now on.

    Args:
        call: takes no lock, and may fail.

    Returns:
        What undoes this; more than once does no harm.

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
    """Signals do what they do in any Python process, where what they did was ours."""
    for number in signal.valid_signals():
        found = signal.getsignal(number)
        if str(getattr(found, "__module__", "")).partition(".")[0] in _OURS:
            is_interrupt = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if is_interrupt else signal.SIG_DFL)


class Tripwire:
    """Stands in a forked child where something of its parent's was.

    A child that returns from `forward` would go on as a second replica. Whatever it touches first
    is one of these, and ends it.
    """

    def __getattr__(self, name: str) -> NoReturn:
        """End the process, whatever is asked for."""
        end_stray()

    def __enter__(self) -> NoReturn:
        """The same for a ``with`` block, which asks the class."""
        end_stray()

    def __exit__(self, *_: object) -> None:
        """Never reached."""


def end_if_forked() -> None:
    """End this process if it is a forked child: only its parent goes on from here."""
    if _is_child:
        end_stray()


def end_stray() -> NoReturn:
    """End a forked child that came back to code of ours, and say so.

    One that called `sys.exit` meant to end, and ends with its own code.
    """
    error = sys.exception()
    if isinstance(error, SystemExit):
        code = _exit_code(error)
    else:
        code = STRAY
        _say(
            f"a forked child came back from the worker's code (process {os.getpid()}, forked by "
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


def _say(text: str) -> None:
    """Write one line of the log, at once: the thread that usually writes it is the parent's."""
    get_output().emit("error", text, {})
    flush()
