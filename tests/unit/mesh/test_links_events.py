"""What a core asks of its shell, and what its links tell it."""

from __future__ import annotations

from mesh.links.events import (
    Delivery,
    Dial,
    HangUp,
    Identity,
    MessageRefused,
    Send,
    SessionLost,
    SessionStarted,
)
from mesh.links.session import Session
from mesh.protocol.messages import Cancel, Role


def test_instructions_unpack_into_what_a_network_is_called_with() -> None:
    assert tuple(Send(-1, [b"x"])) == (-1, [b"x"])
    assert tuple(Dial(-1, "tcp://10.0.0.7:7000")) == (-1, "tcp://10.0.0.7:7000")
    assert tuple(HangUp(3)) == (3,)


def test_news_and_deliveries_name_their_session() -> None:
    session = Session(1, 2, Role.REPLICA, 0)
    cancel = Cancel(1, [1])
    told = [
        SessionStarted(session, True),
        SessionLost(session, "gone"),
        MessageRefused(session, cancel, "illegible"),
    ]
    assert all(news.session is session for news in told)
    assert tuple(Delivery(session, [cancel], None)) == (session, [cancel], None)


def test_an_identity_needs_little() -> None:
    identity = Identity(7, Role.CLIENT)
    assert (identity.mesh, identity.stage, identity.feed) == ("mesh", None, "")
    assert identity.pool > 0
