import asyncio
import json

import pytest
from http_fakes import FakeTransport, Inference, chunked, connect, echo, post, shared, statuses

from gateway.exchange import Limits, Turn
from gateway.http1 import Connection

LIMITS = Limits(
    max_body=1_000_000,
    idle_timeout=60.0,
    header_timeout=10.0,
    body_timeout=20.0,
    write_timeout=30.0,
    linger=2.0,
)


def serve(limits: Limits = LIMITS) -> tuple[Connection, FakeTransport, Inference]:
    inference = Inference()
    connection, transport = connect(shared(inference, limits))
    return connection, transport, inference


def wait(connection: Connection, seconds: float) -> None:
    """Let time pass, as the sweep tells it."""
    for _ in range(int(seconds * 2)):
        connection.tick(0.5)


def code(written: bytes) -> str:
    found: str = json.loads(written.partition(b"\r\n\r\n")[2])["error"]["code"]
    return found


# ---- time


def test_an_idle_connection_is_closed_in_the_end() -> None:
    connection, transport, inference = serve()
    wait(connection, 59)
    connection.data_received(post(b"1"))
    echo(inference.taken[0])
    wait(connection, 59)
    assert not transport.closed
    wait(connection, 1)
    assert transport.closed
    assert statuses(transport.take()) == [200]


def test_a_known_head_starts_the_idle_time_again() -> None:
    connection, transport, inference = serve()
    for _ in range(3):
        connection.data_received(post(b"1"))
        echo(inference.taken[-1])
        wait(connection, 40)
    assert not transport.closed


def test_waiting_for_our_answer_is_not_idle() -> None:
    connection, transport, inference = serve()
    connection.data_received(post(b"1"))
    wait(connection, 200)
    assert not transport.closed
    echo(inference.taken[0])
    wait(connection, 59)
    assert not transport.closed


def test_a_head_that_trickles_in_is_refused() -> None:
    connection, transport, _ = serve()
    for byte in post(b"1")[:20]:
        connection.data_received(bytes([byte]))
        wait(connection, 0.5)
    assert statuses(transport.written) == [408]
    assert code(transport.take()) == "request_timeout"
    assert transport.ended


def test_a_body_that_does_not_come_is_refused() -> None:
    connection, transport, _ = serve()
    connection.data_received(post(b"12345")[:-3])
    wait(connection, 19.5)
    assert transport.written == b""
    wait(connection, 0.5)
    assert code(transport.take()) == "request_timeout"


