"""Whatever carries links is asked for the same things, and for no others."""

from __future__ import annotations

import inspect
from time import monotonic

import pytest

from mesh.transport.memory import FakeClock, MemoryNetwork, Port
from mesh.transport.network import Network, NetworkEvent
from mesh.transport.zeromq import ZmqNetwork

ASKED = {name: one for name, one in vars(Network).items() if inspect.isfunction(one)}


@pytest.mark.parametrize("carrier", [ZmqNetwork, Port], ids=lambda one: one.__name__)
@pytest.mark.parametrize("name", [name for name in ASKED if not name.startswith("_")])
def test_each_network_can_be_asked_what_the_protocol_lists(carrier: type, name: str) -> None:
    asked = list(inspect.signature(ASKED[name]).parameters.values())
    known = list(inspect.signature(getattr(carrier, name)).parameters.values())
    assert [one.name for one in known[: len(asked)]] == [one.name for one in asked]
    assert all(one.default is not one.empty for one in known[len(asked) :])


@pytest.mark.parametrize("made", [ZmqNetwork(monotonic), MemoryNetwork(FakeClock()).port("a")])
def test_nothing_of_a_network_is_used_but_what_the_protocol_lists(made: ZmqNetwork | Port) -> None:
    public = {name for name in vars(made) if not name.startswith("_")}
    made.close()
    assert public <= {"name", "accepts"}  # of memory, for tests


def test_events_are_told_apart_by_number() -> None:
    assert [event.value for event in NetworkEvent] == [0, 1, 2, 3, 4, 5]
    assert NetworkEvent.MESSAGE is NetworkEvent(0)
