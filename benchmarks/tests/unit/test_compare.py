"""The benchmarks' arithmetic: orders, medians, ratios, goals. The servers are not started here."""

from __future__ import annotations

import json
import math

import pytest

from benchmarks import closed_loop, peers, processes, rows, tables
from benchmarks.closed_loop import Figures
from benchmarks.failure import BenchmarkError
from benchmarks.peers import Peer
from benchmarks.rows import Against, Goal, Row

A, B, C = (Peer(name, name) for name in "abc")
ROW = Row("row", "a row", rows.ECHO, 8, Goal(Against.RATE, 2.5))


def measurement(
    peer: str, rate: float, p50: float, errors: int = 0, **cpu: list[float]
) -> tables.Measurement:
    return tables.Measurement("row", peer, 0, Figures(rate, p50, 2 * p50, errors, cpu))


def table(row: Row, *measurements: tables.Measurement) -> str:
    return tables.table([row], tables.medians(measurements))


def test_every_server_goes_first_once() -> None:
    orders = [peers.rotated([A, B, C], number) for number in range(4)]
    assert orders == [[A, B, C], [B, C, A], [C, A, B], [A, B, C]]


def test_medians_are_taken_per_row_server_and_process() -> None:
    found = tables.medians(
        [
            measurement("mosec", 10, 500, 1, worker=[50.0, 10.0]),
            measurement("meshline", 70, 100),
            measurement("mosec", 30, 700, 2, worker=[70.0, 30.0]),
            measurement("mosec", 20, 900, worker=[60.0], parent=[3.0]),
        ]
    )
    cpu = {"parent": [0.0], "worker": [60.0, 10.0]}
    assert found == [
        tables.Median("row", "mosec", 20, 700, 1400, 3, cpu),
        tables.Median("row", "meshline", 70, 100, 200, 0, {}),
    ]


def test_the_table_says_how_many_times_faster_and_what_failed() -> None:
    text = table(ROW, measurement("meshline", 60, 100), measurement("mosec", 20, 400, 7))
    assert "3.00 ×       p50    0.250 ×      meshline to mosec" in text
    assert "7 FAILED" in text


def test_without_meshline_there_is_no_ratio_and_no_verdict() -> None:
    text = table(ROW, measurement("mosec", 20, 400))
    assert "meshline to" not in text
    assert text.rstrip().endswith("goal: at least 2.5 × its requests/s")


@pytest.mark.parametrize(
    ("goal", "ideal", "verdict"),
    [
        (Goal(Against.RATE, 3.0), 0, "goal: at least 3 × its requests/s; here 3 ×: reached"),
        (Goal(Against.RATE, 3.1), 0, "here 3 ×: MISSED"),
        (Goal(Against.P50, 0.25), 0, "goal: p50 at most 0.250 × its; here 0.25 ×: reached"),
        (Goal(Against.P50, 0.2), 0, "here 0.25 ×: MISSED"),
        (Goal(Against.IDEAL, 0.75), 80, "goal: at least 75% of the ideal; here 75.0%: reached"),
        (Goal(Against.IDEAL, 0.97), 80, "here 75.0%: MISSED"),
        (None, 0, "no goal"),
    ],
)
def test_a_verdict_stands_beside_its_goal(goal: Goal | None, ideal: float, verdict: str) -> None:
    row = Row("row", "a row", rows.ECHO, 8, goal, ideal)
    measured = measurement("meshline", 60, 100), measurement("mosec", 20, 400)
    assert verdict in table(row, *measured)
    summary = tables.summary([row], tables.medians(measured))
    assert ("missed: row" in summary) == ("MISSED" in verdict)


def test_the_first_peer_is_the_one_that_the_goals_are_about() -> None:
    found = tables.medians(
        [measurement("a", 20, 400), measurement("meshline", 60, 100), measurement("b", 1, 1)]
    )
    assert tables.reached(ROW, found) == pytest.approx(3.0)


def test_a_peer_that_did_nothing_gives_no_verdict() -> None:
    found = tables.medians([measurement("a", 0, 0), measurement("meshline", 60, 100)])
    assert tables.reached(ROW, found) is None


