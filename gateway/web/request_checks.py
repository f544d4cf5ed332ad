"""The checks of HTTP requests that HTTP/1.1 and HTTP/2 share; they raise `RequestRefused`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.web import headers
from gateway.web.browser_policy import NotServed, pairs_of, told_by
from gateway.web.responses import Headers
from gateway.web.server_state import ServerState

MOST_LINES: Final = 256  # header lines of a head, and of trailers
TOO_MANY_LINES: Final = f"there are more than {MOST_LINES} header lines"
HEAD_TOO_LONG: Final = "request line and headers are too long"


class RequestRefused(Exception):
    """A request that is refused, perhaps before it was read to its end.

    Args:
        code: a word of `gateway.web.responses.TABLE`.
        message: the text of the answer.
        headers: further headers of the answer.
        answer: the whole answer, if other code has written it.
    """

    def __init__(
        self, code: str = "", message: str = "", headers: Headers = (), answer: bytes = b""
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.headers, self.answer = code, message, headers, answer


def layout_for(names: list[bytes], server: ServerState) -> headers.HeaderLayout:
    """Return the layout of header lines with these names; refuse too many."""
    if len(names) > MOST_LINES:
        raise RequestRefused("headers_too_large", TOO_MANY_LINES)
    return headers.layout_for(names, server.coded)


def check_size(target: bytes, names: list[bytes], values: list[bytes], server: ServerState) -> None:
    """Refuse a head that is longer than allowed."""
    if headers.size_of(target, names, values) > server.limits.max_header:
        raise RequestRefused("headers_too_large", HEAD_TOO_LONG)


def browser_lines(
    method: bytes, layout: headers.HeaderLayout, values: Sequence[bytes], server: ServerState
) -> bytes:
    """Return the answer's header lines for a browser; refuse pages that may not send requests."""
    host = values[layout.host] if layout.host >= 0 else b""
    told = told_by(layout.browser, values)
    try:
        return server.browsers.check_origin(method, host, told)
    except NotServed as refused:
        vary = pairs_of(server.browsers.vary)
        raise RequestRefused(refused.code, str(refused), vary) from None


def check_host(host: bytes, target: bytes, server: ServerState) -> None:
    """Refuse a Host that is invalid or not ours; remember one that is ours."""
    if not headers.sane_host(host):
        raise RequestRefused("bad_request", "the Host header names no host")
    if check_served(host, target, server):
        server.learn_host(host)


def check_served(host: bytes, target: bytes, server: ServerState) -> bool:
    """Return whether all targets are served under this host name; refuse if this one is not."""
    try:
        return server.browsers.check_host(host, target)
    except NotServed as refused:
        raise RequestRefused(refused.code, str(refused)) from None


def check_target(method: bytes, target: bytes, server: ServerState) -> None:
    """Refuse targets that only a proxy can serve, and an authority that is not ours."""
    if method == b"CONNECT":
        raise RequestRefused("method_not_allowed", "this is no proxy", (("Allow", ""),))
    path = headers.origin_form(target)
    if path != target:
        check_served(target.partition(b"://")[2].partition(b"/")[0], path, server)


def check_length(nbytes: int, server: ServerState) -> None:
    """Refuse a body that is longer than allowed."""
    if nbytes > server.limits.max_body:
        text = f"the body is larger than {server.limits.max_body} bytes"
        raise RequestRefused("body_too_large", text)


def check_expectation(value: bytes) -> None:
    """Refuse expectations other than 100-continue."""
    if value.strip().lower() != b"100-continue":
        raise RequestRefused("expectation_failed", "only 100-continue can be expected")


def check_transfer_coding(lines: Sequence[bytes]) -> None:
    """Refuse a body of HTTP/1.1 whose end we and a proxy before us may find at different places.

    Args:
        lines: the values of ``Transfer-Encoding``.
    """
    codings = [coding.strip().lower() for coding in b",".join(lines).split(b",")]
    if codings != [b"chunked"]:
        code = "coding_not_implemented" if codings[-1] == b"chunked" else "bad_request"
        raise RequestRefused(code, "of transfer codings only chunked is spoken, and once")
