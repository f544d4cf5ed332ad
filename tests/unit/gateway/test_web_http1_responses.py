import asyncio
import json

import pytest
from http_fakes import (
    FakeTransport,
    Inference,
    Pages,
    chunked,
    connect,
    echo,
    post,
    shared,
    statuses,
    turned,
)

from gateway.web import responses as answers
from gateway.web.exchange import Limits, Turn
from gateway.web.http1 import Connection
from mesh.errors import ServerError

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
    wait(connection, 1.0)
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
    for unsent in (3_000_000, 2_500_000, 2_000_000):
        transport.unsent = unsent
        wait(connection, 25)
        assert not transport.aborted
    wait(connection, 30)
    assert transport.aborted


def hold(connection: Connection, transport: FakeTransport, unsent: int) -> None:
    """The client does not take so much of what was written."""
    transport.unsent = unsent
    connection.pause_writing()


def test_answers_that_are_not_taken_are_charged_to_their_route_until_they_are() -> None:
    connection, transport, inference = serve()
    way = inference.routes[b"/inference"]
    connection.data_received(post(b"1") * 3)
    inference.taken[0].respond(answers.result(b"id", b"a/b", b"", bytes(100)), None)
    assert way.held == 0
    hold(connection, transport, 70_000)
    echo(inference.taken[2])
    echo(inference.taken[1])
    waiting = sum(turn.sent for turn in connection.pending)
    assert way.held == connection._shared.unread.nbytes == 70_000 + waiting
    transport.unsent = 30_000
    wait(connection, 0.5)
    assert way.held == 30_000 + waiting
    transport.unsent = 0
    connection.resume_writing()
    assert (way.held, connection._shared.unread.nbytes) == (0, 0)
    assert statuses(transport.take()) == [200, 200, 200]


def test_an_answer_behind_one_that_is_not_ready_is_charged_and_nobody_is_blamed() -> None:
    connection, transport, inference = serve()
    connection.data_received(post(b"1") * 2)
    echo(inference.taken[1])
    assert inference.routes[b"/inference"].held == connection.pending[1].sent
    wait(connection, 120)
    assert not transport.aborted
    echo(inference.taken[0])
    assert inference.routes[b"/inference"].held == 0


def test_what_a_connection_holds_is_let_go_of_when_it_ends() -> None:
    connection, transport, inference = serve()
    connection.data_received(post(b"1") * 2)
    hold(connection, transport, 70_000)
    echo(inference.taken[0])
    assert inference.routes[b"/inference"].held > 0
    connection.connection_lost(None)
    assert (inference.routes[b"/inference"].held, connection._shared.unread.nbytes) == (0, 0)


def test_a_client_that_trickles_its_answer_away_is_cut_off() -> None:
    connection, transport, _ = serve()
    dropped: list[str] = []
    connection._shared.dropped = dropped.append
    hold(connection, transport, 1_000_000)
    for _ in range(61):
        transport.unsent -= 100
        wait(connection, 0.5)
    assert (transport.aborted, dropped) == (True, ["slow_reader"])


def test_what_chokes_nobody_and_is_not_taken_is_charged_as_well() -> None:
    connection, transport, inference = serve()
    unread, dropped = connection._shared.unread, []
    connection._shared.dropped = dropped.append
    for _ in range(2):
        connection.data_received(post(b"1"))
        transport.unsent += 10_000  # the answer; less than what makes a transport pause
        echo(inference.taken[-1])
        wait(connection, 0.5)
        assert unread.nbytes == transport.unsent
    transport.unsent = 5_000  # it takes some
    wait(connection, 29.5)
    assert (unread.nbytes, transport.aborted) == (5_000, False)
    wait(connection, 2)
    assert (unread.nbytes, transport.aborted, dropped) == (0, True, ["slow_reader"])


