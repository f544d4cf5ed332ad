"""A replica as a real process, and what its loop does while the worker computes.

The gateway is a real core on a real network, turned by the test itself, so that it sees every
message and when it came.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import random
from time import monotonic

import pytest
from site_runs import service_text

from gateway.requests.core import GatewayCore
from gateway.requests.in_flight import Request
from mesh.config.settings import StageSettings
from mesh.links.events import Identity
from mesh.links.links import Links
from mesh.links.node import Node
from mesh.process.settings import ReplicaProcess
from mesh.process.worker_source import WorkerSource
from mesh.protocol.messages import BatchStats, OutcomeKind, Ping, Role
from mesh.transport.zeromq import ZmqNetwork

PATH = (("sleepy", "r"),)
SETTINGS = StageSettings(name="sleepy", worker="sleepy:Sleepy", kill_grace=0.5)


class Pair:
    """One gateway, turned here, and one replica, a process."""

    def __init__(self, folder):
        self.folder = folder
        self.log = folder / "forwards.txt"
        self.log.write_text("")
        self.epoll = select.epoll()
        self.ready = []
        self.network = ZmqNetwork(monotonic, self.watch, self.epoll.unregister)
        self.links = Links(Identity(77, Role.GATEWAY, timeout=3.0), random)
        self.core = GatewayCore(self.links, {"/inference": PATH}, 3, monotonic())
        self.node = Node(self.core, self.network)
        self.address = self.network.listen(f"ipc://{folder}/gateway.sock")
        self.answers, self.pings, self.stats = {}, [], []
        self.process = None
        delivered = self.core.delivered

        def spy(delivery, now):
            if type(delivery.message) is Ping:
                self.pings.append((now, delivery.message.queued))
            delivered(delivery, now)

        self.core.delivered = spy

    def watch(self, fd):
        self.epoll.register(fd, select.EPOLLIN)

    def start(self, limit=10.0, **settings):
        (self.folder / "sleepy.py").write_text(service_text("sleepy"))
        source = WorkerSource("Sleepy", module="sleepy", sys_path=(str(self.folder),))
        stage = replace(SETTINGS, **settings)
        process = ReplicaProcess("mesh", "r", stage, source, 1, (self.address,), limit)
        file = self.folder / "replica.json"
        file.write_text(json.dumps(process.to_json()))
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "stage", "--settings", file],
            env={**os.environ, "FORWARD_LOG": str(self.log)},
            process_group=0,
        )
        assert self.turn(30.0, lambda: not self.core.queues.missing), "the replica did not come"
        self.session = next(iter(self.links.sessions.values()))
        self.turn(0.1)
        return self

    def turn(self, seconds, until=lambda: False):
        end = monotonic() + seconds
        while not until():
            now = monotonic()
            if now >= end:
                return False
            self.node.turn(now, self.ready)
            for request, outcome in self.core.take_ended():
                assert request.number not in self.answers
                self.answers[request.number] = outcome
            self.stats += [each for each in self.core.stats if type(each) is BatchStats]
            self.core.stats.clear()
            if until():
                break
            wait = 0.0 if self.network.is_pending() else min(self.node.next_due(), end) - now
            self.ready = [fd for fd, _ in self.epoll.poll(min(max(wait, 0.0), 0.05))]
        return True

    def submit(self, how="sleep", seconds=0.0, deadline=30.0):
        number = self.core.in_flight.next_number()
        now = monotonic()
        body = json.dumps([number, how, seconds]).encode()
        self.core.submit(
            Request(77, number, PATH, 0, 1, now + deadline, [body], len(body), arrived=now)
        )
        return number

    def answered(self, *numbers, within=10.0):
        assert self.turn(within, lambda: all(n in self.answers for n in numbers)), "no answer"
        return [self.answers[n] for n in numbers]

    def forwards(self):
        """The requests that each `forward` so far was called with."""
        lines = self.log.read_text().splitlines()
        return [[int(number) for number in line.split()] for line in lines]

    def computing(self, number):
        assert self.turn(5.0, lambda: any(number in batch for batch in self.forwards()))

    def received(self):
        """Whether the replica has acked all that was sent to it."""
        return self.session.stream.is_idle()

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.network.close()
        self.epoll.close()


@pytest.fixture
def site(tmp_path):
    with contextlib.closing(Pair(tmp_path)) as made:
        yield made


def kinds(outcomes):
    return [(outcome.kind, outcome.label) for outcome in outcomes]


def test_the_network_is_served_during_a_long_forward(site):
    site.start(max_batch_size=4)
    first = site.submit(seconds=2.0)
    site.computing(first)
    site.pings.clear()
    began = monotonic()
    site.turn(0.3)
    later = [site.submit() for _ in range(3)]
    spent = site.session.stream.granted
    assert site.turn(0.3, lambda: bool(spent.used_tasks == 4 and site.received()))
    assert site.turn(0.4, lambda: site.pings[-1][1] == 3), "the next batch does not wait there"
    site.core.gone(later[1])
    assert site.turn(0.6, lambda: site.pings[-1][1] == 2), "the CANCEL was not seen"
    assert site.received()
    assert first not in site.answers
    site.answered(first)
    ended = monotonic()
    assert ended - began < 2.5
    site.answered(later[0], later[2])
    assert site.forwards() == [[first], [later[0], later[2]]]
    heard = [began, *(at for at, _ in site.pings if at < ended), ended]
    assert max(after - before for before, after in pairwise(heard)) < 1.2


def test_the_first_word_of_an_end_is_heard_during_a_forward(site):
    site.start(max_batch_size=2)
    number = site.submit(seconds=2.0)
    site.computing(number)
    queued = [site.submit() for _ in range(3)]
    assert site.turn(0.5, lambda: site.session.stream.granted.used_tasks == 4 and site.received())
    site.process.send_signal(signal.SIGTERM)
    assert site.turn(0.1, lambda: site.session.draining), "DRAIN took longer than 100 ms"
    requests = site.core.in_flight.requests
    assert site.turn(0.1, lambda: not any(requests[n].holder for n in queued)), "not given back"
    assert site.forwards() == [[number]]
    assert number not in site.answers
    assert kinds(site.answered(number)) == [(OutcomeKind.RESULT, "")]
    assert site.turn(2.0, lambda: site.process.poll() is not None)
    assert site.process.returncode == 0
    assert site.core.queues.missing


def test_a_second_signal_ends_it_at_once(site):
    site.start()
    site.computing(site.submit(seconds=5.0))
    site.process.send_signal(signal.SIGTERM)
    site.turn(0.3)
    site.process.send_signal(signal.SIGTERM)  # the same, for all that it knows
    site.turn(1.0)
    assert site.process.poll() is None
    site.process.send_signal(signal.SIGTERM)
    assert site.process.wait(1.0) == 128 + signal.SIGTERM


def test_an_idle_replica_ends_quickly(site):
    site.start()
    site.process.send_signal(signal.SIGTERM)
    began = monotonic()
    assert site.turn(2.0, lambda: site.process.poll() is not None)
    assert monotonic() - began < 1.0
    assert site.process.returncode == 0
    assert not site.core.counts.retries


def test_a_forward_over_its_limit_is_interrupted_and_the_replica_lives(site):
    site.start(limit=0.4, max_batch_size=2)
    slow = [site.submit(seconds=5.0), site.submit()]
    site.computing(slow[0])
    good = site.submit()
    late, done = site.answered(*slow, within=3.0)
    assert kinds([late, done]) == [
        (OutcomeKind.FAILURE, "forward_timeout"),
        (OutcomeKind.RESULT, ""),
    ]
    assert kinds(site.answered(good)) == [(OutcomeKind.RESULT, "")]
    assert [slow[1]] in site.forwards()  # its mate runs again, alone
    assert site.process.poll() is None
    assert len(site.links.sessions) == 1


def test_each_of_several_single_forwards_has_the_whole_limit(site):
    site.start(limit=0.4)
    quick = [site.submit() for _ in range(50)]  # so that singles are bundled
    site.answered(*quick)
    numbers = [site.submit(seconds=5.0), site.submit(seconds=5.0), site.submit()]
    outcomes = site.answered(*numbers, within=5.0)
    late = (OutcomeKind.FAILURE, "forward_timeout")
    assert kinds(outcomes) == [late, late, (OutcomeKind.RESULT, "")]
    assert site.process.poll() is None


def test_a_slow_one_does_not_hold_up_the_others_of_its_bundle(site):
    site.start(limit=5.0)
    for _ in range(20):  # until it knows how short they are
        site.answered(*[site.submit() for _ in range(10)])
    before = [site.submit(), site.submit()]
    slow = site.submit(seconds=1.0)
    after = site.submit()
    site.answered(*before, within=0.5)
    assert site.turn(0.2, lambda: [slow] in site.forwards())
    site.core.gone(after)  # it waits again, and leaves
    site.answered(slow)
    site.answered(site.submit())
    assert [after] not in site.forwards()


@pytest.mark.parametrize("how", ["deaf", "stubborn"])
def test_one_that_cannot_be_interrupted_is_killed(site, how):
    site.start(limit=0.4)
    number = site.submit(how, seconds=20.0)
    site.computing(number)
    assert site.turn(3.0, lambda: site.process.poll() is not None)
    assert site.process.returncode == -signal.SIGKILL
    assert site.turn(1.0, lambda: site.core.counts.retries["lost"] == 1)


def test_a_fault_in_the_second_thread_ends_the_replica_and_is_logged(site, capfd):
    site.start()
    site.submit("sabotage", seconds=20.0)
    assert site.turn(5.0, lambda: site.process.poll() is not None)
    assert site.process.returncode == -signal.SIGKILL
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "ZeroDivisionError" in line]
    assert "terminating this replica" in json.loads(line)["message"]


def test_forward_is_called_once_per_batch(site):
    site.start(max_batch_size=8)
    block = site.submit(seconds=0.2)
    site.computing(block)
    numbers = [site.submit() for _ in range(8)]
    site.answered(*numbers)
    assert site.forwards() == [[block], numbers]
    assert site.turn(1.0, lambda: [each.size for each in site.stats] == [1, 8])


def test_short_forwards_are_answered_together(site):
    site.start()
    for _ in range(20):  # until it knows how short they are
        site.answered(*[site.submit() for _ in range(10)])
    assert site.turn(1.0, lambda: any(each.size > 1 for each in site.stats))
    assert all(len(batch) == 1 for batch in site.forwards())


def switches(process):
    """How often the main thread and our other threads gave up the processor, to wait."""
    found = {"main": 0, "others": 0}
    for thread in Path(f"/proc/{process.pid}/task").iterdir():
        lines = (thread / "status").read_text().splitlines()
        about = dict(line.split(":", 1) for line in lines)
        if not about["Name"].strip().startswith("ZMQ"):
            place = "main" if int(thread.name) == process.pid else "others"
            found[place] += int(about["voluntary_ctxt_switches"])
    return found


def waits(site, act):
    """What `switches` counts while `act` runs, and the seconds that this took."""
    before, began = switches(site.process), monotonic()
    act()
    seconds, after = monotonic() - began, switches(site.process)
    return after["main"] - before["main"], after["others"] - before["others"], seconds


def test_a_lone_request_wakes_the_main_thread_alone(site):
    """The stand-in wakes by its own clock while requests come, and not for any of them."""
    site.start()
    site.answered(site.submit())
    main, others, seconds = waits(site, lambda: [site.answered(site.submit()) for _ in range(400)])
    assert main >= 200
    # A wake-up by the clock may count thrice: for the clock, and for the interpreter's lock.
    assert others <= 3 * seconds / 0.020 + 40


def test_a_quiet_replica_sleeps(site):
    site.start()
    site.answered(site.submit())
    site.turn(1.5)
    main, others, seconds = waits(site, lambda: site.turn(2.0))
    assert others <= 2
    assert main <= 15 * seconds  # it answers a PING each quarter of a second
