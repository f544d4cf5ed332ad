"""One text of several processes' metrics, read again by the library's own parser."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.admin.merged_metrics import packed, united
from gateway.admin.metrics import Levels, Metrics
from mesh.protocol.messages import BatchStats


def process(answered: int, sizes: list[int]) -> bytes:
    """What one process counted."""
    metrics = Metrics("shop")
    metrics.count_answers(Counter({(200, "/a"): answered}))
    metrics.record_stats([BatchStats("detect", size, 0, 1_000, "size") for size in sizes])
    return packed(metrics.families(Levels(answered, {"/a": answered})))


def samples(text: bytes) -> dict[tuple[str, str, str], float]:
    """Values by name, process and the other labels' values."""
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for one in family.samples:
            labels = dict(one.labels)
            number = labels.pop("process")
            found[one.name, number, ",".join(value for _, value in sorted(labels.items()))] = (
                one.value
            )
    return found


def test_every_sample_says_whose_it_is() -> None:
    seen = samples(united("shop", {2: process(7, [4, 4]), 1: process(5, [1])}))
    assert seen["shop_throughput_total", "1", "200,/a"] == 5
    assert seen["shop_throughput_total", "2", "200,/a"] == 7
    assert seen["shop_remaining_task", "1", ""] == 5
    assert seen["shop_inflight", "2", "/a"] == 7
    assert seen["shop_batch_size_sum", "1", "detect"] == 1
    assert seen["shop_batch_size_count", "2", "detect"] == 2
    assert seen["shop_batch_size_bucket", "2", "4.0,detect"] == 2
    assert seen["shop_batch_size_bucket", "2", "2.0,detect"] == 0
    assert seen["shop_hedges_total", "2", ""] == 0


def test_each_name_is_explained_once_and_its_samples_stand_together() -> None:
    alone = Metrics("shop")
    alone.record_stats([BatchStats("detect", 1, 0, 1_000, "size")])
    text = united("shop", {1: process(1, [1]), 2: process(1, [1])}).decode()
    explained = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(explained) == len(set(explained))
    wanted = [line.split()[2] for line in alone.text().decode().splitlines() if "# TYPE" in line]
    assert explained == ["shop_process_up", *wanted]


def test_one_that_does_not_answer_is_left_out_and_shown() -> None:
    seen = samples(united("shop", {1: process(5, []), 2: None}))
    assert seen["shop_process_up", "1", ""] == 1
    assert seen["shop_process_up", "2", ""] == 0
    assert {number for name, number, _ in seen if name != "shop_process_up"} == {"1"}


@pytest.mark.parametrize("part", [b"", b"\xc1", msgspec.msgpack.encode([1])])
def test_nonsense_is_told_from_metrics(part: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        united("shop", {1: part})
