"""What an HTTP/1.1 request must look like, and whether there is room for its body.

Between the answering half of a connection (`gateway/web/http1_responses.py`) and the one that reads
it (`gateway/web/http1.py`): nothing here moves a byte. What is not acceptable raises `Refused`.
"""

from __future__ import annotations

from typing import Any, Final

import httptools

from gateway.web import headers
from gateway.web.browser_policy import NotServed, pairs_of, told_by
from gateway.web.exchange import CLOSE, KEEP, Exchange
from gateway.web.http1_responses import Lane, Refused
from gateway.web.server_state import LARGE_BODY_BYTES, ServerState
from gateway.web.tornado_adapter import Page, turn_for
from gateway.web.uploads import client_of
from gateway.web.websocket_stream import WebSocketStream
from mesh.protocol.messages import Buffer

# Bytes by which the room for a body of unknown length grows.
STEP: Final = 64 * 1024
MOST_LINES: Final = 256  # of a head, and of trailers
TOO_MANY: Final = f"there are more than {MOST_LINES} header lines"
TOO_LONG: Final = "request line and headers are too long"


class Vetting(Lane):
    """A connection that can tell what it is asked for."""

    __slots__ = (
        "_admitted",
        "_client",
        "_declared",
        "_exchange",
        "_head",
        "_heading",
        "_lines",
        "_parser",
        "_pieces",
        "_retiring",
        "_uploading",
    )

    def __init__(self, server: ServerState) -> None:
        """Nothing is connected yet."""
        super().__init__(server)
        self._parser: Any = httptools.HttpRequestParser(self)
        self._exchange: Exchange | Page | None = None  # whose body is being read
        self._client = ""  # who asks, as far as slow bodies are counted
        self._uploading = False  # one of them is counted
        self._admitted = -1  # bytes of its body for which there is room
        self._declared = 0  # bytes of its body, as its head says
        self._pieces: list[Buffer] | None = None  # of a body that came in several
        self._heading = 0  # bytes of an incomplete head that have taken room
        self._head = 0  # bytes of later segments since the phase began, or since the last piece
        self._lines = b""  # of the answer, for the browser that asks
        self._retiring = server.leaving

    # ---- the head

    def _begin(
        self, target: bytes, names: list[bytes], values: list[bytes], connection: bytes
    ) -> Exchange | Page:
        """Take in a request that is not of the plainest kind."""
        method, version = self._parser.get_method(), self._parser.get_http_version()
        if method == b"CONNECT":
            raise Refused(self._failure("method_not_allowed", "this is no proxy", ("Allow", "")))
        if target[:1] != b"/":
            self._check_authority(target)
        head = headers.RequestHead(method, target, names, values)
        return turn_for(self, head, version, connection, self._lines, self._server.browsers.vary)

    def _check_head(self, target: bytes, names: list[bytes], values: list[bytes]) -> None:
        """Measure a head that may be too large: it came in several segments, or in a long one."""
        self._head = 0
        self._end_head()
        if headers.size_of(target, names, values) > self._server.limits.max_header:
            raise Refused(self._failure("headers_too_large", TOO_LONG))

    def _plan_for(self, names: list[bytes]) -> headers.HeaderLayout:
        """What header lines of these names mean. It is kept as long as the connection."""
        if len(names) > MOST_LINES:
            raise Refused(self._failure("headers_too_large", TOO_MANY))
        return headers.layout_for(names, self._server.coded)

    def _find_room_for_head(self, nbytes: int) -> bool:
        """Count so much more of a head that is not complete; False if all of them are too much."""
        if not self._server.heads.take(nbytes):
            return False
        self._heading += nbytes
        return True

    def _end_head(self) -> None:
        """It is complete, or given up."""
        if self._heading:
            self._server.heads.give_back(self._heading)
            self._heading = 0

    def _check_host(self, host: bytes, target: bytes) -> None:
        """Refuse a Host that is none, or none of ours, and remember one that is."""
        if not headers.sane_host(host):
            raise Refused(self._failure("bad_request", "the Host header names no host"))
        if self._is_served(host, target):
            self._server.learn_host(host)

    def _check_authority(self, target: bytes) -> None:
        """Refuse a target that names a host which is none of ours."""
        path = headers.origin_form(target)
        if path != target:
            self._is_served(target.partition(b"://")[2].partition(b"/")[0], path)

    def _is_served(self, host: bytes, target: bytes) -> bool:
        """Whether all is served under this name; raises where not even this target is."""
        try:
            return self._server.browsers.check_host(host, target)
        except NotServed as refused:
            raise Refused(self._failure(refused.code, str(refused))) from None

    def _check_browser(self, plan: headers.HeaderLayout, values: list[bytes]) -> bytes:
        """What the answer to a browser must say. Raises where its page may not ask."""
        host = values[plan.host] if plan.host >= 0 else b""
        policy = self._server.browsers
        told = told_by(plan.browser, values)
        try:
            return policy.check_origin(self._parser.get_method(), host, told)
        except NotServed as refused:
            failure = self._failure(refused.code, str(refused), *pairs_of(policy.vary))
            raise Refused(failure) from None

    def _check_plan(self, plan: headers.HeaderLayout) -> bytes:
        """What the answer's Connection header must say. Raises where the head is not acceptable."""
        version = self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            message = f"HTTP/{version} is not spoken here; use HTTP/1.1"
            raise Refused(self._failure("version_not_supported", message))
        if plan.hosts > 1 or (plan.hosts == 0 and version == "1.1"):
            raise Refused(self._failure("bad_request", "a request needs exactly one Host header"))
        if self._retiring or self._tunnel is not None or not self._parser.should_keep_alive():
            return CLOSE  # a tunnel that is not opened leaves nothing to be read
        return KEEP if version == "1.0" else b""

    # ---- the body

    def _weigh(self, plan: headers.HeaderLayout, values: list[bytes]) -> None:
        """Look at a body before it comes: it may be large, of unknown size, or await our word."""
        framing = {kind: values[index] for kind, index in plan.framing}
        chunked = headers.ENCODING in framing
        if chunked:
            self._check_coding(plan, values)
            self._pieces = []
            self._received = 0
        size = self._declared
        if size > self._server.limits.max_body:
            raise self._too_large()
        expectation = framing.get(headers.EXPECT)
        if chunked or size >= LARGE_BODY_BYTES or expectation:
            self._admit(STEP if chunked else size)
        if expectation is not None and (chunked or size):
            self._expect(expectation)

    def _check_coding(self, plan: headers.HeaderLayout, values: list[bytes]) -> None:
        """Refuse a body whose end we may not understand as others did that passed it on."""
        assert self._exchange is not None
        lines = [values[index] for kind, index in plan.framing if kind == headers.ENCODING]
        codings = [coding.strip().lower() for coding in b",".join(lines).split(b",")]
        if codings != [b"chunked"]:
            code = "coding_not_implemented" if codings[-1] == b"chunked" else "bad_request"
            message = "of transfer codings only chunked is spoken, and once"
            raise Refused(self._failure(code, message))
        if self._parser.get_http_version() == "1.0":  # which knows none: the last of its connection
            self._exchange.connection = CLOSE

    def _admit(self, nbytes: int) -> None:
        """Find room for a body of so many bytes. Raises where there is none."""
        assert self._exchange is not None
        answer = self._exchange.admit(nbytes)
        if answer is not None:
            self._admitted = -1
            raise Refused(answer)
        self._admitted = nbytes

    def _begin_upload(self) -> bool:
        """Count a slow body; False if its client has too many."""
        self._client = self._client or client_of(self.origin.remote_ip)
        self._uploading = self._server.uploads.begin(self._client)
        return self._uploading

    def _end_upload(self) -> None:
        """The body is whole, or given up."""
        if self._uploading:
            self._uploading = False
            self._server.uploads.end(self._client)

    def _drop(self) -> None:
        """Read no more of the request that is being read: it will not be whole."""
        self._end_upload()
        self._end_head()
        exchange, self._exchange = self._exchange, None
        self._pieces = None
        self._received = 0
        if exchange is not None and self._admitted >= 0:
            exchange.lost()

    def _takes_interim(self) -> bool:
        """Whether the client must understand an interim answer: not in HTTP/1.0."""
        version: str = self._parser.get_http_version()
        return version != "1.0"

    def _expect(self, expectation: bytes) -> None:
        """The client waits for our word before it sends the body."""
        if self._parser.get_http_version() != "1.1":
            return
        if expectation.strip().lower() != b"100-continue":
            raise Refused(self._failure("expectation_failed", "only 100-continue can be expected"))
        self._owes_continue = self.special = True
        self._continue()

    def _upgrade(self, plan: headers.HeaderLayout, names: list[bytes], values: list[bytes]) -> bool:
        """Prepare a WebSocket's upgrade, if it is its turn; False for any other."""
        parser = self._parser
        if not parser.should_upgrade():
            return True  # it is not meant: Connection does not speak of it
        form = (parser.get_method(), parser.get_http_version())
        if self._retiring or self.pending or form != (b"GET", "1.1"):
            return False
        if headers.asks_for_websocket(plan, names, values):
            self._tunnel = WebSocketStream(self._server, self.transport)
        return self._tunnel is not None

    def _too_large(self) -> Refused:
        message = f"the body is larger than {self._server.limits.max_body} bytes"
        return Refused(self._failure("body_too_large", message))

    def _failure(self, code: str, message: str, *headers: tuple[str, str]) -> bytes:
        """The answer to the request that is being read."""
        exchange = self._exchange
        name = exchange.request_id if exchange is not None else None
        return self._server.failure(code, message, name, headers)
