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


def test_a_version_takes_over_when_all_of_it_stands(made, unharmed):
    old, new = (made.add_gateway(MESH_VERSION=version) for version in "12")  # all dial both

    def start(version, *stages):
        for stage in stages:
            made.add_host(f"{stage}@{version}", MESH_VERSION=version)

    start("1", *STAGES)
    made.until(lambda: missing(made, old) == [], "the old version stands")
    with Load([old]) as load, Load([new]) as early:  # a worker refuses what another version made
        load.warm()
        start("2", "second")
        made.until(lambda: missing(made, new) == ["first"], "half of the new version stands")
        load.run(0.5)
        assert not early.tally.answers
        early.stop()
        start("2", "first")
        made.until(lambda: missing(made, new) == [], "the new version stands")
        with Load([new]) as other:
            other.warm()
            load.stop()
            for process in (made.gateways.pop(old), *(made.hosts.pop(f"{s}@1") for s in STAGES)):
                process.send_signal(signal.SIGTERM)
                assert process.wait(PATIENCE) == 0, made.log()
            other.run(0.5)
    assert not load.tally.failed, load.tally.failed[:3]
    assert load.tally.answers
    unharmed("a new version beside the old, which then ends", made, other)
    assert made.status(new)["hub_hops"] == 0
    made.stop()
