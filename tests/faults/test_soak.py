"""Faults of all kinds, one after the other at random, for as long as is wanted: `make soak`.

One host of three is harmed. Poison takes two replicas along, wherever they are; one is left. What
lives from the beginning to the end must be as large at the end as it was.
"""

import os
import random
import signal
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import linear_regression, median
from time import monotonic

import pytest
from fleet import STAGES, send
from load import Load
from site_runs import rss
from test_bad_forwards import asked
from test_harmed_links import through
from test_rude_clients import vanish

MINUTES = float(os.environ.get("SOAK_MINUTES", "1"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
GROWTH = 1.0  # MiB a minute that a process may grow once it has served for a while
WARM = 0.4  # of the time, after which growth counts


class Storm:
    """The faults, each of which ends with everything in its place again."""

    def __init__(self, made, proxies, load):
        self.made, self.proxies, self.load = made, proxies, load
        self.chance = random.Random(SEED)
        self.counts = defaultdict(int)

    def strike(self):
        """One fault, and wait until the service is whole."""
        faults = [
            self.kill, self.kill_host, self.freeze, self.cut, self.dark, self.slow, self.stop,
            self.poison, self.hang, self.vanish,
        ]  # fmt: skip
        fault = self.chance.choice(faults)
        self.counts[fault.__name__] += 1
        fault()
        self.made.until_whole()
        self.load.run(self.chance.uniform(0.1, 1.0))

    def host(self):
        return f"{self.chance.choice(STAGES)}@1"

    def renew(self, name):
        self.made.hosts[name].wait(30.0)
        self.made.wanted[name.partition("@")[0]] -= 1
        self.made.add_host(name, gateways=[f"tcp://127.0.0.1:{self.proxies[1].port}"])

    def kill(self):
        for pid in self.made.children(self.host()):
            send(pid, signal.SIGKILL)
        self.load.run(0.3)

    def kill_host(self):
        name = self.host()
        self.made.hosts[name].kill()
        self.renew(name)

    def freeze(self):
        pids = self.made.children(self.host())
        for pid in pids:
            send(pid, signal.SIGSTOP)
        self.load.run(self.chance.uniform(0.1, 4.0))
        for pid in pids:
            send(pid, signal.SIGCONT)

    def cut(self):
        for _ in range(self.chance.randrange(1, 6)):
            for proxy in self.proxies:
                proxy.cut()
            self.load.run(self.chance.uniform(0.0, 0.3))

    def dark(self):
        holes = self.chance.choice([{"up"}, {"down"}, {"up", "down"}])
        self.proxies[1].holes = holes
        self.load.run(self.chance.uniform(0.1, 4.0))
        self.proxies[1].holes = set()

    def slow(self):
        self.proxies[1].delay = 0.05
        self.load.run(1.0)
        self.proxies[1].delay = 0.0

    def stop(self):
        name = self.host()
        self.made.hosts[name].terminate()
        self.renew(name)

    def poison(self):
        at = self.chance.choice(STAGES)
        status, got = asked(self.made.port, 3, at=at, deed="poison")
        assert (status, got) == (500, "poison_request")

    def hang(self):
        at = self.chance.choice(STAGES)
        assert asked(self.made.port, 3, at=at, deed="hang")[0] == 504

    def vanish(self):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: vanish(self.made.port, SEED + n, 25), range(4)))


class Sizes:
    """What each process takes: resident MiB, descriptors, threads; over time."""

    def __init__(self):
        self.seen = defaultdict(list)
        self._began = monotonic()

    def look(self, pids):
        minutes = (monotonic() - self._began) / 60
        for pid, name in pids.items():
            folder = Path(f"/proc/{pid}")
            try:
                sizes = rss(pid) / 2**20, len(list((folder / "fd").iterdir()))
                threads = len(list((folder / "task").iterdir()))
            except OSError:  # a poison request came to it
                self.seen.pop((pid, name), None)
            else:
                self.seen[pid, name].append((minutes, *sizes, threads))

    def slopes(self):
        """Per process: growth of each, a minute, once it was warm; and what it was at the end."""
        for (_, name), rows in self.seen.items():
            late = [row for row in rows if row[0] >= rows[-1][0] * WARM]
            times = [row[0] for row in late]
            yield (
                name,
                [
                    (linear_regression(times, [row[at] for row in late]).slope, rows[-1][at])
                    for at in (1, 2, 3)
                ],
            )

    def __str__(self):
        return "\n".join(
            f"{name:20} {mib:6.1f} MiB {growth:+.2f}/min   {fds:3} descriptors {more:+.2f}/min"
            f"   {threads:2} threads {extra:+.2f}/min"
            for name, ((growth, mib), (more, fds), (extra, threads)) in self.slopes()
        )


@pytest.mark.chaos
@pytest.mark.timeout(0)
def test_soak(tmp_path, unharmed, capsys):
    end = monotonic() + 60 * MINUTES
    with through(tmp_path, count=3, limit="1s") as (made, proxies):
        lasting = {made.gateways[made.port].pid: "gateway"}
        for stage in STAGES:
            name = f"{stage}@0"
            lasting[made.hosts[name].pid] = f"supervisor of {stage}"
            lasting |= dict.fromkeys(made.children(name), f"replica of {stage}")
        fixed = {pid for pid, name in lasting.items() if not name.startswith("replica")}
        sizes = Sizes()
        with Load([made.port], connections=6, pause=0.01) as load:
            load.warm()
            storm = Storm(made, proxies, load)
            while monotonic() < end:
                sizes.look(lasting)
                storm.strike()
            load.run(1.0)
            sizes.look(lasting)
        counts = ", ".join(f"{name} {count}" for name, count in sorted(storm.counts.items()))
        with capsys.disabled():
            sys.stdout.write(f"\n{MINUTES:g} min, seed {SEED}: {counts}\n{sizes}\n")
        unharmed(f"{sum(storm.counts.values())} faults in {MINUTES:g} min", made, load, full=False)
        assert {pid for pid, _ in sizes.seen} >= fixed
        if MINUTES >= 5:  # less says nothing
            for name, slopes in sizes.slopes():
                assert max(slope for slope, _ in slopes) < GROWTH, (name, slopes)
        assert median(took for _, took in load.tally.answers) < 1.0
