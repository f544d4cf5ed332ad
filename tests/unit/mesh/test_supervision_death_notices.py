"""A supervisor tells the gateways of deaths: those that are there, and those that come."""

from __future__ import annotations

from mesh.links.events import Delivery, Dial, Identity, Lost, Met
from mesh.links.links import Links
from mesh.links.session import Session
from mesh.protocol.messages import Obituary, Role
from mesh.supervision.death_notices import MEMORY, MOST, Herald


def a_herald() -> Herald:
    return Herald(Links(Identity(1, Role.SUPERVISOR), lambda: 0.5))


def met(herald: Herald, peer: int, role: Role = Role.GATEWAY, now: float = 0.0) -> Session:
    session = Session(1, peer, role, 100)
    session.link = peer
    herald.links.sessions[peer] = session
    herald.told(Met(session, False), now)
    return session


def death(incarnation: int) -> Obituary:
    return Obituary(incarnation, "a", 9, 0, [(7, 1)])


def test_it_dials_the_gateways() -> None:
    herald = a_herald()
    herald.dial(["tcp://g:1"], 0.0)
    herald.links.tick(0.0)
    assert herald.links.take() == [Dial(-1, "tcp://g:1")]
    assert herald.next_due() == float("inf")


def test_every_gateway_is_told_of_a_death() -> None:
    herald = a_herald()
    gateways, other = [met(herald, 2), met(herald, 3)], met(herald, 4, Role.REPLICA)
    herald.died(death(11), 0.0)
    for gateway in gateways:
        assert gateway.pending() == [death(11)]
    assert other.pending() == []


def test_a_gateway_that_comes_is_told_what_is_still_news() -> None:
    herald = a_herald()
    herald.died(death(11), 0.0)
    herald.died(death(12), MEMORY / 2)
    gateway = met(herald, 2, now=MEMORY)
    assert gateway.pending() == [death(12)]
    herald.told(Met(gateway, True), MEMORY)  # resumed: it has what it was told
    herald.told(Lost(gateway, "gone"), MEMORY)
    herald.delivered(Delivery(gateway, (), None), MEMORY)
    assert gateway.pending() == [death(12)]
    herald.advance(2 * MEMORY)
    assert met(herald, 3, now=2 * MEMORY).pending() == []


def test_the_deaths_that_are_remembered_are_few() -> None:
    herald = a_herald()
    for incarnation in range(2 * MOST):
        herald.died(death(incarnation), 0.0)
    assert len(met(herald, 2).pending()) == MOST
