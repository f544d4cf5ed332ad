"""Five times what a service can do: it does all that it can, and says no to the rest at once.

A few seconds of it by default; `make overload` takes a minute (`OVERLOAD_SECONDS`).
"""

import json
import os
import subprocess
import sys
import tempfile
from threading import Event

import pytest
from site_runs import ROOT, rss, running, service_text, settings, stage

from benchmarks.open_loop import Tally, percentile, report

SECONDS = float(os.environ.get("OVERLOAD_SECONDS", "12"))
ABLE = 800  # requests per second that the service can do
OFFERED = 5 * ABLE
WARM = 3.0  # seconds until the route is full and its pace is known
FILE = settings({"sleeper": stage("Quickest", max_batch_size=160)}, timeout="5s")


@pytest.fixture
def service(tmp_path):
    """The port of a running service, and its gateway's process id."""
    with running(tmp_path, service_text("sleepers"), FILE) as site:
        yield site.port, site.pid


def overload(port, pid):
    """Put the load on; returns what came back, and the gateway's size once a second."""
    url = f"http://127.0.0.1:{port}/inference"
    command = [sys.executable, "-m", "benchmarks.open_loop", url, "--json"]
    flags = ["--rate", str(OFFERED), "--seconds", str(SECONDS)]
    sizes = []
    with tempfile.TemporaryFile() as out:
        load = subprocess.Popen([*command, *flags], cwd=ROOT, stdout=out)
        try:
            while load.poll() is None:
                Event().wait(1.0)
                sizes.append(rss(pid))
        finally:
            load.kill()
            load.wait()
        out.seek(0)
        assert load.returncode == 0
        return Tally(**json.load(out)), sizes


def test_five_times_too_much(service):
    tally, sizes = overload(*service)
    goodput = tally.goodput(WARM, SECONDS)
    sys.stdout.write(
        f"{report(tally)}\n"
        f"goodput     {goodput:.0f}/s of {ABLE} from second {WARM:.0f} on\n"
        f"gateway     {', '.join(f'{size / 2**20:.1f}' for size in sizes)} MiB\n"
    )

    # It was the service that was measured: the generator kept up with what it had to send.
    assert tally.lateness < 0.1, tally.lateness
    assert len(tally.answers) >= 0.98 * OFFERED * SECONDS

    # Nothing is lost, and there are two kinds of answer.
    assert (tally.broken, tally.unanswered) == (0, 0)
    assert set(tally.statuses()) == {200, 429}

    # It does what it can.
    assert goodput >= 0.95 * ABLE, goodput

    # Those who were let in wait as long at the end as at the beginning.
    middle = (WARM + SECONDS) / 2
    early, late = (tally.served(*span) for span in ((WARM, middle), (middle, SECONDS)))
    assert percentile(late, 0.99) <= 1.25 * percentile(early, 0.99)
    assert percentile(late, 0.99) <= 2.0  # 1.28 s: what is inside, by what leaves

    # Those who were not are told how long that is, within a factor of two.
    settled = [answer for answer in tally.answers if WARM <= answer[0] < SECONDS - 2.0]
    waits = sorted(took for _, took, status, _ in settled if status == 200)
    told = {wait for _, _, status, wait in settled if status == 429}
    assert told
    assert min(told) >= percentile(waits, 0.5) / 2, told
    assert max(told) <= percentile(waits, 0.5) * 2, told

    # And the gateway does not grow, once every connection has been used and tables are full.
    warmed = int(max(WARM, SECONDS / 3))
    assert max(sizes[warmed:]) <= sizes[warmed] * 1.05 + (4 << 20), sizes
    assert max(sizes) <= 110 << 20, sizes
