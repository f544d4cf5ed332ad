"""The supervisor's part in the mesh: it reports the deaths of replicas to the gateways. Pure.

A gateway receives the report within milliseconds. Only this report names the requests that the
replica was computing. A gateway that is not connected at that moment gets it when it connects.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from mesh.links.events import Delivery, News, SessionStarted
from mesh.links.links import Links
from mesh.protocol.messages import Death, Role

NOTICE_LIFETIME_S = 30.0  # seconds for which a gateway that connects is still notified of a death
MAX_DEATHS = 256  # deaths that are remembered


class DeathNotices:
    """Notifies the gateways of deaths.

    Args:
        links: the links of this process, whose role is supervisor.
    """

    def __init__(self, links: Links) -> None:
        self.links = links
        self._recent: deque[tuple[float, Death]] = deque(maxlen=MAX_DEATHS)

    def dial(self, gateways: Iterable[str], now: float) -> None:
        """Dial these gateways, and no others."""
        self.links.dial(gateways, now)

    def died(self, death_notice: Death, now: float) -> None:
        """Notify every gateway that a process ended."""
        self._recent.append((now, death_notice))
        for session in self.links.sessions.values():
            if session.role is Role.GATEWAY:
                session.stream.post(death_notice)
                self.links.touch(session)

    def delivered(self, delivery: Delivery, now: float) -> None:
        """Ignore messages: a gateway sends a supervisor nothing that it needs."""

    def handle_news(self, news: News, now: float) -> None:
        """Notify a gateway that has just connected of the recent deaths."""
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
        """Forget deaths that are older than `NOTICE_LIFETIME_S`."""
        while self._recent and now - self._recent[0][0] >= NOTICE_LIFETIME_S:
            self._recent.popleft()

    def next_due(self) -> float:
        """Return infinity: nothing is due by itself."""
        return float("inf")
