"""The history of the revisions that the routes used, for rolling back. Pure.

The routes switch to a later version as soon as all of its stages have replicas. If replicas of that
version then disappear, the routes switch back to a former version that is still complete. A version
that disappeared is not followed again before a growing pause has passed, so that it cannot make the
routes flap.
"""

from __future__ import annotations

from typing import Final, NamedTuple

MAX_FORMER: Final = 4  # revisions that the routes may switch back to
MAX_FALLEN: Final = 64  # remembered revisions that disappeared
FIRST_PAUSE_S: Final = 2.0  # before a revision that disappeared is followed again; then doubled
MAX_PAUSE_S: Final = 60.0


class Release(NamedTuple):
    """A revision, and the version that its users named."""

    version: str
    revision: str


class Releases:
    """The history of the routes.

    Attributes:
        former: the revisions that the routes may switch back to, the latest last.

    Example:
        >>> releases = Releases()
        >>> releases.moved(Release("1", "r1"), Release("2", "r2"))
        >>> releases.former
        [Release(version='1', revision='r1')]
    """

    __slots__ = ("_fallen", "former")

    def __init__(self) -> None:
        self.former: list[Release] = []
        self._fallen: dict[str, tuple[int, float]] = {}  # how often; until when it is not followed

    def moved(self, here: Release, there: Release) -> None:
        """Record a switch to a later revision; the present one becomes a former one."""
        left = [one for one in self.former if one.revision not in (here.revision, there.revision)]
        self.former = [*left, here][-MAX_FORMER:]

    def went_back(self, fallen: Release, there: Release, now: float) -> None:
        """Record a switch back to a former revision because the present one disappeared."""
        self.former = [one for one in self.former if one.revision != there.revision]
        times, _ = self._fallen.pop(fallen.revision, (0, 0.0))
        pause = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(times, 16))
        self._fallen[fallen.revision] = times + 1, now + pause
        if len(self._fallen) > MAX_FALLEN:
            del self._fallen[next(iter(self._fallen))]

    def is_former(self, revision: str) -> bool:
        """Whether the routes may switch back to this revision."""
        return any(one.revision == revision for one in self.former)

    def may_lead(self, revision: str, now: float) -> bool:
        """Whether the routes may switch to this revision: its pause, if it has one, is over."""
        return revision not in self._fallen or now >= self._fallen[revision][1]
