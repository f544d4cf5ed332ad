"""Processes that are killed, stopped, started again, or that die of themselves."""

import json
import os
import signal
import threading
import time
import urllib.request

import pytest
from fleet import STAGES, answer, fleet, parent, send
from load import Load, under_load

SLEEP = 0.4  # seconds of the forward in which a replica is killed
TRIES = 2
TIMES = 12  # about a minute


def ask(port, number, **more):
    """One request by itself; returns the seconds that it took."""
    body = json.dumps({"n": number, **more}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/inference", data=body)
    began = time.monotonic()
    with urllib.request.urlopen(request, timeout=60.0) as got:
        assert json.loads(got.read())["n"] == answer(number)
    return time.monotonic() - began


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """For faults that leave it as it was."""
    with fleet(tmp_path_factory.mktemp("fleet")) as made:
        yield made


@pytest.mark.parametrize("stage", ["first", "second"])
def test_a_replica_is_killed_amid_a_batch(shared, unharmed, stage):
    with under_load(shared, unharmed, f"SIGKILL of one of two replicas of `{stage}`") as load:
        send(shared.pids(stage)[0], signal.SIGKILL)
        load.run(1.0)


def test_neighbours_in_the_pipeline_are_killed_together(shared, unharmed):
    with under_load(shared, unharmed, "SIGKILL of a replica of each stage at once") as load:
        victims = [shared.pids(stage)[0] for stage in ("first", "second")]
        for pid in victims:
            send(pid, signal.SIGKILL)
        load.run(1.0)


def begun_again(shared, kill):
    """Seconds from a death amid a forward until the forward had begun elsewhere, about."""
    took = []
    asked = {"at": "first", "deed": "sleep", "seconds": SLEEP}
    thread = threading.Thread(target=lambda: took.append(ask(shared.port, 5, **asked)))
    usual = min(ask(shared.port, 5, **asked) for _ in range(2))
    began = time.monotonic()
    thread.start()
    shared.until(lambda: holder(shared), "somebody computes")
    time.sleep(SLEEP / 2)
    victim = holder(shared)
    kill(victim)
    died = time.monotonic() - began
    thread.join()
    (shared.folder / f"computing.{victim}").unlink()
    return took[0] - died - usual


def holder(shared):
    """The replica that computes now, 0 if none does."""
    return next((int(path.suffix[1:]) for path in shared.folder.glob("computing.*")), 0)


def kill_replica(pid):
    send(pid, signal.SIGKILL)


def kill_with_supervisor(pid):
    for victim in (parent(pid), pid):
        send(victim, signal.SIGKILL)


def restore(shared):
    for name, process in list(shared.hosts.items()):
        if process.poll() is not None:
            shared.wanted[name.partition("@")[0]] -= 1
            shared.add_host(name)
    shared.until_whole()


@pytest.mark.parametrize("kill", [kill_replica, kill_with_supervisor])
def test_what_the_dead_held_is_begun_again_at_once(shared, unharmed, kill):
    delays = []
    for _ in range(TRIES):
        delays.append(begun_again(shared, kill))
        restore(shared)
    told = "by its supervisor" if kill is kill_replica else "by its link alone"
    unharmed.tell(f"begun again after a death told {told}", *["-"] * 7, f"{min(delays):.3f} s")
    # Without a refused probe a link has 0.1 s to come back before its replica is taken for dead.
    assert min(delays) < 0.05, delays


def test_a_supervisor_is_killed(shared, unharmed):
    with under_load(shared, unharmed, "SIGKILL of a supervisor") as load:
        send(shared.hosts["first@1"].pid, signal.SIGKILL)
        shared.hosts["first@1"].wait()
        load.run(1.0)
        restore(shared)


def test_a_replica_stands_still_and_goes_on(shared, unharmed):
    with under_load(shared, unharmed, "SIGSTOP of a replica for 3 s") as load:
        pid = shared.pids("second")[0]
        send(pid, signal.SIGSTOP)
        load.run(3.0)
        send(pid, signal.SIGCONT)
        load.run(0.5)


def all_pids(shared):
    return [pid for stage in STAGES for pid in shared.pids(stage)]


@pytest.mark.chaos
def test_hosts_are_told_to_stop_one_after_the_other(shared, unharmed):
    with under_load(shared, unharmed, "SIGTERM of every supervisor in turn"):
        for name in list(shared.hosts):
            shared.hosts[name].terminate()
            assert shared.hosts[name].wait(20.0) == 0
            restore(shared)


@pytest.mark.chaos
def test_replicas_are_told_to_stop_one_after_the_other(shared, unharmed):
    with under_load(shared, unharmed, "SIGTERM of every replica in turn"):
        for stage in STAGES:
            for pid in shared.pids(stage):
                send(pid, signal.SIGTERM)
                shared.until(lambda pid=pid: pid not in all_pids(shared), "it has left")
                shared.until_whole()


@pytest.mark.chaos
def test_a_stage_grows_and_shrinks_for_a_minute(tmp_path, unharmed):
    what = f"a stage from 1 to 5 replicas and back, {TIMES} times"
    with fleet(tmp_path, replicas=1) as made, under_load(made, unharmed, what) as load:
        for _ in range(TIMES):
            names = [f"second@{number}" for number in range(2, 6)]
            for name in names:
                made.add_host(name)
            made.until_whole()
            load.run(0.5)
            for name in names:
                made.remove_host(name)


@pytest.mark.chaos
@pytest.mark.parametrize("fate", ["crash", "unborn", "fork"])
def test_a_replica_that_is_not_well_joins(tmp_path, unharmed, fate):
    what = {
        "crash": "a replica that crashes 0.5 s after it was constructed, again and again",
        "unborn": "a replica whose worker cannot be constructed",
        "fork": "SIGKILL of a replica whose forked child holds its sockets",
    }[fate]
    with fleet(tmp_path) as made:
        with under_load(made, unharmed, what) as load:
            made.add_host("first@9", FAULT_FATE=fate)
            if fate == "fork":
                made.until_whole()
                send(made.children("first@9")[0], signal.SIGKILL)
            load.run(3.0)
            made.remove_host("first@9", code=None)
        if fate == "unborn":
            assert made.log().count("the device is not there") < 10
        for pid in made.processes():
            if pid not in known(made):
                os.kill(pid, signal.SIGKILL)  # the forked child, which is the user's own


def known(made):
    """Processes that the fleet runs."""
    ours = [*made.gateways.values(), *made.hosts.values()]
    pids = {process.pid for process in ours}
    return pids | {pid for name in made.hosts for pid in made.children(name)}


@pytest.mark.parametrize("how", ["SIGKILL", pytest.param("SIGTERM", marks=pytest.mark.chaos)])
def test_one_gateway_of_two_ends(tmp_path, unharmed, how):
    with fleet(tmp_path, gateways=2) as made:
        doomed, other = made.gateways
        with Load([other]) as load, Load([doomed]) as lost:
            load.warm()
            made.gateways[doomed].send_signal(getattr(signal, how))
            made.gateways[doomed].wait(20.0)
            lost.stop()
            load.run(2.0)
        del made.gateways[doomed]
        unharmed(f"{how} of the other gateway of two", made, load)
        # Its own clients are refused from then on; what it had accepted is lost by SIGKILL only.
        assert lost.tally.failed
        assert not lost.tally.wrong


def test_requests_with_the_default_timeout_outlast_a_replica_that_stands_still(tmp_path, unharmed):
    what = "SIGSTOP of a replica for 4 s, requests with the default timeout of 3 s"
    with (
        fleet(tmp_path, timeout="3s", limit="3s") as made,
        under_load(made, unharmed, what) as load,
    ):
        pid = made.pids("first")[0]
        send(pid, signal.SIGSTOP)
        load.run(4.0)
        send(pid, signal.SIGCONT)
        load.run(0.5)


def test_a_forward_is_not_blamed_for_the_time_its_process_stood_still(tmp_path, unharmed):
    slow = {"FAULT_PAUSE": "0.1"}
    with (
        fleet(tmp_path, replicas=1, limit="1s", variables=slow) as made,
        Load([made.port], connections=1) as load,
    ):
        load.warm()
        for _ in range(2):
            (pid,) = made.pids("first")
            send(pid, signal.SIGSTOP)
            load.run(1.3)
            send(pid, signal.SIGCONT)
            load.run(0.3)
            made.until_whole()
        load.stop()
        unharmed("SIGSTOP of the only replica for longer than a forward may take", made, load)


@pytest.mark.chaos
@pytest.mark.parametrize("seconds", [6.0, 10.0])
@pytest.mark.parametrize("who", ["gateway", "replica"])
def test_a_process_stands_still_for_long(shared, unharmed, who, seconds):
    pid = shared.gateways[shared.port].pid if who == "gateway" else shared.pids("first")[0]
    with under_load(shared, unharmed, f"SIGSTOP of a {who} for {seconds:g} s") as load:
        send(pid, signal.SIGSTOP)
        load.run(seconds)
        send(pid, signal.SIGCONT)
        load.run(0.5)
