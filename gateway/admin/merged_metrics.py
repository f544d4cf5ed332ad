"""The metrics of all gateway processes of one host, as one text.

A sum over gateways is right, as each counts its own; so every sample is kept, with a label that
tells whose it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec
from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

LABEL = "process"


class Sample(msgspec.Struct, array_like=True):
    """One sample: its name, its labels and its value."""

    name: str
    labels: dict[str, str]
    value: float


class MetricFamily(msgspec.Struct, array_like=True):
    """One metric of a process with all its samples."""

    name: str
    text: str
    kind: str
    samples: list[Sample]


_reader = msgspec.msgpack.Decoder(list[MetricFamily])
_writer = msgspec.msgpack.Encoder()


def packed(metrics: Iterable[Metric]) -> bytes:
    """The metrics of one process, for a sibling's `united`."""
    return _writer.encode(
        [
            MetricFamily(
                metric.name,
                metric.documentation,
                metric.type,
                [Sample(one.name, dict(one.labels), float(one.value)) for one in metric.samples],
            )
            for metric in metrics
        ]
    )


def united(namespace: str, parts: Mapping[int, bytes | None]) -> bytes:
    """All processes' metrics in Prometheus' text format.

    Args:
        namespace: how the names begin.
        parts: what each process has `packed`, by its number; None where it did not answer, which
            ``…_process_up`` says.

    Raises:
        msgspec.DecodeError: what a sibling sent is something else.
    """
    return generate_latest(_MergedPage(namespace, parts))


class _MergedPage(Collector):
    def __init__(self, namespace: str, parts: Mapping[int, bytes | None]) -> None:
        self._namespace, self._parts = namespace, parts

    def collect(self) -> Iterator[Metric]:
        """One family after the other, each with the samples of all processes."""
        up = f"{self._namespace}_process_up"
        alive = GaugeMetricFamily(up, "Gateway processes that answer", labels=[LABEL])
        families: dict[str, Metric] = {}
        for number, part in sorted(self._parts.items()):
            alive.add_metric([str(number)], part is not None)
            for family in [] if part is None else _reader.decode(part):
                whole = families.setdefault(
                    family.name, Metric(family.name, family.text, family.kind)
                )
                for one in family.samples:
                    whole.add_sample(one.name, {LABEL: str(number), **one.labels}, one.value)
        yield alive
        yield from families.values()