def test_of_many_processes_the_table_shows_the_mean() -> None:
    text = table(ROW, measurement("mosec", 20, 400, parent=[3.0], worker=[1.0] * 8 + [10.0] * 8))
    assert "CPU: parent 3 %, 16 × worker 5.5 %" in text


def test_what_a_request_costs_the_server_leaves_the_load_out() -> None:
    (one,) = tables.medians([measurement("mosec", 2000, 1, worker=[50.0, 30.0], wrk=[70.0])])
    assert tables.cost(one) == pytest.approx(400.0)
    assert "the server's 400 µs per request" in table(
        ROW, measurement("mosec", 2000, 1, worker=[50.0, 30.0], wrk=[70.0])
    )
    (idle,) = tables.medians([measurement("mosec", 0, 0)])
    assert tables.cost(idle) == 0.0


def test_every_row_has_what_its_goal_needs() -> None:
    assert len({row.key for row in rows.ROWS}) == len(rows.ROWS)
    for row in rows.ROWS:
        json.loads(row.service.body)
        json.loads(row.service.answer)
        ideal = row.goal is not None and row.goal.against is Against.IDEAL
        assert math.isclose(row.ideal, 0.0) != ideal
    assert sum(row.goal is not None for row in rows.ROWS) == 10
    assert len(rows.TEN_KB) == 10_000


def test_rows_are_chosen_by_their_keys() -> None:
    assert [row.key for row in rows.selected("echo-1,batched-64")] == ["batched-64", "echo-1"]
    assert rows.selected("") == rows.ROWS
    with pytest.raises(BenchmarkError, match="no row is called 'echo'; there are: batched-64"):
        rows.selected("echo")


def test_a_service_is_started_once_for_all_its_rows() -> None:
    assert rows.services(rows.selected("echo-1,echo-64,sleep-32")) == [rows.ECHO, rows.SLEEP]


def test_a_server_offers_what_it_does_not_lack() -> None:
    lacking = Peer("a", "a", lacks=frozenset({"echo:2", "array"}))
    assert [lacking.offers(name) for name in ("echo", "echo:2", "array:1")] == [True, False, False]


def test_all_stands_for_every_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(peers.environments, "make", lambda name, requirement: made.append(name))
    monkeypatch.setattr(peers.metadata, "version", lambda name: "1")
    assert [peer.name for peer in peers.chosen("meshline,all")] == list(peers.PEERS)
    assert made == ["litserve", "ray", "triton"]


def test_a_row_that_nobody_ran_is_not_in_the_table() -> None:
    assert tables.table([ROW], []) == ""


def test_a_server_that_is_unknown_is_refused_by_name() -> None:
    with pytest.raises(BenchmarkError, match="no server is called 'nginx'; there are: meshline"):
        peers.chosen("nginx")


@pytest.mark.parametrize(
    ("command", "label"),
    [
        (["/x/python", "-P", "-m", "gateway", "--settings", "y"], "gateway"),
        (["/x/python", "-c", "from multiprocessing.spawn import spawn_main; ..."], "worker"),
        (["/x/python", "-c", "from multiprocessing.resource_tracker import main"], "tracker"),
        (["/x/python", "/y/services.py", "--port", "1"], "parent"),
        (["/x/bin/mosec", "/tmp/config.json"], "mosec"),
        (["ray::ServeReplica:default:Echo.__init__"], "ray::ServeReplica"),
        (["ray::ProxyActor.receive"], "ray::ProxyActor"),
    ],
)
def test_processes_are_labelled_by_what_they_do(command: list[str], label: str) -> None:
    assert processes.label(command) == label


def test_shares_are_per_process_and_count_those_that_came_later() -> None:
    before = {5: ("stage", 1.0), 3: ("gateway", 0.5), 4: ("gone", 1.0)}
    after = {5: ("stage", 2.0), 3: ("gateway", 1.5), 9: ("stage", 0.2)}
    assert processes.shares(before, after, 2.0) == {"gateway": [50.0], "stage": [50.0, 10.0]}


def test_without_wrk_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BenchmarkError, match="apt-get install wrk"):
        closed_loop.wrk_path()