def test_who_takes_it_a_little_later_is_not_charged_any_more() -> None:
    connection, transport, inference = serve()
    transport.unsent = 10_000
    wait(connection, 20)
    transport.unsent = 0
    wait(connection, 0.5)
    assert (connection._shared.unread.nbytes, connection._account) == (0, None)
    for _ in range(300):  # a busy client, of which something is always under way
        transport.unsent = 30_000 - transport.unsent or 20_000
        connection.data_received(post(b"1") * 2)
        for exchange in inference.taken[-2:]:
            echo(exchange)
        wait(connection, 0.5)
    assert not transport.aborted


def test_heads_that_are_not_complete_have_so_much_room_together() -> None:
    common = shared(Inference(), Limits(head_bytes=1000))
    half = b"POST /inference HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 361  # 400 bytes
    first, second, third = (connect(common) for _ in range(3))
    for connection, _ in (first, second, third):
        connection.data_received(half)
    assert code(third[1].take()) == "overloaded"
    first[0].connection_lost(None)
    second[0].data_received(b"\r\nContent-Length: 0\r\n\r\n")
    assert common.heads.take(1000)


# ---- how much is read


@turned
async def test_no_more_is_read_while_much_is_pending() -> None:
    connection, transport, inference = serve()
    connection.data_received(post(b"1") * 16)
    assert transport.reading
    connection.data_received(post(b"1") * 2)
    assert len(inference.taken) == 17
    assert not transport.reading
    for exchange in inference.taken[:8]:
        echo(exchange)
    await asyncio.sleep(0)
    assert not transport.reading
    echo(inference.taken[8])
    await asyncio.sleep(0)
    assert len(inference.taken) == 18
    assert not transport.reading
    echo(inference.taken[9])
    assert transport.reading


@turned
async def test_however_many_come_in_one_piece_few_are_pending() -> None:
    connection, transport, inference = serve()
    bodies = [b"%d" % number for number in range(1000)]
    connection.data_received(b"".join(map(post, bodies)))
    for number in range(1000):
        assert len(connection.pending) <= 17
        assert not transport.reading or number > 980
        echo(inference.taken[number])
        await asyncio.sleep(0)
    assert inference.bodies == bodies
    assert statuses(transport.take()) == [200] * 1000
    assert transport.reading


@turned
async def test_others_have_their_turn_while_many_are_answered_at_once() -> None:
    connection, transport, inference = serve()
    inference.at_once = True
    connection.data_received(post(b"1") * 500)
    turns = 0
    while len(inference.taken) < 500:
        turns += 1
        await asyncio.sleep(0)
    assert turns > 10
    assert transport.reading
    assert statuses(transport.take()) == [200] * 500


@turned
async def test_pages_are_made_one_at_a_turn() -> None:
    connection, transport, _ = serve()
    connection.data_received(b"GET /page HTTP/1.1\r\nHost: h\r\n\r\n" * 50)
    for number in range(1, 51):
        assert len(statuses(transport.written)) <= number
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert statuses(transport.take()) == [200] * 50


@turned
async def test_what_is_kept_is_dropped_when_the_connection_ends() -> None:
    for end in (
        lambda connection: connection.connection_lost(None),
        lambda connection: connection.eof_received(),
        lambda connection: connection.retire(),
    ):
        connection, transport, inference = serve()
        connection.data_received(post(b"1") * 40)
        end(connection)
        for exchange in list(inference.taken):
            echo(exchange)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(inference.taken) == 16
        assert len(statuses(transport.take())) in (0, 16)


@turned
async def test_a_page_that_cannot_begin_costs_itself_and_what_follows() -> None:
    seen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, what: seen.append(what))

    def fail(page: object, headers: object) -> None:
        raise ServerError("a mistake of ours")

    inference = Inference()
    connection, transport = connect(shared(inference, LIMITS, Pages(fail)))
    page = b"GET /page HTTP/1.1\r\nHost: h\r\n\r\n"
    connection.data_received(post(b"1") + page + post(b"2"))
    echo(inference.taken[1])
    echo(inference.taken[0])
    await asyncio.sleep(0)
    assert statuses(transport.take()) == [200, 500]
    assert transport.ended
    assert len(seen) == 1


# ---- a client that does not read


