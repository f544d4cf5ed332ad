"""The supervisor's seat in the mesh: it tells the gateways who died, and of what. Pure.

A gateway learns of a death from here within milliseconds, and only from here which requests were
being computed. One that is not connected just then is told when it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from mesh.links.events import Delivery, News, SessionStarted
from mesh.links.links import Links
from mesh.protocol.messages import Death, Role

NOTICE_LIFETIME_S = 30.0  # seconds for which a death is news
MAX_DEATHS = 256  # deaths that are remembered


class DeathNotices:
    """Tells of deaths.

    Args:
        links: of this process, whose role is supervisor.
    """

    def __init__(self, links: Links) -> None:
        self.links = links
        self._recent: deque[tuple[float, Death]] = deque(maxlen=MAX_DEATHS)

    def dial(self, gateways: Iterable[str], now: float) -> None:
        """These are all the gateways."""
        self.links.dial(gateways, now)

    def died(self, death_notice: Death, now: float) -> None:
        """A process ended: tell every gateway."""
        self._recent.append((now, death_notice))
        for session in self.links.sessions.values():
            if session.role is Role.GATEWAY:
                session.stream.post(death_notice)
                self.links.touch(session)

    def delivered(self, delivery: Delivery, now: float) -> None:
        """A gateway says nothing that matters here."""

    def handle_news(self, news: News, now: float) -> None:
        """A gateway that we did not know hears of the recent deaths."""
        if (
            isinstance(news, SessionStarted)
            and not news.resumed
            and news.session.role is Role.GATEWAY
        ):
            for at, death_notice in self._recent:
                if now - at < NOTICE_LIFETIME_S:
                    news.session.stream.post(death_notice)
            self.links.touch(news.session)

    def advance(self, now: float) -> None:
        """Forget what is no news any more."""
        while self._recent and now - self._recent[0][0] >= NOTICE_LIFETIME_S:
            self._recent.popleft()

    def next_due(self) -> float:
        """Nothing is due by itself."""
        return float("inf")
