"""Limits how often the same failure is logged per minute. Pure.

Further failures are counted, and their number is logged when the minute is over. So a service that
fails a thousand times a second writes eleven lines a minute, which include the number of failures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NEVER = float("inf")
OTHERS = "failures of other kinds"  # the name of failures for which the table has no room
_MAX_KEY_CHARS = 200  # characters of a line that distinguish failures
_VARIABLE = re.compile(r"\b[0-9a-fA-F-]{8,}\b|\d+")


def first_and_last(text: str) -> list[str]:
    """Return the first and the last line of a text that are not empty; fewer if there are fewer.

    Both matter: the first line of a CUDA error names it; in other texts, the last one concludes.

    Example:
        >>> first_and_last("shapes differ\\n  (3, 4)\\nuse one shape\\n")
        ['shapes differ', 'use one shape']
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[:1] if len(lines) < 2 or lines[0] == lines[-1] else [lines[0], lines[-1]]


def fixed_part(text: str) -> str:
    """Return a text without numbers, ids and inner lines, to recognize the same failure.

    Example:
        >>> fixed_part("row 17 of 5d41402a-bc4b is empty")
        'row N of N is empty'
    """
    return _VARIABLE.sub(
        "N", " ... ".join([line[:_MAX_KEY_CHARS] for line in first_and_last(text)])
    )


@dataclass(slots=True)
class _Window:
    """The current minute of one failure."""

    until: float
    count: int = 0
    left_out: int = 0


class LogLimit:
    """Decides which failures are logged.

    Args:
        most: lines of one kind per window.
        seconds: the length of a window, which begins with the first line of its kind.
        kinds: how many kinds are counted separately at a time; all others count as one.

    Attributes:
        due: when `take_left_out` has something to return; infinity while nothing was left out.

    Example:
        >>> limit = LogLimit(most=2)
        >>> [limit.admits("boom", now) for now in (0.0, 1.0, 2.0, 3.0)]
        [True, True, False, False]
        >>> limit.due, limit.take_left_out(60.0)
        (60.0, [('boom', 2)])
    """

    __slots__ = ("_ended", "_kinds", "_most", "_seconds", "_windows", "due")

    def __init__(self, most: int = 10, seconds: float = 60.0, kinds: int = 256) -> None:
        self._most, self._seconds, self._kinds = most, seconds, kinds
        self._windows: dict[str, _Window] = {}
        self._ended: list[tuple[str, int]] = []  # counts of windows that are over
        self.due = NEVER

    def admits(self, kind: str, now: float) -> bool:
        """Return whether to log a failure of this kind now; otherwise count it."""
        window = self._window(kind, now)
        if window.count < self._most:
            window.count += 1
            return True
        window.left_out += 1
        self.due = min(self.due, window.until)
        return False

    def _window(self, kind: str, now: float) -> _Window:
        window = self._windows.get(kind)
        if window is not None and now < window.until:
            return window
        self._end_windows(now)
        if len(self._windows) >= self._kinds:
            kind = OTHERS
            if kind in self._windows:
                return self._windows[kind]
        window = self._windows[kind] = _Window(now + self._seconds)
        return window

    def _end_windows(self, now: float) -> None:
        for kind, window in list(self._windows.items()):
            if now >= window.until:
                del self._windows[kind]
                if window.left_out:
                    self._ended.append((kind, window.left_out))

    def take_left_out(self, now: float) -> list[tuple[str, int]]:
        """Return the failures left out in windows that are over: each kind and how often."""
        self._end_windows(now)
        ended, self._ended = self._ended, []
        open_ones = [one.until for one in self._windows.values() if one.left_out]
        self.due = min(open_ones, default=NEVER)
        return ended
