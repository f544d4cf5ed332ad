"""Which revisions the routes led through, and which of them went while they did. Pure.

A later version takes the routes over when all of it stands. Whoever may start replicas of a stage
may so take all requests, and vanish: then the routes go back where a former one still stands. One
that vanished has to stand for a growing time before the routes lead there again.
"""

from __future__ import annotations

from typing import Final, NamedTuple

MAX_FORMER: Final = 4  # revisions that the routes may go back to
MAX_FALLEN: Final = 64  # revisions of which it is remembered that they went
FIRST_PAUSE_S: Final = 2.0  # for which one that went is not followed; doubled each time
MAX_PAUSE_S: Final = 60.0


class Release(NamedTuple):
    """A revision, and what its users call it."""

    version: str
    revision: str


class Releases:
    """The history of where the routes led.

    Attributes:
        former: where they led before and may lead again, the last one last.

    Example:
        >>> releases = Releases()
        >>> releases.moved(Release("1", "r1"), Release("2", "r2"))
        >>> releases.former
        [Release(version='1', revision='r1')]
    """

    __slots__ = ("_fallen", "former")

    def __init__(self) -> None:
        self.former: list[Release] = []
        self._fallen: dict[str, tuple[int, float]] = {}  # times, and until when it is not followed

    def moved(self, here: Release, there: Release) -> None:
        """The routes lead elsewhere from now on; they may come back to where they led."""
        left = [one for one in self.former if one.revision not in (here.revision, there.revision)]
        self.former = [*left, here][-MAX_FORMER:]

    def went_back(self, fallen: Release, there: Release, now: float) -> None:
        """The routes lead where they did before, since this revision went."""
        self.former = [one for one in self.former if one.revision != there.revision]
        times, _ = self._fallen.pop(fallen.revision, (0, 0.0))
        pause = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(times, 16))
        self._fallen[fallen.revision] = times + 1, now + pause
        if len(self._fallen) > MAX_FALLEN:
            del self._fallen[next(iter(self._fallen))]

    def is_former(self, revision: str) -> bool:
        """Whether the routes may go back to it."""
        return any(one.revision == revision for one in self.former)

    def may_lead(self, revision: str, now: float) -> bool:
        """Whether the routes may lead through it; not, for a while, where it went."""
        return revision not in self._fallen or now >= self._fallen[revision][1]
