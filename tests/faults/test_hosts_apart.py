"""Stages on hosts of their own, as network namespaces: what distance and harm to cables cost."""

import contextlib
import shutil
import subprocess

import pytest
from fleet import STAGES, Fleet, fleet
from lan import NET, Lan
from load import Load, under_load

MANY = {"floats": 1 << 18}  # the first stage makes an array of 1 MiB of them, the second sums it


@pytest.fixture(scope="module")
def lan():
    needs("ip", "tc")
    try:
        made = Lan()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace: {error.stderr.strip()}")
    yield made
    made.close()


def needs(*commands):
    for command in commands:
        if not shutil.which(command):
            pytest.skip(f"no network namespace: there is no `{command}` command")


@pytest.fixture
def filtered(lan):
    """The LAN, where the kernel knows the rules that tests make."""
    needs("iptables")
    try:
        for rule in (lost(0.5), UNREACHABLE):
            with lan.host().refusing(*rule):
                pass
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace: {error.stderr.strip()}")
    return lan


UNREACHABLE = ("!", "-s", f"{NET}.1", "-j", "REJECT")  # for all but the gateway


def lost(share):
    return ("-m", "statistic", "--mode", "random", "--probability", share, "-j", "DROP")


class Apart(Fleet):
    """A fleet whose replicas run on the hosts of a LAN, two stages on each."""

    def add_own_gateway(self):
        return self.add_gateway("--insecure", address=f"{NET}.1")

    def add(self, host, number, stages=STAGES):
        for stage in stages:
            feed = ("--feed", f"tcp://{host.address}:0", "--insecure")
            self.add_host(f"{stage}@{number}", flags=feed, before=host.before)


@contextlib.contextmanager
def apart(lan, folder, **settings):
    while len(lan.hosts) < 2:
        lan.host()
    made = Apart(folder, **settings)
    try:
        made.add_own_gateway()
        for number, host in enumerate(lan.hosts[:2]):
            made.add(host, number)
        made.until_whole()
        yield made
        made.end()
    finally:
        made.close()


@pytest.fixture(scope="module")
def shared(lan, tmp_path_factory):
    with apart(lan, tmp_path_factory.mktemp("apart")) as made:
        yield made


def cut_off(shared, lan, unharmed, seconds):
    host = lan.hosts[1]
    with under_load(shared, unharmed, f"a host cut off for {seconds:g} s") as load:
        host.cut_off()
        load.run(seconds)
        host.back()


def test_a_host_is_cut_off_and_comes_back(shared, lan, unharmed):
    cut_off(shared, lan, unharmed, 4.0)


@pytest.mark.chaos
def test_a_host_is_cut_off_for_long(shared, lan, unharmed):
    cut_off(shared, lan, unharmed, 20.0)


@pytest.mark.parametrize("share", [0.02, pytest.param(0.1, marks=pytest.mark.chaos)])
def test_packets_are_lost(shared, filtered, unharmed, share):
    what = f"{share:.0%} of the packets to one host lost"
    with under_load(shared, unharmed, what) as load, filtered.hosts[1].refusing(*lost(share)):
        load.run(5.0)


def test_a_host_that_reaches_the_gateway_alone_is_served_by_way_of_it(filtered, unharmed, tmp_path):
    near, far = filtered.host(), filtered.host()
    # Answers to what it dials pass only where that is the gateway.
    with contextlib.closing(Apart(tmp_path)) as made:
        made.add_own_gateway()
        with far.refusing(*UNREACHABLE):
            made.add(near, 1, ["first"])
            made.add(far, 2, ["second"])
            made.until_whole()
            with Load([made.port]) as load:
                load.warm()
                load.run(1.0)
            unharmed("a host that reaches the gateway alone", made, load)
            status = made.status()
            direct = {one["stage"]: one["direct"] for one in status["replicas"]}
            assert direct == {"first": "-", "second": "0 of 1"}
            assert status["hub_hops"] >= load.tally.sent
            made.end()


def rate(made, unharmed, what):
    with Load([made.port], extra=MANY) as load:
        load.warm()
        load.run(3.0)
    unharmed(f"{what}: {load.before:.0f} requests a second", made, load)
    return load.before


@pytest.mark.chaos
def test_arrays_between_hosts(shared, lan, unharmed, tmp_path):
    with fleet(tmp_path) as near:
        rate(near, unharmed, "arrays of 1 MiB between stages of one host")
    rate(shared, unharmed, "arrays of 1 MiB between two hosts")
    for host in lan.hosts[:2]:
        host.limit("1gbit")
    rate(shared, unharmed, "arrays of 1 MiB between two hosts at 1 Gbit/s")
    for host in lan.hosts[:2]:
        host.limit("100mbit")
    rate(shared, unharmed, "arrays of 1 MiB between two hosts at 100 Mbit/s")
