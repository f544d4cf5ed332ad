"""A line for each session that a broken rule has cost."""

from __future__ import annotations

import pytest

from mesh.links.events import Stranger
from mesh.links.expulsions import ExpulsionLog
from mesh.links.session import Session
from mesh.protocol.messages import Role


@pytest.fixture
def session() -> Session:
    made = Session(1, 0xBEE, Role.REPLICA, 0)
    made.host, made.pid = "gpu-1", 812
    return made


def test_a_line_says_who_and_why(session: Session, caplog: pytest.LogCaptureFixture) -> None:
    log = ExpulsionLog(lambda: 5.0)
    log.record(session, "it may not say CANCEL", None)
    log.record(None, "it could not be handled: KeyError", KeyError("x"))
    log.record(Stranger(0xBAD, Role.CLIENT, "h", 5), "batch is 0", None)
    assert caplog.messages == [
        "expelled replica 0000000000000bee (gpu-1, pid 812): it may not say CANCEL",
        "expelled an unknown process: it could not be handled: KeyError",
        "expelled client 0000000000000bad (h, pid 5): batch is 0",
    ]
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR", "WARNING"]
    assert caplog.records[1].exc_info


def test_of_many_there_are_ten_a_minute(session: Session, caplog: pytest.LogCaptureFixture) -> None:
    now = [5.0]
    log = ExpulsionLog(lambda: now[0])
    for number in range(500):
        log.record(session, f"{number} addresses are more than 512", None)
    assert len(caplog.messages) == 10
    now[0] = 66.0
    log.record(session, "600 addresses are more than 512", None)
    assert caplog.messages[10:] == [
        "and 490 more: expelled replica: N addresses are more than N",
        "expelled replica 0000000000000bee (gpu-1, pid 812): 600 addresses are more than 512",
    ]
