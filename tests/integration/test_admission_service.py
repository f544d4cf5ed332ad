"""Whom a whole service lets in, what it tells the others, and what it makes of a restart."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest
from site_runs import PATIENCE, ROOT, is_running, running, service_text, settings, stage, until

from benchmarks.open_loop import Tally, percentile

CAPACITY = 300
# What each stage can do in a second. Once its route is full one waits 1.5, 2.5 or 4.5 s for it:
# never near a whole second, as what is told is rounded up to one.
ABLE = {"quick": 200, "even": 120, "slow": 67}

STAGES = {name: stage(name.title(), max_batch_size=able // 5) for name, able in ABLE.items()}
ROUTES = {f"/{name}": [name] for name in ABLE}


def offer(site, path, rate, seconds):
    """Start an open-loop load; `tally` waits for what became of it."""
    out = tempfile.TemporaryFile()  # noqa: SIM115 - `tally` closes it
    command = [sys.executable, "-m", "benchmarks.open_loop", site.url + path, "--json"]
    flags = ["--rate", str(rate), "--seconds", str(seconds)]
    return subprocess.Popen([*command, *flags], cwd=ROOT, stdout=out), out


def tally(load):
    process, out = load
    with out:
        assert process.wait(PATIENCE) == 0
        out.seek(0)
        return Tally(**json.load(out))


def test_how_long_to_wait_is_right_within_a_factor_of_two_at_three_loads(tmp_path):
    """Each route is full; how long what it let in at that time took is what was told then."""
    file = settings(STAGES, ROUTES, timeout="20s", capacity=CAPACITY)
    seconds, warm = 6.5, 2.5
    with running(tmp_path, service_text("sleepers"), file) as site:
        loads = {name: offer(site, f"/{name}", 4 * able, seconds) for name, able in ABLE.items()}
        tallies = {name: tally(load) for name, load in loads.items()}
    for name, load in tallies.items():
        assert load.lateness < 0.2, (name, load.lateness)
        assert set(load.statuses()) == {200, 429}, name
        settled = [answer for answer in load.answers if warm <= answer[0] < seconds - 1.0]
        took = sorted(took for _, took, status, _ in settled if status == 200)
        told = sorted({wait for _, _, status, wait in settled if status == 429})
        wait = percentile(took, 0.5)
        sys.stdout.write(f"{name}: told {told} s, measured {wait:.2f} s\n")
        assert wait == pytest.approx(CAPACITY / ABLE[name], rel=0.3)
        assert told
        assert wait / 2 <= told[0], (name, told, wait)
        assert told[-1] <= 2 * wait, (name, told, wait)


def test_who_would_be_too_late_is_told_at_once_and_the_others_are_in_time(tmp_path):
    file = settings(STAGES, ROUTES, timeout="1500ms", capacity=5000)
    with running(tmp_path, service_text("sleepers"), file) as site:
        load = offer(site, "/quick", 4 * ABLE["quick"], 5.0)
        threading.Event().wait(3.5)
        # Over two batches' time: just after one has left there is room for a moment.
        with ThreadPoolExecutor(20) as pool:
            told = list(pool.map(lambda n: ask(site, "/quick", after=0.02 * n), range(20)))
        found = tally(load)
    refused = [(status, body) for status, body in told if status == 429]
    assert refused
    for _, body in refused:
        assert body["error"]["code"] == "cannot_meet_deadline"
        assert body["error"]["retryable"]
    late = [answer for answer in found.answers if answer[0] > 3.0]
    statuses = [status for _, _, status, _ in late]
    assert set(statuses) <= {200, 429, 504}
    assert statuses.count(429) > len(late) / 2
    assert statuses.count(504) <= len(late) / 100  # a prediction, not a promise
    assert all(took < 1.0 for _, took, status, _ in late if status == 429)


def ask(site, path, value=1, after=0.0):
    """One request, so many seconds from now, by a client that tries once; status and JSON."""
    threading.Event().wait(after)
    status, _, body = site.send("POST", path, json.dumps(value).encode())
    return status, json.loads(body)


def test_requests_wait_through_a_restart_and_nobody_tries_twice(tmp_path):
    file = settings({"one": "Who"}, timeout="20s", restart_grace="15s")
    with running(tmp_path, service_text("echo"), file) as site, ThreadPoolExecutor(20) as pool:
        status, before = ask(site, "/inference")
        assert status == 200
        began = monotonic()
        os.kill(before, signal.SIGKILL)
        until(lambda: not is_running(before))
        asked = [pool.submit(ask, site, "/inference") for _ in range(20)]
        answers = [each.result(PATIENCE) for each in asked]
        sys.stdout.write(f"20 requests waited {monotonic() - began:.2f} s for a new replica\n")
    assert {status for status, _ in answers} == {200}
    [after] = {pid for _, pid in answers}
    assert after != before
