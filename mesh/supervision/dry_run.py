"""A trial start of a service: every replica loads, runs its examples, and ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mesh.config.schema import split_http
from mesh.config.settings import MeshSettings
from mesh.supervision.child import Command
from mesh.supervision.events import Slot
from mesh.supervision.process_loop import Callbacks

_HEAD = ("stage", "replica", "loaded in", "examples", "which took")


class DryRun:
    """The `Callbacks` of a trial start; collects what the replicas report of their start.

    Args:
        service: the service; its own callbacks do the work.
        show: called with each line to print.

    Attributes:
        stop: asks the loop to stop; must be set before the loop runs.
        complete: every process was ready.
    """

    def __init__(self, service: Callbacks, show: Callable[[str], None]) -> None:
        self._service, self._show = service, show
        self._reports: dict[Slot, Mapping[str, Any]] = {}
        self.stop: Callable[[], None] = lambda: None
        self.complete = False

    def command(self, slot: Slot) -> Command:
        """As the service has it."""
        return self._service.command(slot)

    def received(self, slot: Slot, message: dict[str, Any]) -> None:
        """Keep what a replica reports of its start."""
        if message.get("event") == "ready" and not slot.is_gateway:
            self._reports[slot] = message.get("report", {})
        self._service.received(slot, message)

    def exited(self, slot: Slot, pid: int, code: int | None, signal: int) -> None:
        """As the service has it."""
        self._service.exited(slot, pid, code, signal)

    def announce(self) -> None:
        """Report that everything works, and stop the service."""
        self.complete = True
        for line in report_lines(self._reports):
            self._show(line)
        self.stop()

    def close_http(self) -> None:
        """As the service has it."""
        self._service.close_http()


def apart(settings: MeshSettings) -> MeshSettings:
    """Return the settings without their addresses, so that a running service is not disturbed."""
    host, _ = split_http(settings.gateway.http)
    shown = f"[{host}]" if ":" in host else host
    stages = {
        name: dataclasses.replace(one, feed="", advertise="")
        for name, one in settings.stages.items()
    }
    gateway = dataclasses.replace(
        settings.gateway, http=f"{shown}:0", bind="", admin="", processes=1
    )
    return dataclasses.replace(settings, gateway=gateway, stages=stages, gateways=())


def report_lines(reports: Mapping[Slot, Mapping[str, Any]]) -> Iterable[str]:
    """Format a table, for people, of how each replica started."""
    rows = [_HEAD, *(_row(slot, reports[slot]) for slot in sorted(reports))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(slot: Slot, report: Mapping[str, Any]) -> Sequence[str]:
    count = report.get("examples", 0)
    took = f"{report.get('ran', 0.0):.2f} s" if count else "-"
    loaded = f"{report.get('loaded', 0.0):.2f} s"
    return slot.stage, str(slot.number), loaded, str(count) if count else "none", took
