"""Which protocol answers an HTTP request: the one place where that is decided.

A front protocol turns an HTTP request into requests of the mesh, and outcomes back into an HTTP
answer. HTTP/1.1 and HTTP/2 call `open_request` once a head is complete, and know no protocol by
name: what they get is an `HttpRequest`, which they give its body, start and let write its answer.

To add one, give its paths a `PathKind`, decide in `open_request` which they are, and enter in
`PROTOCOLS` what opens its requests.
"""

from __future__ import annotations

from time import monotonic
from typing import Final, Literal, Protocol, TypeAlias

from gateway.web.exchange import AnyExchange, BrowserExchange, Exchange
from gateway.web.headers import RequestHead, lines_of, path_of
from gateway.web.http_request import HttpRequest, Route
from gateway.web.tornado_adapter import Channel, Page

# What a request asks for. Plain words, as an enumeration's members are slow to get at.
PathKind: TypeAlias = Literal["inference", "page"]


class FrontProtocol(Protocol):
    """Makes an `HttpRequest` of a complete head."""

    def __call__(
        self,
        channel: Channel,
        route: Route | None,
        head: RequestHead,
        connection: bytes,
        lines: bytes,
    ) -> HttpRequest:
        """Open a request.

        Args:
            channel: the connection or stream that it came by.
            route: what its path leads to, whatever its method; None if that is no inference.
            head: request line and header lines.
            connection: see `Exchange`.
            lines: header lines of the answer for the browser that asks, empty if none does.
        """


def open_request(
    channel: Channel, head: RequestHead, connection: bytes = b"", lines: bytes = b""
) -> HttpRequest:
    """Decide by path and method which protocol answers, and open the request with it."""
    routes = channel.inference.routes
    route: Route | None = routes.get(head.target)
    if route is None:
        path = path_of(head.target)
        route = routes.get(path) or (routes.get(path[:-1]) if path[-1:] == b"/" else None)
    is_inference = route is not None and head.method == b"POST"
    kind: PathKind = "inference" if is_inference else "page"
    return PROTOCOLS[kind](channel, route, head, connection, lines)


def is_repeatable(request: HttpRequest) -> bool:
    """Whether the same head asks for the same again: a plain exchange with the same route.

    Where the route wants header lines they must be read, and a query may be another each time.
    """
    if type(request) is not Exchange:
        return False
    return request.headers is None and b"?" not in request.target


def _open_exchange(
    channel: Channel, route: Route | None, head: RequestHead, connection: bytes, lines: bytes
) -> AnyExchange:
    """One request of the mesh, whose body and answer are the worker's own."""
    exchange: AnyExchange = (
        BrowserExchange(channel, route, head.target, monotonic(), connection, lines=lines)
        if lines
        else Exchange(channel, route, head.target, monotonic(), connection)
    )
    if route is not None and route.wants_meta:
        exchange.headers = lines_of(head.names, head.values)
    return exchange


def _open_page(
    channel: Channel, route: Route | None, head: RequestHead, connection: bytes, lines: bytes
) -> Page:
    """No request of the mesh: tornado answers."""
    page = Page(channel, head.method, head.target, connection)
    page.lines = lines or channel.vary
    page.allow = "POST" if route is not None else None
    page.describe(head.version, lines_of(head.names, head.values), monotonic())
    return page


PROTOCOLS: Final[dict[PathKind, FrontProtocol]] = {
    "inference": _open_exchange,  # POST to a path that leads to stages
    "page": _open_page,  # everything else
}
