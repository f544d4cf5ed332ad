"""What a gateway counts, in Prometheus' terms.

Nothing here is updated per request. A batch's statistics arrive once per batch; answers, levels and
the rest are gathered elsewhere as plain numbers and handed over when a scrape comes. Recording is
a list index and an addition; the library comes in only when the text is made.

```python
metrics = Metrics("mesh")
metrics.record_figures(statistics)                      # a list, per turn
metrics.count_answers(answered); answered.clear()    # before a scrape
text = metrics.text(Levels(inflight={"/inference": 3}))
```
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from mesh.errors import SettingsError
from mesh.protocol.messages import BatchStats

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

Labels = tuple[str, ...]

# What no limit of a client's or a replica's making may exceed: label sets per metric.
_MAX_LABELS: Final = 512
_DURATIONS: Final = tuple(0.001 * 2**k for k in range(17))  # 1 ms to 65.5 s
_SIZES: Final = tuple(float(2**k) for k in range(10))  # 1 to 512
_KEPT_RECORDS: Final = 1000  # records that are kept before they are counted
_NAMESPACE: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")

# Counters: what the text says of them, and their labels.
_COUNTERS: Final[dict[str, tuple[str, Labels]]] = {
    "throughput": ("Inference requests answered", ("code", "endpoint")),
    "batch_closed": ("Batches, by what closed them", ("stage", "reason")),
    "hub_hops": ("Outputs that went to the next stage through the gateway", ()),
    "retries": ("Requests begun again", ("cause",)),
    "hedges": ("Second attempts while the first stayed valid", ()),
    "late_outcomes": ("Outcomes of requests that had ended before", ()),
    "cancelled": ("Tasks dropped because their requests were cancelled", ("where",)),
    "expired": ("Tasks dropped because their deadline had passed", ("where",)),
    "protocol_errors": ("Messages from peers that meant nothing", ()),
    "breaches": ("Sessions ended or refused because the peer broke a rule", ()),
    "link_resumes": ("Sessions that went on over a new connection", ()),
    "connections_dropped": ("Client connections closed because they cost too much", ("cause",)),
    "deaths": ("Processes of the mesh that died", ("cause",)),
}
_HISTOGRAMS: Final[dict[str, tuple[str, tuple[float, ...]]]] = {
    "batch_size": ("Tasks per batch", _SIZES),
    "batch_duration_second": ("Time that a free replica spent gathering a batch", _DURATIONS),
    "process_duration_second": ("Time that a batch, or stage=total a request, took", _DURATIONS),
    "queue_seconds": ("Time that a batch's oldest task waited in its replica", _DURATIONS),
}


@dataclass(slots=True)
class Levels:
    """How much of everything there is at the moment of a scrape.

    Attributes:
        remaining: requests accepted and not answered.
        inflight: the same by route.
        inflight_bytes: bytes of their bodies, by route.
        queue_depth: tasks waiting at the gateway, by stage.
        replica_up: ready replicas, by stage.
        unread_bytes: bytes of answers that clients have not taken.
    """

    remaining: int = 0
    inflight: Mapping[str, int] = field(default_factory=dict)
    inflight_bytes: Mapping[str, int] = field(default_factory=dict)
    queue_depth: Mapping[str, int] = field(default_factory=dict)
    replica_up: Mapping[str, int] = field(default_factory=dict)
    unread_bytes: int = 0


class _Histogram:
    """Counts by upper bound, per stage."""

    __slots__ = ("bounds", "series")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.series: dict[str, tuple[list[int], list[float]]] = {}  # counts, [sum]

    def observe(self, stage: str, *values: float) -> None:
        series = self.series.get(stage)
        if series is None:
            stage = stage if len(self.series) < _MAX_LABELS else "other"
            series = self.series.setdefault(stage, ([0] * (len(self.bounds) + 1), [0.0]))
        counts, total = series
        bounds = self.bounds
        for value in values:
            counts[bisect_left(bounds, value)] += 1
        total[0] += sum(values)


class Metrics(Collector):
    """All metrics of one process, under one prefix.

    Args:
        namespace: the prefix, ``mesh`` gives ``mesh_batch_size``.

    Raises:
        SettingsError: the prefix cannot begin a metric's name.
    """

    def __init__(self, namespace: str = "mesh") -> None:
        """Nothing is counted yet. Each object has its own registry."""
        if not _NAMESPACE.fullmatch(namespace):
            raise SettingsError(
                f"namespace {namespace!r} cannot begin a metric's name; "
                "use letters, digits and underscores, and no digit first"
            )
        self._prefix = namespace + "_"
        self._counts: dict[str, Counter[Labels]] = {name: Counter() for name in _COUNTERS}
        self._histograms = {name: _Histogram(bounds) for name, (_, bounds) in _HISTOGRAMS.items()}
        self._levels = Levels()
        self._stats: list[BatchStats] = []
        self._durations: list[float] = []
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    # ---- recording

    def record_stats(self, stats: list[BatchStats]) -> None:
        """Take batch statistics; they are counted when there are many, or at a scrape."""
        self._stats += stats
        if len(self._stats) >= _KEPT_RECORDS:
            self._count_recorded()

    def record_durations(self, seconds: list[float]) -> None:
        """Take in how long requests took from their arrival to their result."""
        self._durations += seconds
        if len(self._durations) >= _KEPT_RECORDS:
            self._count_recorded()

    def _count_recorded(self) -> None:
        stats, self._stats = self._stats, []
        for each in stats:
            self._observe(each)
        durations, self._durations = self._durations, []
        if durations:
            self._histograms["process_duration_second"].observe("total", *durations)

    def _observe(self, stats: BatchStats) -> None:
        stage = stats.stage
        histograms = self._histograms
        histograms["batch_size"].observe(stage, stats.size)
        histograms["batch_duration_second"].observe(stage, stats.gather * 1e-6)
        histograms["queue_seconds"].observe(stage, stats.wait * 1e-6)
        histograms["process_duration_second"].observe(stage, stats.compute * 1e-6)
        self.count("batch_closed", (stage, stats.reason))
        if stats.expired:
            self.count("expired", (stage,), stats.expired)
        if stats.cancelled:
            self.count("cancelled", (stage,), stats.cancelled)

    def count_answers(self, answered: Counter[tuple[int, str]]) -> None:
        """Add answers by (status, endpoint) to ``throughput_total``; the argument is not changed.

        Meant to be called just before `text`, with what was gathered since the last time.
        """
        for (status, endpoint), number in answered.items():
            self.count("throughput", (str(status), endpoint), number)

    def count(self, name: str, labels: Labels = (), number: int = 1) -> None:
        """Add to a counter.

        Args:
            name: without prefix and ``_total``, such as ``retries``.
            labels: the values of its labels, in order.
            number: how many.
        """
        counts = self._counts[name]
        if labels not in counts and len(counts) >= _MAX_LABELS:
            labels = ("other",) * len(labels)
        counts[labels] += number

    # ---- showing

    def text(self, levels: Levels | None = None) -> bytes:
        """Everything in Prometheus' text format; its content type is `CONTENT_TYPE`."""
        self._settle(levels)
        return generate_latest(self._registry)

    def families(self, levels: Levels | None = None) -> list[Metric]:
        """Return the same as the library's metric families, to be merged with other processes'."""
        self._settle(levels)
        return list(self.collect())

    def _settle(self, levels: Levels | None) -> None:
        self._levels = levels or Levels()
        self._count_recorded()

    def collect(self) -> Iterator[Metric]:
        """What the library asks for when it makes the text."""
        yield from self._show_levels()
        for name, (help_text, label_names) in _COUNTERS.items():
            counter = CounterMetricFamily(self._prefix + name, help_text, labels=label_names)
            counts = self._counts[name]
            for labels, number in (counts or ({} if label_names else {(): 0})).items():
                counter.add_metric(labels, number)
            yield counter
        for name, (help_text, _) in _HISTOGRAMS.items():
            yield self._show_histogram(name, help_text)

    def _show_levels(self) -> Iterator[Metric]:
        levels = self._levels
        yield GaugeMetricFamily(
            self._prefix + "remaining_task",
            "Inference requests accepted and not answered",
            value=levels.remaining,
        )
        yield GaugeMetricFamily(
            self._prefix + "unread_bytes",
            "Bytes of answers that clients have not taken",
            value=levels.unread_bytes,
        )
        gauges = (
            ("inflight", "Inference requests in flight", "route", levels.inflight),
            ("inflight_bytes", "Bytes of their bodies", "route", levels.inflight_bytes),
            ("queue_depth", "Tasks waiting for a replica", "stage", levels.queue_depth),
            ("replica_up", "Replicas that are ready", "stage", levels.replica_up),
        )
        for name, help_text, label, values in gauges:
            gauge = GaugeMetricFamily(self._prefix + name, help_text, labels=[label])
            for key, value in values.items():
                gauge.add_metric([key], value)
            yield gauge

    def _show_histogram(self, name: str, help_text: str) -> Metric:
        histogram = self._histograms[name]
        family = HistogramMetricFamily(self._prefix + name, help_text, labels=["stage"])
        bounds = [str(bound) for bound in histogram.bounds] + ["+Inf"]
        for stage, (counts, total) in histogram.series.items():
            seen = 0
            buckets = []
            for bound, number in zip(bounds, counts, strict=True):
                seen += number
                buckets.append((bound, float(seen)))
            family.add_metric([stage], buckets=buckets, sum_value=total[0])
        return family
