"""Clients that are slow, vanish, storm, hang up at random; strangers; and means that run out."""

import contextlib
import os
import random
import shutil
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fleet import RESET, answer, fleet
from load import Load, under_load
from test_bad_forwards import asked

MEMORY = "/sys/fs/cgroup/memory"
BODY = b'{"n": 1}'
POST = b"POST /inference HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with fleet(tmp_path_factory.mktemp("clients"), replicas=1) as made:
        yield made


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=20.0)


def hang_up(connection):
    """Be gone, as a process is that was killed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()


@pytest.mark.chaos
def test_slow_clients_hold_nobody_up(shared, unharmed):
    what = "50 clients that send 20 bytes a second"
    with under_load(shared, unharmed, what, connections=4) as load:
        slow = [connect(shared.port) for _ in range(50)]
        for byte in POST[:40]:
            for one in slow:
                one.sendall(bytes([byte]))
            load.run(0.05)
        for one in slow:
            one.close()


def vanish(port, seed, count):
    """So many requests of which the client is gone at a random moment."""
    chance = random.Random(seed)
    for _ in range(count):
        one = connect(port)
        one.sendall(POST[: chance.choice([10, 60, len(POST), len(POST)])])
        time.sleep(chance.random() * 0.01)
        hang_up(one)


def vanishing(shared, unharmed, count):
    what = f"{count} clients that hang up at random times"
    with under_load(shared, unharmed, what, connections=4), ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: vanish(shared.port, seed, count // 8), range(8)))
    # Nothing of theirs is left: what is in flight belongs to nobody any more.
    shared.until(lambda: shared.status()["in_flight"] == 0, "nothing is in flight")


def test_clients_hang_up_at_random_times(shared, unharmed):
    vanishing(shared, unharmed, 1000)


@pytest.mark.chaos
def test_ten_thousand_clients_hang_up_at_random_times(shared, unharmed):
    vanishing(shared, unharmed, 10_000)


def test_what_a_storm_of_clients_left_behind_is_not_computed(shared, unharmed):
    def computed():
        return shared.metric("mesh_batch_size_sum", stage="first")

    what = "a storm of 400 requests, of which 90 % hang up"
    with under_load(shared, unharmed, what, connections=4) as load:
        load.stop()
        before = computed()
        storm = [connect(shared.port) for _ in range(400)]
        for one in storm:
            one.sendall(POST)
        for one in storm[40:]:
            hang_up(one)
        for one in storm[:40]:
            assert one.recv(12) == b"HTTP/1.1 200"
            one.close()
        shared.until(lambda: shared.status()["in_flight"] == 0, "nothing is in flight")
        assert computed() - before < 300


def test_garbage_and_idle_connections_on_both_ports(shared, unharmed):
    bind = int(shared.binds[shared.port].rpartition(":")[2])
    chance = random.Random(1)
    what = "garbage and 500 idle connections on both ports"
    with under_load(shared, unharmed, what, connections=4) as load:
        idle = [connect(port) for port in (shared.port, bind) for _ in range(500)]
        for port in (shared.port, bind):
            for _ in range(100):
                one = connect(port)
                one.sendall(chance.randbytes(chance.randrange(1, 4000)))
                hang_up(one)
        load.run(1.0)
        for one in idle:
            one.close()


def sees(made, port, count):
    with contextlib.suppress(OSError):
        return len(made.status(port)["replicas"]) >= count
    return False


def test_descriptors_run_out(tmp_path, unharmed):
    limit = ("prlimit", "--nofile=200:200")
    with fleet(tmp_path, replicas=1) as made:
        port = made.add_gateway(before=limit)
        for name in ("first@few", "second@few"):
            made.add_host(name)
        made.wanted = {"first": 1, "second": 1}
        made.until(lambda: sees(made, port, 2), "it has replicas")
        with Load([port], connections=4) as load:
            load.warm()
            accept_balance = []
            for _ in range(600):
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
                accept_balance.append(one)
            load.run(2.0)
            for one in accept_balance:
                one.close()
            load.run(1.0)
        made.wanted = {"first": 2, "second": 2}
        unharmed("more connections than descriptors", made, load)


@pytest.mark.chaos
def test_shared_memory_is_full(tmp_path, unharmed):
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("no own mount namespace: not root")
    fill = "mount -t tmpfs -o size=64k tmpfs /dev/shm && dd if=/dev/zero of=/dev/shm/full 2>&1"
    within = ("unshare", "-m", "sh", "-c", fill + '; exec "$@"', "sh")
    with fleet(tmp_path, replicas=1) as made, Load([made.port], connections=4) as load:
        load.warm()
        made.add_host("first@full", before=within)
        made.until_whole()
        load.run(1.0)
        load.stop()
        unharmed("/dev/shm full where a replica starts", made, load)


@pytest.mark.chaos
def test_a_clock_an_hour_off(tmp_path, unharmed):
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        pytest.skip("no libfaketime: not installed")
    with fleet(tmp_path, replicas=1) as made, Load([made.port], connections=4) as load:
        load.warm()
        variables = {"LD_PRELOAD": str(library), "FAKETIME": "+1h"}
        made.add_host("first@ahead", **variables)
        made.add_host("second@ahead", **variables)
        made.until_whole()
        load.run(2.0)
        load.stop()
        unharmed("a host whose clock is an hour ahead", made, load)


@pytest.fixture
def group():
    """A cgroup in which a process may have 300 MiB; of either version."""
    for root, limit in (("/sys/fs/cgroup", "memory.max"), (MEMORY, "memory.limit_in_bytes")):
        folder = Path(root) / f"meshline-{os.getpid()}"
        with contextlib.suppress(OSError):
            folder.mkdir()
            try:
                (folder / limit).open("r+").close()  # or it is no cgroup
                (folder / limit).write_text(str(300 << 20))
                with contextlib.suppress(OSError):  # there is swap, and it would be used
                    (folder / "memory.swap.max").write_text("0")
                yield folder
                return
            finally:
                folder.rmdir()
    pytest.skip("no cgroup of our own: it cannot be made here")


@pytest.mark.chaos
def test_memory_runs_out(tmp_path, unharmed, group):
    within = ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")
    with fleet(tmp_path, replicas=1) as made, Load([made.port], connections=4) as load:
        load.warm()
        made.add_host("first@small", before=within)
        made.until_whole()
        got = [asked(made.port, 3, at="first", deed="eat") for _ in range(4)]
        made.until_whole()
        load.run(0.5)
        load.stop()
        unharmed("a replica that runs out of its cgroup's memory", made, load)
        assert got == [(200, answer(3))] * 4
        assert made.metric("mesh_deaths_total", cause="signal") >= 1
