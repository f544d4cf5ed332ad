"""What is said of handshakes that fail for their keys."""

from __future__ import annotations

import pytest

from mesh.transport.handshake_log import CRYPTOGRAPHIC, OTHER_MECHANISM, HandshakeLog

HERE = "tcp://10.0.0.5:7000"


@pytest.mark.parametrize(
    ("keyed", "failure", "said"),
    [
        (True, CRYPTOGRAPHIC, "a process that expects another key than ours"),
        (True, OTHER_MECHANISM, "a process without keys"),
        (False, OTHER_MECHANISM, "a process with keys, but this process has none"),
    ],
)
def test_what_does_not_fit(
    caplog: pytest.LogCaptureFixture, keyed: bool, failure: int, said: str
) -> None:
    HandshakeLog(keyed).record(HERE, failure)
    assert caplog.messages[0].startswith(f"refused at {HERE}: {said}")


def test_what_is_no_matter_of_keys_is_not_said(caplog: pytest.LogCaptureFixture) -> None:
    HandshakeLog(keyed=True).record(HERE, 0x10000000)
    assert caplog.messages == []


def test_ten_lines_a_minute_and_then_their_number(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log = HandshakeLog(keyed=True, clock=lambda: now[0])
    for _ in range(50):
        log.record(HERE, CRYPTOGRAPHIC)
    assert len(caplog.messages) == 10
    now[0] = 61.0
    log.record(HERE, OTHER_MECHANISM)
    assert caplog.messages[10].startswith(f"and 40 more: refused at {HERE}: a process that expects")
    assert len(caplog.messages) == 12
