from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.admin.metrics import CONTENT_TYPE, Levels, Metrics
from mesh.errors import SettingsError
from mesh.protocol.messages import BatchStats


def samples(metrics: Metrics, levels: Levels | None = None) -> dict[tuple[str, str], float]:
    """Every sample of the text, by name and label values in the order of the labels."""
    found = {}
    for family in text_string_to_metric_families(metrics.text(levels).decode()):
        for sample in family.samples:
            values = [value for _, value in sorted(sample.labels.items())]
            found[sample.name, ",".join(values)] = sample.value
    return found


def test_a_batch_is_counted_where_it_belongs() -> None:
    metrics = Metrics()
    metrics.record_stats(
        [BatchStats("detect", 3, 2_000, 40_000, "idle", expired=2, cancelled=1, gather=500)]
    )
    metrics.record_stats([BatchStats("detect", 8, 0, 1_000, "size")])
    seen = samples(metrics)
    assert seen["mesh_batch_size_sum", "detect"] == 11
    assert seen["mesh_batch_size_count", "detect"] == 2
    assert seen["mesh_batch_size_bucket", "4.0,detect"] == 1
    assert seen["mesh_batch_size_bucket", "8.0,detect"] == 2
    assert seen["mesh_batch_size_bucket", "+Inf,detect"] == 2
    assert seen["mesh_process_duration_second_sum", "detect"] == pytest.approx(0.041)
    assert seen["mesh_process_duration_second_bucket", "0.001,detect"] == 1
    assert seen["mesh_process_duration_second_bucket", "0.064,detect"] == 2
    assert seen["mesh_batch_duration_second_sum", "detect"] == pytest.approx(0.0005)
    assert seen["mesh_queue_seconds_sum", "detect"] == pytest.approx(0.002)
    assert seen["mesh_queue_seconds_count", "detect"] == 2
    assert seen["mesh_batch_closed_total", "idle,detect"] == 1
    assert seen["mesh_batch_closed_total", "size,detect"] == 1
    assert seen["mesh_expired_total", "detect"] == 2
    assert seen["mesh_cancelled_total", "detect"] == 1


def test_whole_requests_are_the_stage_total() -> None:
    metrics = Metrics()
    metrics.record_durations([0.5, 100.0])
    seen = samples(metrics)
    assert seen["mesh_process_duration_second_count", "total"] == 2
    assert seen["mesh_process_duration_second_bucket", "0.512,total"] == 1
    assert seen["mesh_process_duration_second_bucket", "65.536,total"] == 1


def test_answers_add_up() -> None:
    metrics = Metrics()
    answered = Counter({(200, "/a"): 5, (429, "/a"): 1})
    metrics.count_answers(answered)
    metrics.count_answers(answered)
    seen = samples(metrics)
    assert seen["mesh_throughput_total", "200,/a"] == 10
    assert seen["mesh_throughput_total", "429,/a"] == 2


def test_levels_are_those_of_the_moment() -> None:
    metrics = Metrics("shop")
    levels = Levels(3, {"/a": 2, "/b": 1}, {"/a": 100}, {"detect": 7}, {"detect": 2})
    seen = samples(metrics, levels)
    assert seen["shop_remaining_task", ""] == 3
    assert seen["shop_inflight", "/b"] == 1
    assert seen["shop_inflight_bytes", "/a"] == 100
    assert seen["shop_queue_depth", "detect"] == 7
    assert seen["shop_replica_up", "detect"] == 2
    assert samples(metrics)["shop_remaining_task", ""] == 0


def test_all_names_of_the_design_are_there_from_the_start() -> None:
    text = Metrics().text().decode()
    for name in (
        "batch_size batch_duration_second process_duration_second remaining_task throughput_total "
        "queue_depth queue_seconds inflight inflight_bytes replica_up batch_closed_total "
        "hub_hops_total retries_total hedges_total late_outcomes_total cancelled_total "
        "expired_total protocol_errors_total breaches_total link_resumes_total deaths_total"
    ).split():
        assert f"# TYPE mesh_{name} " in text
    seen = samples(Metrics())
    assert seen["mesh_hub_hops_total", ""] == 0


def test_counters_take_their_labels() -> None:
    metrics = Metrics()
    metrics.count("retries", ("death",), 2)
    metrics.count("hedges")
    seen = samples(metrics)
    assert seen["mesh_retries_total", "death"] == 2
    assert seen["mesh_hedges_total", ""] == 1
    with pytest.raises(KeyError):
        metrics.count("made_up")


def test_labels_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.admin.metrics._MAX_LABELS", 64)
    metrics = Metrics()
    for number in range(300):
        metrics.count("throughput", ("200", f"/{number}"))
        metrics.record_stats([BatchStats(f"s{number}", 1, 0, 0, "idle")])
    seen = samples(metrics)
    assert seen["mesh_throughput_total", "other,other"] > 200
    assert seen["mesh_batch_size_count", "other"] > 200
    assert len(seen) < 80 * 80


def test_a_namespace_must_begin_a_name() -> None:
    with pytest.raises(SettingsError, match="my-shop"):
        Metrics("my-shop")


def test_the_text_says_what_it_is() -> None:
    assert CONTENT_TYPE.startswith("text/plain")
