"""The pages that are not inference: health, readiness, metrics and status.

An ordinary tornado `Application`. Errors have the one JSON form of `gateway/web/responses.py`, also
those that tornado itself finds (no such page, wrong method).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, Protocol, cast

from tornado import web
from tornado.httputil import HTTPHeaders
from tornado.web import RequestHandler

from gateway.admin.metrics import CONTENT_TYPE
from gateway.web import directions, headers, responses
from gateway.web.tornado_adapter import Page
from mesh.config.settings import PAGES
from mesh.release import VERSION

_PACKED_IN_LOOP_BYTES = 64 * 1024  # bytes of a page that are not packed in the event loop
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class View(Protocol):
    """What the pages show: the gateway, or a stand-in in a test."""

    @property
    def draining(self) -> bool:
        """Whether it is stopping and takes nothing new."""

    def routes(self) -> Mapping[str, tuple[str, ...]]:
        """Paths of inference, and the stages behind each."""

    def missing(self) -> list[str]:
        """Stages of any route that have no replica."""

    def ready(self) -> bool:
        """Whether none is missing, and those that feed each other have once been connected."""

    async def metrics_text(self) -> bytes:
        """All metrics in Prometheus' text format, of every process that shares the port."""

    async def status(self, for_admin: bool) -> dict[str, Any]:
        """Routes, stages and replicas, as JSON has it; and the processes that share the port.

        Args:
            for_admin: it is asked for at the operators' own address.
        """

    def failed(self, code: str, message: str, request_id: bytes) -> None:
        """A page could not be shown, for a fault of ours."""


class BasePage(RequestHandler):
    """What all pages have in common: the request's id, and errors as JSON."""

    def initialize(
        self, view: View, pages: Mapping[str, str] = PAGES, for_admin: bool = False
    ) -> None:
        """Called by tornado with what `make_app` gave."""
        self.view, self.pages, self.for_admin = view, pages, for_admin

    @property
    def page(self) -> Page:
        """The request as the HTTP wire has it."""
        return cast(Page, self.request.connection)

    def set_default_headers(self) -> None:
        """Begin every answer, errors as well."""
        self.set_header("Server", responses.SERVER)
        self.set_header("X-Request-ID", (self.page.request_id or b"").decode("latin-1"))

    def compute_etag(self) -> None:
        """Return None: these pages change all the time."""

    def fail(self, code: str, message: str, stage: str | None = None) -> None:
        """Answer with an error of the table."""
        meaning = responses.row(code)
        self.set_status(meaning.status)
        self.set_header("Content-Type", "application/json")
        if meaning.wait:
            self.set_header("Retry-After", "1")
        request_id = self.page.request_id or b""
        self.finish(responses.failure_body(code, message, stage, request_id))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Give tornado's own errors the common form."""
        code = responses.code_for(status_code)
        if code == "method_not_allowed":
            self.set_header("Allow", ", ".join(self._allowed()))
        message = self.explained(code)
        if status_code >= 500:
            self.view.failed(code, message, self.page.request_id or b"")
        self.fail(code, message)

    def explained(self, code: str) -> str:
        """Return the text for an error that tornado found."""
        return _MESSAGES.get(code, self._reason)

    def _allowed(self) -> list[str]:
        """Return the methods that this page supports."""
        ours = type(self)
        return [m for m in _METHODS if getattr(ours, m.lower()) is not _absent(m)]

    def head(self, *args: str) -> Awaitable[None] | None:
        """As GET; the wire leaves the body out."""
        return self.get(*args)

    def options(self, *args: str) -> None:
        """204, and the methods that there are."""
        self.allow_methods(self._allowed())

    def allow_methods(self, methods: list[str]) -> None:
        """Answer an OPTIONS."""
        self.set_status(204)
        self.set_header("Allow", ", ".join(methods))
        self.finish()


def _absent(method: str) -> object:
    """What tornado has in place of a method that a page does not define."""
    return getattr(RequestHandler, method.lower())


_MESSAGES = {
    "not_found": "there is nothing at this path",
    "method_not_allowed": "this path does not take this method",
    "server_error": "the gateway failed",
}


