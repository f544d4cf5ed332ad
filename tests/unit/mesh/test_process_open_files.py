"""How many files each kind of process needs."""

import pytest

from mesh.config.settings import GatewaySettings, MeshSettings, StageSettings
from mesh.process import open_files


def settings(processes: int = 1, **replicas: int) -> MeshSettings:
    """A service of these stages, one after the other."""
    stages = {
        name: StageSettings(name=name, worker="service:Echo", replicas=count)
        for name, count in replicas.items()
    }
    gateway = GatewaySettings(processes=processes)
    return MeshSettings(gateway=gateway, stages=stages, routes={"/inference": tuple(replicas)})


def test_each_process_counts_who_it_is_linked_to() -> None:
    small = open_files.needs(settings(a=1), ["a"])
    large = open_files.needs(settings(2, a=3, b=2), ["a", "b"])
    assert set(small) == {"the supervisor", "the gateway", "a replica of a"}
    assert large["the supervisor"] - small["the supervisor"] == 6 + 5 * 4
    assert large["the gateway"] - small["the gateway"] == 4 + 2  # peers, and among siblings
    assert large["a replica of a"] - small["a replica of a"] == 2 + 5 + 2  # a gateway, a feed, two
    assert large["a replica of b"] - small["a replica of a"] == 2 + 2 * 3


def test_stages_alone_dial_gateways_elsewhere() -> None:
    assert set(open_files.needs(settings(a=1), ["a"], with_gateway=False)) == {
        "the supervisor",
        "a replica of a",
    }


def test_gateways_alone_expect_all_stages() -> None:
    assert open_files.needs(settings(2, a=3), [])["the gateway"] == open_files.gateway(4, 2)


@pytest.mark.parametrize(
    ("allowed", "why"),
    [
        (50, ""),
        (49, "a process may have 49 open files, and the gateway needs about 50; allow more"),
    ],
)
def test_a_refusal_names_the_process_that_needs_most(allowed: int, why: str) -> None:
    said = open_files.refusal({"the supervisor": 40, "the gateway": 50}, allowed)
    assert said[: len(why)] == why
    assert bool(said) == bool(why)


def test_links_to_whom_peers_name_take_half_of_what_is_free() -> None:
    assert [open_files.most_named(free) for free in (4096, 3, -5)] == [1024, 0, 0]
