from gateway.web import headers
from gateway.web.exchange import AnyInference, BrowserExchange, Exchange, RefusedRequest
from gateway.web.http_request import CLOSE, KEEP, HttpRequest, ResponseWriter, with_connection
from gateway.web.limits import Limits
from mesh.protocol.messages import Buffer


class Way:
    endpoint = "/echo"
    wants_meta = False

    def hold(self, nbytes: int) -> None:
        """Nobody is charged."""


class Sink:
    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, piece: Buffer, /) -> None:
        self.written.append(bytes(piece))

    def abort(self) -> None:
        raise AssertionError("nobody aborts here")


class Taker:
    def __init__(self) -> None:
        self.routes = {b"/a": Way()}
        self.taken: list[Exchange] = []
        self.left: list[Exchange] = []

    def admit(self, exchange: Exchange, nbytes: int) -> bytes | None:
        return b"%d is too much" % nbytes

    def submit(self, exchange: Exchange) -> None:
        self.taken.append(exchange)

    def gone(self, exchange: Exchange) -> None:
        self.left.append(exchange)


class OneLink:
    """As much of a connection as an exchange needs."""

    def __init__(self) -> None:
        self.pending: list[HttpRequest] = []
        self.special = False
        self.taker = Taker()
        self.inference: AnyInference = self.taker
        self.sink = Sink()
        self.released = 0

    @property
    def transport(self) -> ResponseWriter:
        return self.sink

    def release(self) -> None:
        self.released += 1

    def exchange(self, connection: bytes = b"") -> Exchange:
        made = Exchange(self, Way(), b"/a", 1.0, connection)
        self.pending.append(made)
        return made


ANSWER = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n"


def test_the_only_pending_exchange_writes_at_once() -> None:
    link = OneLink()
    link.exchange().respond(ANSWER + b"ok")
    assert link.sink.written == [ANSWER + b"ok"]
    assert link.pending == []
    assert link.released == 0


def test_any_other_answer_waits_for_release() -> None:
    link = OneLink()
    first, second = link.exchange(), link.exchange()
    second.respond(ANSWER, b"ok")
    assert link.released == 1
    assert link.sink.written == []
    assert not first.flush(link.sink)
    assert second.flush(link.sink)
    assert link.sink.written == [ANSWER, b"ok"]
    second.writable()
    assert link.sink.written == [ANSWER, b"ok"]


def test_on_a_special_link_every_answer_goes_through_release() -> None:
    link = OneLink()
    link.special = True
    link.exchange().respond(ANSWER + b"ok")
    assert (link.released, link.sink.written) == (1, [])


def test_the_connection_header_is_added_where_it_must_be() -> None:
    link = OneLink()
    for connection in (CLOSE, KEEP):
        exchange = link.exchange(connection)
        exchange.respond(ANSWER + b"ok")
        exchange.flush(link.sink)
        assert link.sink.written.pop() == with_connection(ANSWER + b"ok", connection)
        assert exchange.keep_alive is (connection is KEEP)


def test_it_hears_what_a_client_says_of_its_request() -> None:
    exchange = OneLink().exchange()
    trace = b"00-" + b"a1" * 16 + b"-" + b"b2" * 8 + b"-01"
    exchange.take_header(headers.REQUEST_ID, b"mine")
    exchange.take_header(headers.TRACEPARENT, trace)
    exchange.take_header(headers.TIMEOUT, b"250ms")
    exchange.take_header(headers.PRIORITY, b"high")
    assert (exchange.request_id, exchange.traceparent) == (b"mine", trace.decode())
    assert (exchange.timeout, exchange.priority, exchange.fault) == (0.25, 1, None)
    exchange.take_header(headers.PRIORITY, b"urgent")
    assert exchange.fault is not None
    assert exchange.fault[0] == "bad_request"
    assert "urgent" in exchange.fault[1]
    exchange.take_header(headers.REQUEST_ID, b"not fit")
    assert exchange.request_id is None


def test_a_second_answer_is_ignored() -> None:
    link = OneLink()
    exchange = link.exchange()
    exchange.respond(ANSWER + b"ok")
    exchange.respond(ANSWER + b"no")
    assert link.sink.written == [ANSWER + b"ok"]