def choking(connection: Connection, transport: FakeTransport, limit: int) -> None:
    """The transport takes so many bytes, then tells the connection to stop."""
    write = transport.write

    def full(piece: bytes) -> None:
        write(piece)
        if len(transport.written) >= limit and not connection.choked:
            connection.pause_writing()

    transport.write = full  # type: ignore[method-assign]


@turned
async def test_of_what_is_ready_no_more_is_written_than_the_client_takes() -> None:
    connection, transport, inference = serve()
    choking(connection, transport, 100_000)
    connection.data_received(post(b"x" * 50_000) * 12)
    for exchange in reversed(inference.taken):
        echo(exchange)
    assert len(statuses(transport.written)) == 2
    taken = len(inference.taken)
    assert taken < 20
    for _ in range(6):
        transport.take()
        connection.resume_writing()
        await asyncio.sleep(0)
        assert len(statuses(transport.written)) <= 2
    assert len(inference.taken) == 12


@turned
async def test_for_a_client_that_does_not_read_nothing_more_is_begun() -> None:
    connection, transport, inference = serve()
    inference.at_once = True
    choking(connection, transport, 1000)
    connection.data_received(post(b"x" * 400) * 200)
    for _ in range(10):
        await asyncio.sleep(0)
    begun = len(inference.taken)
    assert begun <= 4
    transport.take()
    connection.resume_writing()
    await asyncio.sleep(0)
    assert begun < len(inference.taken) <= begun + 4
    assert not transport.reading


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


@turned
async def test_reading_goes_on_to_throw_away_what_a_refused_client_sends() -> None:
    connection, transport, inference = serve()
    connection.data_received(post(b"1") * 17 + b"nonsense\r\n\r\n")
    assert not transport.reading
    for exchange in list(inference.taken):
        echo(exchange)
    await asyncio.sleep(0)
    echo(inference.taken[16])
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

    def access(turn: Turn, client: str, status: int = 0) -> None:
        assert client == "192.0.2.7"
        logged.append((turn.method, turn.target, status or turn.status))

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


def test_what_its_client_gave_up_is_logged_as_such() -> None:
    logged: list[tuple[bytes, int]] = []

    def access(turn: Turn, client: str, status: int = 0) -> None:
        logged.append((turn.target, status or turn.status))

    connection, _ = connect(shared(Inference(), access=access))
    connection.data_received(post(b"1") + post(b"2"))
    connection.connection_lost(None)
    assert logged == [(b"/inference", 499), (b"/inference", 499)]


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


def test_refusals_are_logged_for_what_they_refuse() -> None:
    logged: list[tuple[bytes, bytes, int]] = []
    requests = {
        b"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n": (b"PUT", b"/a", 413),
        b"PUT /page HTTP/1.1\r\n\r\n": (b"PUT", b"/page", 400),
        b"GET /a HTTP/1.1\r\nX: " + b"x" * 70_000: (b"GET", b"/a", 431),
        b"nonsense\r\n\r\n": (b"", b"", 400),
        post(b"1") + b"nonsense\r\n\r\n": (b"", b"", 400),
    }
    for request, expected in requests.items():
        inference = Inference(at_once=True)
        common = shared(
            inference, access=lambda t, _: logged.append((t.method, t.target, t.status))
        )
        connection, _ = connect(common)
        connection.data_received(request[:40])
        connection.data_received(request[40:])
        for _ in range(20 if expected[2] == 431 else 0):
            connection.data_received(b"x" * 10_000)
        assert logged[-1] == expected


def test_a_refused_client_that_goes_on_sending_has_longer_but_not_for_ever() -> None:
    connection, transport, _ = serve()
    connection.data_received(b"nonsense\r\n\r\n")
    for _ in range(29):
        connection.data_received(b"still sending")
        wait(connection, 1.0)
        assert not transport.aborted
    connection.data_received(b"still sending")
    wait(connection, 1.0)
    assert transport.aborted


def test_one_that_retires_has_not() -> None:
    connection, transport, _ = serve()
    connection.data_received(b"nonsense\r\n\r\n")
    connection.retire()
    for _ in range(2):
        connection.data_received(b"still sending")
        wait(connection, 1.0)
    assert transport.aborted
