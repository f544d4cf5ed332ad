"""Two versions of a pipeline side by side, and one taking over from the other under load."""

import contextlib
import signal

import pytest
from fleet import PATIENCE, STAGES, Fleet
from load import Load


@pytest.fixture
def made(tmp_path):
    with contextlib.closing(Fleet(tmp_path)) as fleet:
        yield fleet


def missing(made, port):
    """Stages that a gateway misses; "all" while it does not answer."""
    try:
        return made.status(port)["missing"]
    except OSError:
        return "all"


def start(made, version, *stages):
    for stage in stages:
        made.add_host(f"{stage}@{version}", MESH_VERSION=version)


def end(made, version):
    for stage in STAGES:
        made.remove_host(f"{stage}@{version}")


def test_a_gateway_moves_on_by_itself(made, unharmed):
    port = made.add_gateway(MESH_VERSION="9")
    start(made, "9", *STAGES)
    made.until(lambda: missing(made, port) == [], "version 9 stands")
    with Load([port]) as load:  # a worker refuses what another version made
        load.warm()
        start(made, "10", "second")
        made.until(lambda: len(made.status(port)["replicas"]) > len(STAGES), "half of it is there")
        load.run(0.5)
        assert made.status(port)["serves"] == "9"
        start(made, "10", "first")
        made.until(lambda: made.status(port)["serves"] == "10", "the gateway has moved on")
        end(made, "9")
        load.run(0.5)
    assert not load.tally.failed, load.tally.failed[:3]
    picture = made.status(port)
    assert {replica["version"] for replica in picture["replicas"]} == {"10"}
    assert (picture["missing"], picture["deaths"]) == ([], 0)
    unharmed("a gateway moves to a later version, and the old one ends", made, load)


def test_a_version_takes_over_when_all_of_it_stands(made, unharmed):
    old, new = (made.add_gateway(MESH_VERSION=version) for version in "12")  # all dial both
    start(made, "1", *STAGES)
    made.until(lambda: missing(made, old) == [], "the old version stands")
    with Load([old]) as load, Load([new]) as early:  # a worker refuses what another version made
        load.warm()
        start(made, "2", "second")
        made.until(lambda: missing(made, new) == ["first"], "half of the new version stands")
        load.run(0.5)
        assert not early.tally.answers
        early.stop()
        start(made, "2", "first")
        made.until(lambda: missing(made, new) == [], "the new version stands")
        with Load([new]) as other:
            other.warm()
            load.stop()
            gateway = made.gateways.pop(old)
            gateway.send_signal(signal.SIGTERM)
            assert gateway.wait(PATIENCE) == 0, made.log()
            end(made, "1")
            other.run(0.5)
    assert not load.tally.failed, load.tally.failed[:3]
    assert load.tally.answers
    unharmed("a new version beside the old, which then ends", made, other)
    assert made.status(new)["hub_hops"] == 0
    made.end()
