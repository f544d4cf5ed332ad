"""The benchmarks run from end to end: servers, both kinds of load, table, results, pictures."""

import json
import shutil
import subprocess
import sys

import pytest
from site_runs import ROOT

WRK = pytest.mark.skipif(shutil.which("wrk") is None, reason="no wrk: the closed loop needs it")


@WRK
def test_a_second_of_one_row_beside_mosec(tmp_path):
    command = [sys.executable, "-m", "benchmarks.compare", "--results", str(tmp_path)]
    flags = ["--rows", "echo-1", "--rounds", "1", "--seconds", "1", "--shares", "0.5"]
    run = subprocess.run([*command, *flags], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "meshline to mosec" in run.stdout
    assert "goal: p50 at most 1.150 × its; here " in run.stdout

    assert "echo-1: with keys to plain" in run.stdout

    (path,) = tmp_path.glob("*-compare-*.json")
    whole = json.loads(path.read_text())
    floor = [one["figure"] for one in whole["findings"] if one["measure"] == "floor"]
    http, hops, both, two_stages = floor
    assert 0 < http < both == http + hops < two_stages
    assert {"commit", "when", "machine", "servers"} <= set(whole)
    medians = {one["peer"]: one for one in whole["medians"]}
    assert set(medians) == {"meshline", "mosec"}
    for one in medians.values():
        assert one["errors"] == 0
        assert 0 < one["p50"] <= one["p99"] < 1e6
        assert one["rate"] == pytest.approx(1e6 / one["p50"], rel=0.9)  # one at a time
    assert {"gateway", "stage", "wrk"} <= set(medians["meshline"]["cpu"])
    for point in whole["points"]:
        assert point["failures"] == 0
        assert point["goodput"] > 0
    assert [(point["peer"], point["share"]) for point in whole["points"]] == [
        ("meshline", 0.5),
        ("mosec", 0.5),
    ]
    drawn = {each.name for each in path.with_suffix("").iterdir()}
    assert drawn == {"throughput.svg", "throughput.png", "latency.svg", "latency.png"}


@WRK
def test_a_start_and_a_replica_that_joins(tmp_path):
    command = [sys.executable, "-m", "benchmarks.scale", "--results", str(tmp_path)]
    flags = ["--only", "starts", "--times", "1"]
    run = subprocess.run([*command, *flags], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "of 2 goals reached" in run.stdout

    (path,) = tmp_path.glob("*-scale-*.json")
    found = json.loads(path.read_text())["findings"]
    assert [one["bound"] and one["bound"]["value"] for one in found] == [1, None, None, 0.5, None]
    assert all(0 < one["figure"] < 60 for one in found)
