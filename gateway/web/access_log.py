"""The access log: one record for each request that was answered, or whose client disconnected."""

from __future__ import annotations

from time import monotonic
from typing import Any, Final

from gateway.web import headers
from gateway.web.http_request import HttpRequest
from gateway.web.tornado_adapter import Page
from mesh.logs.loggers import Output

# The pages that orchestrators and monitoring poll.
HEALTH: Final = frozenset({b"/", b"/health", b"/livez", b"/readyz", b"/metrics", b"/ping"})
_IS: Final = ";dur="
_NOT_FOUND: Final = 404


def _is_health(method: bytes, path: bytes) -> bool:
    return method in (b"GET", b"HEAD") and (path.rstrip(b"/") or b"/") in HEALTH


class AccessLog:
    """Writes the access log, whatever the level of other lines.

    A record has no `logging.LogRecord` on its way: there may be tens of thousands a second.

    Args:
        output: where to.
        health: whether requests for health and metrics are logged, too.
        query: whether what follows the ``?`` is: it may hold what no log should.

    Example:
        >>> AccessLog(get_output())(exchange, "127.0.0.1")
    """

    def __init__(self, output: Output, *, health: bool = False, query: bool = False) -> None:
        self._output, self._health, self._query = output, health, query

    def __call__(self, turn: HttpRequest, client: str, status: int = 0) -> None:
        """Log a request that ended.

        Args:
            turn: the request, with its answer.
            client: the address that it came from.
            status: instead of the answer's.
        """
        path, _, query = headers.origin_form(turn.target).partition(b"?")
        if not self._health and isinstance(turn, Page) and _is_health(turn.method, path):
            return
        fields = self._fields(turn, path, status or turn.status, client)
        if query and self._query:
            fields["query"] = _shown(query)
        output = self._output
        shown = fields.get("path", fields["route"])
        message = f"{fields['method']} {shown} {fields['status']}"
        if output.as_json:
            output.emit("info", message, fields)
        else:
            output.emit("info", f"{message} {_as_text(fields)}", {})

    def _fields(self, turn: HttpRequest, path: bytes, status: int, client: str) -> dict[str, Any]:
        shown = _shown(path) or "-"
        route = _route(turn, shown, status)
        fields: dict[str, Any] = {
            "method": _shown(turn.method) or "-",
            "route": route,
            "status": status,
            "bytes": turn.sent,
            "ms": round((monotonic() - turn.arrived) * 1000, 2),
            # If the connection itself refused it, only the answer has its id.
            "id": (turn.request_id or turn.sent_header(b"X-Request-ID") or b"-").decode("latin-1"),
            "client": client,
        }
        timing = turn.sent_header(b"Server-Timing")
        if timing:
            fields["stages"] = stages_of(timing)
        if shown != route:
            fields["path"] = shown
        return fields


def _route(turn: HttpRequest, path: str, status: int) -> str:
    """Return the request's route; "-" if it has none."""
    if turn.route is not None:
        return turn.route.endpoint
    return path if isinstance(turn, Page) and status != _NOT_FOUND else "-"


def _shown(text: bytes) -> str:
    """Return a client's text without terminal control characters."""
    shown = text.decode("ascii", "backslashreplace")
    return shown if shown.isprintable() else shown.encode("unicode_escape").decode("ascii")


def stages_of(timing: bytes) -> dict[str, dict[str, float]]:
    """The milliseconds that a ``Server-Timing`` of `gateway.web.responses` names, by stage.

    Example:
        >>> stages_of(b"embed-queue;dur=0.10, embed;dur=12.30")
        {'embed': {'queue_ms': 0.1, 'compute_ms': 12.3}}
    """
    parts = timing.decode("latin-1").replace(", ", _IS).split(_IS)
    # Two statistics for each stage: first what it waited, then what it computed.
    return {
        parts[at + 2]: {"queue_ms": float(parts[at + 1]), "compute_ms": float(parts[at + 3])}
        for at in range(0, len(parts) - 3, 4)
    }


def _as_text(fields: dict[str, Any]) -> str:
    """Return the rest of a text line, after method, path and status."""
    text = f"{fields['bytes']} bytes {fields['ms']:.2f} ms {fields['id']} {fields['client']}"
    for stage, took in fields.get("stages", {}).items():
        text += f" {stage} {took['queue_ms']:.2f}+{took['compute_ms']:.2f} ms"
    return f"{text} ?{fields['query']}" if "query" in fields else text
