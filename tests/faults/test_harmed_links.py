"""Links that are cut, dark, slow or half open, between every replica and its gateway."""

import contextlib

import pytest
from fleet import STAGES, Fleet
from load import Load, under_load
from proxy import Proxy

LARGE = {"ballast": "x" * 300_000}


@contextlib.contextmanager
def through(folder, count=2, **settings):
    """A whole service whose replicas reach their gateway by way of proxies, one for each host."""
    made = Fleet(folder, **settings)
    with contextlib.ExitStack() as stack:
        stack.callback(made.close)
        port = made.add_gateway()
        bind = int(made.binds[port].rpartition(":")[2])
        proxies = [stack.enter_context(Proxy(bind)) for _ in range(count)]
        for number, proxy in enumerate(proxies):
            for stage in STAGES:
                made.add_host(f"{stage}@{number}", gateways=[f"tcp://127.0.0.1:{proxy.port}"])
        made.until_whole()
        yield made, proxies
        made.end()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with through(tmp_path_factory.mktemp("links")) as made:
        yield made


def reset_all(shared, unharmed, times):
    made, proxies = shared
    before = made.metric("mesh_retries_total")
    with under_load(made, unharmed, f"RST of all links every second for {times} s") as load:
        for _ in range(times):
            for proxy in proxies:
                proxy.cut()
            load.run(1.0)
    assert made.metric("mesh_retries_total") == before


def test_all_links_are_reset_again_and_again(shared, unharmed):
    reset_all(shared, unharmed, 5)


@pytest.mark.chaos
def test_all_links_are_reset_for_a_minute(shared, unharmed):
    reset_all(shared, unharmed, 60)


def dark(shared, unharmed, holes, seconds):
    made, proxies = shared
    ways = "both ways" if len(holes) == 2 else f"{holes[0]}wards"
    with under_load(made, unharmed, f"one host's links dark {ways} for {seconds:g} s") as load:
        proxies[0].holes = set(holes)
        load.run(seconds)
        proxies[0].holes = set()
        load.run(1.0)


WAYS = [("up",), ("down",), ("up", "down")]


def test_links_are_dark(shared, unharmed):
    dark(shared, unharmed, WAYS[-1], 3.0)


@pytest.mark.chaos
@pytest.mark.parametrize("seconds", [3.0, 30.0])
@pytest.mark.parametrize("holes", WAYS, ids="-".join)
def test_links_are_dark_for_long(shared, unharmed, holes, seconds):
    dark(shared, unharmed, holes, seconds)


@pytest.mark.chaos
def test_links_are_half_open(shared, unharmed):
    made, proxies = shared
    with under_load(made, unharmed, "one host's links half open") as load:
        proxies[0].half_open()
        load.run(4.0)


@pytest.mark.chaos
def test_links_are_slow(shared, unharmed):
    made, proxies = shared
    with under_load(made, unharmed, "0.2 s of delay each way on all links") as load:
        for proxy in proxies:
            proxy.delay = 0.2
        load.run(4.0)
        for proxy in proxies:
            proxy.delay = 0.0
        load.run(1.0)


def test_links_are_cut_within_messages(shared, unharmed):
    made, proxies = shared
    with Load([made.port], connections=4, extra=LARGE) as load:
        load.warm()
        for proxy in proxies:
            proxy.fuse = 2_000_000
            proxy.cut()
        load.run(4.0)
        for proxy in proxies:
            proxy.fuse = 0
        load.run(0.5)
        made.until_whole()
        load.run(0.5)
    cuts = sum(proxy.cuts for proxy in proxies)
    unharmed(f"links cut {cuts} times within messages of 300 KB", made, load)
    assert cuts > 8


@pytest.mark.chaos
def test_large_bodies_trickle(tmp_path, unharmed):
    with through(tmp_path, timeout="300s", limit="300s") as (made, proxies):
        with Load([made.port], connections=2, extra={"ballast": "x" * 8_000_000}) as load:
            load.warm(3.0)
            proxies[0].rate = 125_000
            load.run(5.0)
            load.stop()
            proxies[0].rate = 0  # or the end would have to wait, too
            made.until_whole()
        unharmed("8 MB bodies, one host's links at 1 Mbit/s", made, load, full=False)
