"""Gateway processes that share one port are killed or ended while requests run."""

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import fleet
import pytest
from load import Load
from site_runs import running
from test_gateway_processes import established, is_back, pids, rows, samples, until_all_serve

PATIENCE = 40.0


@pytest.fixture
def site(tmp_path):
    with running(tmp_path, fleet.SERVICE, fleet.described(processes=2)) as site:
        until_all_serve(site)
        yield site


def test_one_process_of_two_is_killed(site):
    """What it held is lost, and nothing else: nobody is refused, and it comes back."""
    with Load([site.port], connections=32) as load:
        load.warm()
        doomed = pids(site)[0]
        held = established(site.port, doomed)
        assert held > 0
        os.kill(doomed, signal.SIGKILL)
        site.until(lambda: is_back(site, 1, doomed), "no successor came")
        load.run(1.0)
        count = len(load.tally.answers)
        site.until(lambda: len(load.tally.answers) > count + 100, "it does not go on")
    assert 0 < len(load.tally.failed) <= held, load.tally.failed
    assert not any("Refused" in error or error[0] == "5" for error in load.tally.failed)
    assert not load.tally.wrong
    assert not load.tally.duplicates
    assert samples(site)["1", "mesh_replica_up"] == 2


def test_the_successor_gets_its_share_of_who_connects_again(site):
    with Load([site.port], connections=32) as load:
        load.warm()
        doomed = pids(site)[1]
        os.kill(doomed, signal.SIGKILL)
        site.until(lambda: is_back(site, 2, doomed), "no successor came")
    with Load([site.port], connections=32) as load:
        load.warm()
        spread = [established(site.port, pid) for pid in pids(site)]
    assert not load.tally.failed
    assert min(spread) >= 6, spread


def test_one_process_of_two_is_ended_while_requests_run(site):
    """Its sibling takes whoever connects; who is there is answered first."""
    with Load([site.port], connections=16, pause=0.001) as load:
        load.warm()
        doomed = pids(site)[0]
        os.kill(doomed, signal.SIGTERM)
        site.until(lambda: is_back(site, 1, doomed), "no successor came")
    # A request may cross with the end of a connection that had been idle; it was not accepted. It
    # is told by the connection's end, or by a reset if that had come before the request.
    crossed = ("IncompleteRead", "ConnectionReset")
    assert [error for error in load.tally.failed if not error.startswith(crossed)] == []
    assert len(load.tally.failed) <= 16
    assert not load.tally.wrong


def ask(site, number, **deed):
    with site.client() as client:
        return client.post("/inference", {"n": number, **deed})


def test_all_are_ended_while_requests_run(tmp_path):
    """Every request that was accepted is answered."""
    count = 24
    file = fleet.described(processes=3)
    with running(tmp_path, fleet.SERVICE, file) as site, ThreadPoolExecutor(count) as pool:
        until_all_serve(site, 3)
        nap = {"at": "first", "deed": "sleep", "seconds": 0.15}
        asked = [pool.submit(ask, site, number, **nap) for number in range(count)]
        inside = []

        def all_are_in():
            inside[:] = [row["in_flight"] for row in rows(site)]
            return sum(inside) == count

        site.until(all_are_in, "not all are in")
        assert min(inside) > 0, inside
        site.stop()
        answers = [one.result(PATIENCE) for one in asked]
        assert [one.status for one in answers] == [200] * count, site.log()
        assert [one.json()["n"] for one in answers] == [fleet.answer(n) for n in range(count)]


@pytest.mark.parametrize("processes", [1, 2])
def test_who_waits_for_a_process_that_dies_is_taken_by_its_successor(tmp_path, processes):
    """Nobody turns, and a request waits in the kernel's queue: it is answered all the same."""
    with running(tmp_path, fleet.SERVICE, fleet.described(processes=processes)) as site:
        if processes > 1:
            until_all_serve(site)
            gateways = pids(site)
        else:
            gateways = [site.pid]
        for pid in gateways:
            os.kill(pid, signal.SIGSTOP)
        body = b'{"n": 5}'
        with socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE) as waiting:
            head = b"POST /inference HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
            waiting.sendall(head % len(body) + body)
            os.kill(gateways[0], signal.SIGKILL)
            answer = waiting.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        assert b'"n":%d' % fleet.answer(5) in answer.replace(b" ", b"")
        for pid in gateways[1:]:
            os.kill(pid, signal.SIGCONT)
