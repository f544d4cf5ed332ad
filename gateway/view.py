"""What the pages of a gateway show, and the numbers that it counts for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from gateway.admin import status
from gateway.admin.merged_metrics import packed, united
from gateway.admin.metrics import Levels, Metrics
from gateway.admin.siblings import Siblings
from gateway.inference import InferenceService
from gateway.requests.core import GatewayCore
from gateway.web.http_server import HttpServer
from mesh.process.settings import GatewayProcess


class GatewayView:
    """The `View` of `gateway.admin.pages` for one gateway process.

    Args:
        process: its settings.
        core: the decisions.
        inference: the service that answers inference requests.
        metrics: the metrics, which are brought up to date when somebody reads them.
        failed: logs a page that could not be shown, by code, message and request id.

    Attributes:
        http: the server of the main port, which needs this object first.
        siblings: the other processes that share the port, None if there are none.
    """

    http: HttpServer

    def __init__(
        self,
        process: GatewayProcess,
        core: GatewayCore,
        inference: InferenceService,
        metrics: Metrics,
        failed: Callable[[str, str, bytes], None],
    ) -> None:
        self._process = process
        self._core = core
        self._inference = inference
        self._metrics = metrics
        self._counts = status.CountsExporter(metrics)
        self.failed = failed
        self.siblings = self._among_siblings() if process.gateway.processes > 1 else None

    def _among_siblings(self) -> Siblings:
        process = self._process
        answers = {
            "metrics": lambda: packed(self._metrics.families(self._levels())),
            "status": lambda: json.dumps(self._row()).encode(),
        }
        folder = Path(process.run_folder)
        return Siblings(folder, process.number, process.gateway.processes, answers)

    @property
    def draining(self) -> bool:
        """Whether this gateway is stopping."""
        return self._inference.draining

    def routes(self) -> Mapping[str, tuple[str, ...]]:
        """Return the inference paths, with the stages of each."""
        return self._process.routes

    def missing(self) -> list[str]:
        """Return the stages of any route that have no replica."""
        return [stage for stage, _ in self._core.replicas.missing()]

    def ready(self) -> bool:
        """Return whether this gateway can serve requests on every route."""
        return self._core.is_ready(monotonic())

    async def metrics_text(self) -> bytes:
        """Return the metrics of all processes that share the port, in Prometheus' text format."""
        if self.siblings is None:
            return self._metrics.text(self._levels())
        others = await self.siblings.ask("metrics")
        own = packed(self._metrics.families(self._levels()))
        return united(self._process.gateway.namespace, {self._process.number: own, **others})

    def _levels(self) -> Levels:
        """Return the current levels, after adding the counts since the last call to the metrics."""
        self._counts.settle(self._core)
        self._metrics.count_answers(self._inference.answers.answered)
        self._inference.answers.answered.clear()
        levels = status.levels(self._core)
        levels.unread_bytes = self.http.unread_bytes
        return levels

    async def status(self, for_admin: bool = False) -> dict[str, Any]:
        """Return routes, stages and replicas for ``mesh status``, and the processes if several.

        Details of replicas are left out, unless `for_admin` is set or HTTP is on loopback only.
        """
        shown = await self._whole_status()
        return shown if for_admin or self.http.is_near else status.public(shown)

    async def _whole_status(self) -> dict[str, Any]:
        shown = status.status(self._core, monotonic()) | {"draining": self.draining}
        if self.siblings is None:
            return shown
        others = await self.siblings.ask("status")
        return shown | {"processes": status.rows(self._row(), others)}

    def _row(self) -> dict[str, Any]:
        number = self._process.number
        return status.row(
            self._core,
            number,
            monotonic(),
            is_open=self.http.is_open,
            draining=self.draining,
        )
