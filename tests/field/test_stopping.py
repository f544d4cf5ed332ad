"""Signals that reach more than the supervisor, and handlers that a worker replaces."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import monotonic

import pytest
from site_runs import MESH, PATIENCE, running, service_text, settings, stage

STEPS = service_text("steps")


def pipeline(**first):
    stages = {"first": stage("First", max_batch_size=4, **first), "second": SECOND}
    return settings(stages, timeout="30s")


SECOND = stage("Second", max_batch_size=4)
PIPELINE = pipeline()
MANY = 30


@contextmanager
def asked(site, count=MANY):
    """So many requests, all of them inside the service."""
    with ThreadPoolExecutor(count) as pool:

        def ask(number):
            with site.client() as client:
                return client.post("/inference", [number])

        futures = [pool.submit(ask, number) for number in range(count)]
        site.until(lambda: site.taken_in() == count, "they do not come in")
        yield futures


def inside(site):
    return site.metric("mesh_remaining_task")


def answers(futures):
    return [future.result(PATIENCE).status for future in futures]


def send(pids, number):
    for pid in pids:
        os.kill(pid, number)


def send_all(site, number, order=sorted):
    """A signal to every process of the service."""
    site.told = True
    send(order(site.processes()), number)


@pytest.mark.parametrize("order", [sorted, lambda pids: sorted(pids, reverse=True)])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_every_process_at_once_loses_nothing(tmp_path, number, order):
    with running(tmp_path, STEPS, PIPELINE) as site:
        assert len(site.processes()) == 4
        with asked(site) as futures:
            send_all(site, number, order)
            assert answers(futures) == [200] * MANY, site.log()
        assert site.service.wait(PATIENCE) == 0
        assert '"warning"' not in site.log(), site.log()


def test_replicas_that_are_told_before_their_supervisor_are_not_lost(tmp_path):
    """A signal to all arrives at one after the other, on a busy machine with pauses."""
    with running(tmp_path, STEPS, PIPELINE) as site, asked(site) as futures:
        send(site.replicas(), signal.SIGTERM)
        threading.Event().wait(0.1)
        send([site.pid], signal.SIGTERM)
        threading.Event().wait(0.05)
        site.stop()
        assert answers(futures) == [200] * MANY, site.log()


def test_two_signals_within_a_second_are_one_stop(tmp_path):
    with running(tmp_path, STEPS, PIPELINE) as site, asked(site) as futures:
        everyone = site.processes()
        site.stop()
        for _ in range(2):
            send(everyone, signal.SIGTERM)
        assert answers(futures) == [200] * MANY, site.log()


def test_one_replica_that_is_stopped_alone_loses_nothing_and_comes_back(tmp_path):
    with running(tmp_path, STEPS, pipeline(replicas=2)) as site:
        before = set(site.replicas())
        with asked(site) as futures:
            stopped = next(iter(before))
            send([stopped], signal.SIGTERM)
            assert answers(futures) == [200] * MANY, site.log()
        site.until(lambda: len(set(site.replicas()) - before) == 1, "none came for it")
        site.until(lambda: stopped not in site.replicas(), "it did not end")
        assert "exited with code 0; restart in" in site.log()


def test_a_replica_whose_supervisor_stands_still_serves_on(tmp_path):
    with running(tmp_path, STEPS, PIPELINE) as site, asked(site) as futures:
        os.kill(site.service.pid, signal.SIGSTOP)
        try:
            send([*site.replicas(), site.pid], signal.SIGTERM)
            assert answers(futures) == [200] * MANY, site.log()
        finally:
            os.kill(site.service.pid, signal.SIGCONT)


def test_a_replica_that_was_told_ends_with_its_supervisor(tmp_path):
    with running(tmp_path, STEPS, PIPELINE, ends=-signal.SIGKILL) as site:
        os.kill(site.service.pid, signal.SIGSTOP)
        send(site.replicas(), signal.SIGTERM)
        os.kill(site.service.pid, signal.SIGKILL)
        site.until(lambda: not site.processes(), "somebody stayed")


REPLACED = service_text("replaces_signals")
ODD = stage("Odd", timeout="2s", kill_grace="20s")
FILE = settings({"odd": ODD}, timeout="30s")
HOWS = ["handled", "ignored", "default", "wakeup", "asyncio", "blocked"]


@pytest.fixture
def odd(tmp_path):
    with running(tmp_path, REPLACED, FILE) as site:  # for each: a slot that dies often waits longer
        yield site


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("idle", [False, True])
def test_a_replica_whose_handlers_were_replaced_drains(odd, how, idle):
    """Looked at again before a forward a second later, or where it has nothing to do."""
    with odd.client() as client:
        (before,) = odd.replicas()
        assert client.infer([how, 0]) == before
        threading.Event().wait(2.2 if idle else 1.1)
        if idle:
            send([before], signal.SIGTERM)
        else:
            with ThreadPoolExecutor(1) as pool:
                asking = pool.submit(client.infer, ["", 0.6])
                odd.until(lambda: inside(odd) == 1, "not computing")
                threading.Event().wait(0.1)
                send([before], signal.SIGTERM)
                assert asking.result(PATIENCE) == before
        odd.until(lambda: odd.replicas() and before not in odd.replicas(), "it did not end")
        client.wait_ready(PATIENCE)
    assert "was killed by" not in odd.log()
    assert "exited with code 1" not in odd.log()


@pytest.mark.parametrize("how", HOWS)
def test_the_order_to_stop_needs_no_signal(tmp_path, how):
    with running(tmp_path, REPLACED, FILE) as site:
        with site.client() as client, ThreadPoolExecutor(1) as pool:
            asking = pool.submit(client.post, "/inference", [how, 1.0])
            site.until(lambda: inside(site) == 1, "not computing")
            began = monotonic()
            site.stop()
            assert asking.result(PATIENCE).status == 200
        assert site.service.wait(PATIENCE) == 0, site.log()
        assert monotonic() - began < 4.0
        assert "draining" in site.log()


@pytest.mark.parametrize("how", ["handled", "default", "ignored", "interrupt alone"])
def test_a_forward_is_still_interrupted_where_the_worker_replaced_the_signal(odd, how):
    with odd.client() as client:
        (before,) = odd.replicas()
        client.infer([how, 0])  # too short to be looked at for its length
        late = client.post("/inference", ["", 10.0])
        assert late.status == 504
        assert client.infer(["", 0]) == before
    assert "SIGUSR1" in odd.log()


def test_a_forward_that_replaces_the_signal_itself_does_not_end_the_replica_early(tmp_path):
    file = settings({"odd": ODD | {"kill_grace": "1s"}}, timeout="30s")
    with running(tmp_path, REPLACED, file) as site, site.client() as client:
        began = monotonic()
        assert client.post("/inference", ["default", 2.5]).ok
        assert monotonic() - began >= 2.5


def test_a_service_that_was_started_with_the_interrupt_ignored_says_so(tmp_path):
    ignoring = ["env", "--ignore-signal=INT", MESH, "up"]
    with running(tmp_path, STEPS, PIPELINE, ignoring) as site:
        assert "Ctrl-C (SIGINT) is ignored" in site.log()
        send(site.processes(), signal.SIGINT)
        with site.client() as client:
            assert client.post("/inference", [1]).ok


@pytest.mark.parametrize("blocked", ["--block-signal=TERM", "--ignore-signal=TERM"])
def test_a_service_that_was_started_without_sigterm_takes_it(tmp_path, blocked):
    command = ["env", blocked, MESH, "up"]
    with running(tmp_path, STEPS, PIPELINE, command) as site, asked(site, 8) as futures:
        send_all(site, signal.SIGTERM)
        assert answers(futures) == [200] * 8
