"""A supervisor tells the gateways of deaths: those that are there, and those that come."""

from __future__ import annotations

from mesh.links.events import Delivery, Dial, Identity, SessionLost, SessionStarted
from mesh.links.links import Links
from mesh.links.session import Session
from mesh.protocol.messages import Death, Role
from mesh.supervision.death_notices import MAX_DEATHS, NOTICE_LIFETIME_S, DeathNotices


def a_death_notices() -> DeathNotices:
    return DeathNotices(Links(Identity(1, Role.SUPERVISOR), lambda: 0.5))


def met(
    death_notices: DeathNotices, peer: int, role: Role = Role.GATEWAY, now: float = 0.0
) -> Session:
    session = Session(1, peer, role, 100)
    session.link = peer
    death_notices.links.sessions[peer] = session
    death_notices.handle_news(SessionStarted(session, False), now)
    return session


def death(incarnation: int) -> Death:
    return Death(incarnation, "a", 9, 0, [(7, 1)])


def test_it_dials_the_gateways() -> None:
    death_notices = a_death_notices()
    death_notices.dial(["tcp://g:1"], 0.0)
    death_notices.links.tick(0.0)
    assert death_notices.links.take() == [Dial(-1, "tcp://g:1")]
    assert death_notices.next_due() == float("inf")


def test_every_gateway_is_told_of_a_death() -> None:
    death_notices = a_death_notices()
    gateways, other = (
        [met(death_notices, 2), met(death_notices, 3)],
        met(death_notices, 4, Role.REPLICA),
    )
    death_notices.died(death(11), 0.0)
    for gateway in gateways:
        assert gateway.stream.pending() == [death(11)]
    assert other.stream.pending() == []


def test_a_gateway_that_comes_is_told_what_is_still_news() -> None:
    death_notices = a_death_notices()
    death_notices.died(death(11), 0.0)
    death_notices.died(death(12), NOTICE_LIFETIME_S / 2)
    gateway = met(death_notices, 2, now=NOTICE_LIFETIME_S)
    assert gateway.stream.pending() == [death(12)]
    death_notices.handle_news(
        SessionStarted(gateway, True), NOTICE_LIFETIME_S
    )  # resumed: it has what it was told
    death_notices.handle_news(SessionLost(gateway, "gone"), NOTICE_LIFETIME_S)
    death_notices.delivered(Delivery(gateway, (), None), NOTICE_LIFETIME_S)
    assert gateway.stream.pending() == [death(12)]
    death_notices.advance(2 * NOTICE_LIFETIME_S)
    assert met(death_notices, 3, now=2 * NOTICE_LIFETIME_S).stream.pending() == []


def test_the_deaths_that_are_remembered_are_few() -> None:
    death_notices = a_death_notices()
    for incarnation in range(2 * MAX_DEATHS):
        death_notices.died(death(incarnation), 0.0)
    assert len(met(death_notices, 2).stream.pending()) == MAX_DEATHS