def test_a_body_that_makes_way_is_given_more_time() -> None:
    connection, transport, inference = serve()
    connection.data_received(chunked(end=b""))
    for _ in range(10):
        connection.data_received(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        wait(connection, 4)
    assert transport.written == b""
    connection.data_received(b"0\r\n\r\n")
    assert len(inference.bodies[0]) == 10 * 65536


def test_a_refused_client_may_read_its_answer_for_a_while() -> None:
    connection, transport, _ = serve()
    connection.data_received(b"nonsense\r\n\r\n")
    assert (transport.ended, transport.closed) == (True, False)
    for _ in range(3):
        connection.data_received(b"still sending")
        wait(connection, 0.5)
    assert not transport.aborted
    wait(connection, 0.5)
    assert transport.aborted


def test_a_transport_that_cannot_half_close_is_closed() -> None:
    connection, transport, _ = serve()
    transport.can_write_eof = lambda: False  # type: ignore[method-assign]
    connection.data_received(b"nonsense\r\n\r\n")
    assert (transport.ended, transport.closed) == (False, True)


def test_a_close_that_does_not_end_is_an_abort() -> None:
    connection, transport, _ = serve()
    wait(connection, 60)
    assert (transport.closed, transport.aborted) == (True, False)
    wait(connection, 30)
    assert transport.aborted


def test_a_client_that_takes_nothing_is_cut_off() -> None:
    connection, transport, inference = serve()
    connection.data_received(post(b"1"))
    connection.pause_writing()
    echo(inference.taken[0])
    for unsent in (300_000, 200_000, 100_000):
        transport.unsent = unsent
        wait(connection, 29.5)
        assert not transport.aborted
    wait(connection, 30)
    assert transport.aborted


# ---- how much is read


def test_no_more_is_read_while_much_is_pending() -> None:
    connection, transport, inference = serve()
    connection.data_received(post(b"1") * 16)
    assert transport.reading
    connection.data_received(post(b"1") * 2)
    assert not transport.reading
    for exchange in inference.taken[:9]:
        echo(exchange)
    assert not transport.reading
    echo(inference.taken[9])
    assert transport.reading


def test_bytes_count_as_well() -> None:
    connection, transport, inference = serve()
    connection.data_received(post(b"x" * 600_000))
    connection.data_received(post(b"x" * 600_000))
    assert not transport.reading
    echo(inference.taken[0])
    assert transport.reading


def test_a_client_that_does_not_read_is_not_read_from() -> None:
    connection, transport, inference = serve()
    connection.data_received(post(b"1"))
    connection.pause_writing()
    assert not transport.reading
    echo(inference.taken[0])
    assert not transport.reading
    connection.resume_writing()
    assert transport.reading
    connection.data_received(post(b"2"))
    echo(inference.taken[1])
    assert statuses(transport.take()) == [200, 200]


def test_reading_goes_on_to_throw_away_what_a_refused_client_sends() -> None:
    connection, transport, inference = serve()
    connection.data_received(post(b"1") * 17 + b"nonsense\r\n\r\n")
    assert not transport.reading
    for exchange in inference.taken:
        echo(exchange)
    assert transport.reading
    assert statuses(transport.take()) == [200] * 17 + [400]
    connection.pause_writing()
    assert transport.reading, "what it sends is thrown away: nothing is gained by not reading"


def test_a_closing_transport_is_left_alone() -> None:
    connection, transport, _ = serve()
    transport.close()
    connection.pause_writing()
    assert transport.reading
    connection.abort()
    assert transport.aborted


# ---- the access log


def test_every_answer_is_logged_in_order() -> None:
    logged: list[tuple[bytes, bytes, int]] = []

    def access(turn: Turn) -> None:
        logged.append((turn.method, turn.target, turn.status))

    async def run() -> None:
        inference = Inference(at_once=True)
        connection, _ = connect(shared(inference, access=access))
        connection.data_received(post(b"1") + b"GET /page HTTP/1.1\r\nHost: h\r\n\r\n")
        connection.data_received(post(b"1") + post(b"2", lines="Connection: close\r\n"))

    asyncio.run(run())
    assert logged == [
        (b"POST", b"/inference", 200),
        (b"GET", b"/page", 200),
        (b"POST", b"/inference", 200),
        (b"POST", b"/inference", 200),
    ]


@pytest.mark.parametrize("peer", [("192.0.2.7", 1), "", None])
def test_a_page_knows_who_asks(peer: object) -> None:
    connection, transport, _ = serve()
    transport.get_extra_info = lambda _name, _default=None: peer  # type: ignore[method-assign]
    assert connection.origin.remote_ip == ("192.0.2.7" if peer and peer != "" else "0.0.0.0")
    assert connection.origin.protocol == "http"


def test_what_an_earlier_body_brought_gives_the_next_one_no_time() -> None:
    connection, transport, _ = serve(Limits(max_body=10_000_000, body_timeout=20.0))
    large = post(b"x" * 9_000_000)
    for at in range(0, len(large), 200_000):
        connection.data_received(large[at : at + 200_000])
    echo(connection.pending[0])  # type: ignore[arg-type]
    transport.take()
    connection.data_received(post(b"12345")[:-3])
    wait(connection, 20)
    assert code(transport.take()) == "request_timeout"