class NotFoundPage(BasePage):
    """Everything that is at no path, or at an inference path with a method other than POST."""

    def prepare(self) -> None:
        """Answer, whatever the method."""
        page = self.page
        path = headers.path_of(page.target).decode("latin-1")
        if page.method == b"OPTIONS" and (page.allow or path == "*"):
            own = [] if page.allow else ["GET", "HEAD"]  # of the server as a whole
            self.allow_methods([*own, "POST", "OPTIONS"])
        elif page.allow:
            self.set_header("Allow", f"{page.allow}, OPTIONS")
            how = directions.call(self.request.host, path)
            self.fail("method_not_allowed", f"inference takes {page.allow}, for example: {how}")
        else:
            routes = {} if self.for_admin else self.view.routes()
            self.fail("not_found", directions.not_found(path, routes, self.pages))


class RootPage(BasePage):
    """``/``: what this is and serves, and whether new requests may be sent here."""

    def get(self) -> None:
        """200 with the routes and pages, as text or JSON; 503 while draining."""
        if self.view.draining:
            self.fail("draining", "this gateway is stopping")
            return
        routes = self.view.routes()
        self.set_header("Vary", "Accept")
        if "application/json" in self.request.headers.get("Accept", ""):
            self.set_header("Content-Type", "application/json")
            self.finish(directions.root_json(VERSION, routes, self.pages))
        else:
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(directions.root_text(f"Meshline {VERSION}", routes, self.pages))

    def explained(self, code: str) -> str:
        """Explain routes to a client that posted here."""
        if code == "method_not_allowed":
            return directions.no_inference_here(self.request.host, self.view.routes())
        return super().explained(code)


class LivenessPage(BasePage):
    """``/health``, ``/livez`` and ``/ping``: this process turns. Never depends on replicas."""

    def get(self) -> None:
        """200, always."""
        self.set_header("Content-Type", "application/json")
        self.finish(b'{"status":"ok"}')


class ReadinessPage(BasePage):
    """``/readyz``: every stage of every route has a replica."""

    def get(self) -> None:
        """200, or 503 that names what is missing."""
        missing = self.view.missing()
        if self.view.draining:
            self.fail("draining", "this gateway is stopping")
        elif missing:
            names = ", ".join(missing)
            self.fail("no_replica", f"no replica of: {names}", missing[0])
        elif not self.view.ready():
            self.fail("no_replica", "the replicas are being connected with each other")
        else:
            self.set_header("Content-Type", "application/json")
            self.finish(b'{"status":"ready"}')


class MetricsPage(BasePage):
    """``/metrics`` for Prometheus."""

    async def get(self) -> None:
        """All metrics as text."""
        self.set_header("Content-Type", CONTENT_TYPE)
        self.finish(await self.view.metrics_text())


class StatusPage(BasePage):
    """``/mesh/status`` for ``mesh status``."""

    async def get(self) -> None:
        """Routes, stages and replicas."""
        self.set_header("Content-Type", "application/json")
        shown = await self.view.status(self.for_admin)
        self.finish(json.dumps(shown, separators=(",", ":")))


_PAGES: dict[str, type[BasePage]] = {
    "/": RootPage,
    "/health": LivenessPage,
    "/livez": LivenessPage,
    "/ping": LivenessPage,
    "/readyz": ReadinessPage,
    "/metrics": MetricsPage,
    "/mesh/status": StatusPage,
}


def make_app(
    view: View,
    compressed: bool = False,
    pages: Iterable[str] = PAGES,
    for_admin: bool = False,
) -> web.Application:
    """The pages, showing `view`.

    Args:
        view: what they show.
        compressed: packed if the client wants it (gzip).
        pages: which of `mesh.config.settings.PAGES` there are.
        for_admin: they stand at the operators' own address, where there are no routes.
    """
    shown = {path: PAGES[path] for path in pages}
    given = {"view": view, "pages": shown, "for_admin": for_admin}
    return web.Application(
        [(path if path == "/" else f"{path}/?", _PAGES[path], given) for path in shown],
        default_handler_class=NotFoundPage,
        default_handler_args=given,
        log_function=_silent,
        transforms=[_Packed] if compressed else [],
    )


class _Packed(web.GZipContentEncoding):
    """Packs a page as tornado does, unless that would hold everybody up."""

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        """Leave a long page as it is."""
        if len(chunk) > _PACKED_IN_LOOP_BYTES:
            self._gzipping = False
            return status_code, headers, chunk
        return super().transform_first_chunk(status_code, headers, chunk, finishing)


def _silent(_page: RequestHandler) -> None:
    """The wire writes the access log, for these pages as for inference."""
