"""A clock that wakes an event loop to the microsecond, where its own timers know milliseconds."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1  # TFD_TIMER_ABSTIME


class _Moment(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Timer(ctypes.Structure):
    _fields_ = (("interval", _Moment), ("value", _Moment))


class Alarm:
    """A descriptor that becomes readable at the time that was set last: Linux's ``timerfd``.

    Example:
        ```python
        alarm = Alarm()
        loop.add_reader(alarm.fd, wake)   # which calls alarm.clear() and sets the next time
        alarm.set(monotonic() + 0.0003)
        ```

    Raises:
        OSError: the kernel has no descriptor left.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def set(self, when: float) -> None:
        """Ring at `when`, in `time.monotonic`'s seconds; at once if that is over."""
        seconds, rest = divmod(max(1, round(when * 1e9)), 1_000_000_000)
        timer = _Timer(_Moment(0, 0), _Moment(seconds, rest))
        self._libc.timerfd_settime(self.fd, _ABSOLUTE, ctypes.byref(timer), None)

    def clear(self) -> None:
        """It has rung, or not."""
        with suppress(BlockingIOError):
            os.read(self.fd, 8)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)
