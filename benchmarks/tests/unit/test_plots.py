"""What the benchmarks' pictures show."""

from benchmarks import plots


def point(service: str, peer: str, offered: float, p50: float) -> dict[str, object]:
    return {"service": service, "peer": peer, "offered": offered, "p50": p50, "p99": 2 * p50}


def test_bars_stand_in_the_tables_order_and_meshline_comes_first() -> None:
    keys, peers = plots.bars(
        [
            {"row": "echo-1", "peer": "mosec", "rate": 5.0},
            {"row": "batched-64", "peer": "mosec", "rate": 6.0},
            {"row": "echo-1", "peer": "meshline", "rate": 7.0},
        ]
    )
    assert keys == ["batched-64", "echo-1"]
    assert list(peers.items()) == [("meshline", [0.0, 7.0]), ("mosec", [6.0, 5.0])]


def test_lines_go_by_load_each_in_its_services_picture() -> None:
    found = plots.lines(
        [
            point("echo", "mosec", 200, 3),
            point("echo", "mosec", 100, 1),
            point("echo", "meshline", 50, 2),
            point("sleep:1", "mosec", 10, 9),
        ]
    )
    assert found == {
        "echo": {"meshline": [(50, 2, 4)], "mosec": [(100, 1, 2), (200, 3, 6)]},
        "sleep:1": {"mosec": [(10, 9, 18)]},
    }
    assert list(found["echo"]) == ["meshline", "mosec"]


def test_the_caption_owns_up_to_a_busy_machine() -> None:
    machine = {"cores": 2, "cpu": "CPU", "load_before": 0.4}
    assert plots.caption({"commit": "abc", "machine": machine}) == "commit abc, 2 × CPU"
    busy = plots.caption({"commit": "abc", "machine": machine | {"load_before": 7.46}})
    assert busy == "commit abc, 2 × CPU, which others used as well (load 7.5)"