def test_it_knows_what_it_answered() -> None:
    link = OneLink()
    exchange = link.exchange(CLOSE)
    assert exchange.status == 0
    assert exchange.sent == 0
    exchange.respond(ANSWER, b"ok")
    assert exchange.status == 202
    assert exchange.sent == len(ANSWER) + 2
    other = link.exchange(CLOSE)
    other.respond(ANSWER)
    assert other.sent == len(ANSWER)


def test_a_lost_exchange_is_reported_once_and_answered_never() -> None:
    link = OneLink()
    exchange = link.exchange()
    exchange.start()
    assert link.taker.taken == [exchange]
    exchange.lost()
    exchange.lost()
    assert exchange.gone
    assert link.taker.left == [exchange]
    exchange.respond(ANSWER)
    exchange.start()
    assert link.sink.written == []
    assert link.taker.taken == [exchange]


def test_an_answered_exchange_that_is_lost_is_over_already() -> None:
    link = OneLink()
    link.special = True
    exchange = link.exchange()
    exchange.respond(ANSWER)
    exchange.lost()
    assert link.taker.left == []


def test_it_shows_how_far_it_is() -> None:
    link = OneLink()
    first, second = link.exchange(), link.exchange()
    assert repr(first) == "<Exchange b'/a' 0 bytes, open>"
    first.respond(ANSWER)
    assert repr(first) == "<Exchange b'/a' 0 bytes, answered>"
    second.lost()
    assert repr(second) == "<Exchange b'/a' 0 bytes, gone>"


def test_limits_have_safe_defaults() -> None:
    limits = Limits()
    assert (limits.max_header, limits.pipelined, limits.linger) == (64 * 1024, 16, 2.0)


def test_it_hears_of_codings() -> None:
    exchange = OneLink().exchange()
    assert exchange.codings is None
    exchange.take_header(headers.WANTED, b"gzip;q=0.5, br")
    exchange.take_header(headers.CODING, b"zstd")
    exchange.take_header(headers.CODING, b"identity")
    assert exchange.codings == ("zstd", "gzip")
    assert exchange.fault is None
    exchange.take_header(headers.CODING, b"gzip")
    assert exchange.fault is not None
    assert exchange.fault[0] == "unsupported_encoding"
    assert "several" in exchange.fault[1]


def test_where_no_coding_is_spoken_it_may_only_be_none() -> None:
    exchange = OneLink().exchange()
    exchange.take_header(headers.UNREAD, b"identity")
    assert exchange.fault is None
    for value, why in ((b"gzip", "off here"), (b"br", "Content-Encoding is 'br'")):
        exchange.take_header(headers.UNREAD, value)
        assert exchange.fault is not None
        assert why in exchange.fault[1]


def test_whether_there_is_room_is_the_inferences_word() -> None:
    exchange = OneLink().exchange()
    assert exchange.admit(7) == b"7 is too much"
    exchange.lost()
    assert exchange.admit(7) is None


def test_a_refusal_is_of_whatever_was_asked() -> None:
    link = OneLink()
    assert link.exchange().method == b"POST"
    refusal = RefusedRequest(link, None, b"/b", 2.0, CLOSE, asked_method=b"PUT")
    assert (refusal.method, refusal.target, refusal.arrived) == (b"PUT", b"/b", 2.0)
    assert not refusal.keep_alive


def test_headers_of_the_answer_can_be_looked_up() -> None:
    link = OneLink()
    link.special = True
    exchange = link.exchange()
    assert exchange.sent_header(b"X-Request-ID") == b""
    exchange.respond(b"HTTP/1.1 202 Accepted\r\nX-Request-ID: a-1\r\n\r\n\r\nX-Body: 5\r\n")
    assert exchange.sent_header(b"X-Request-ID") == b"a-1"
    assert exchange.sent_header(b"X-Body") == b""


def test_the_answer_to_a_browser_bears_its_lines() -> None:
    link = OneLink()
    exchange = BrowserExchange(link, Way(), b"/echo", 0.0, lines=b"Vary: Origin\r\n")
    link.pending.append(exchange)
    exchange.respond(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", b"body")
    assert link.released == 1
    assert exchange.flush(link.sink)
    assert link.sink.written == [b"HTTP/1.1 200 OK\r\nVary: Origin\r\nA: b\r\n\r\n", b"body"]
