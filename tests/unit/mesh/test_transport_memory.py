"""The network in memory and its switches; what it shares with ZeroMQ is in tests/conformance."""

from __future__ import annotations

import pytest

from mesh.errors import StartError
from mesh.transport.memory import MAX_QUEUED, FakeClock, MemoryNetwork, Port
from mesh.transport.network import NetworkEvent


class Two:
    """A listener `p` and a dialler `c` with a link; what arrives is noted."""

    def __init__(self, seed: int = 0, delay: float = 0.0, jitter: float = 0.0) -> None:
        self.clock = FakeClock()
        self.hub = MemoryNetwork(self.clock, seed, delay, jitter)
        self.p, self.c = self.hub.port("p"), self.hub.port("c")
        self.c.dial(-1, self.p.listen("memory://p"))
        self.clock.advance(1.0)
        assert self.c.receive() == [(NetworkEvent.OPENED, -1, ())]
        assert self.c.send(-1, [b"hello"])
        self.clock.advance(1.0)
        assert self.p.receive() == [(NetworkEvent.MESSAGE, 1, [b"hello"])]

    def send(self, count: int) -> None:
        for number in range(count):
            assert self.p.send(1, [b"p%d" % number])
            assert self.c.send(-1, [b"c%d" % number])


def texts(port: Port) -> list[bytes | NetworkEvent]:
    """What arrived: of messages the text, else what happened."""
    return [bytes(frames[0]) if frames else happened for happened, _, frames in port.receive()]


@pytest.mark.parametrize("lost", [(0, 0), (1, 3), (2, 0), (99, 99)])
def test_a_cut_loses_the_end_of_each_direction(lost: tuple[int, int]) -> None:
    two = Two()
    two.send(4)
    two.hub.cut("p", "c", lost)
    assert texts(two.p) == [
        *[b"c0", b"c1", b"c2", b"c3"][: max(0, 4 - lost[1])],
        NetworkEvent.DOUBT,
    ]
    assert texts(two.c) == [
        *[b"p0", b"p1", b"p2", b"p3"][: max(0, 4 - lost[0])],
        NetworkEvent.CLOSED,
    ]
    assert not two.p.send(1, [b"x"])
    assert not two.c.send(-1, [b"x"])
    two.hub.cut("p", "c")  # of nothing
    two.hub.cut("nobody", "c")
    assert texts(two.p) == texts(two.c) == []


def test_a_blocked_direction_is_late_and_nothing_more() -> None:
    two = Two()
    two.hub.block("p", "c")
    two.send(2)
    assert two.c.next_due() == float("inf")
    assert not two.c.is_pending()
    assert texts(two.c) == []
    assert texts(two.p) == [b"c0", b"c1"]
    assert two.hub.under_way("p", "c") == 2
    assert two.hub.under_way("c", "p") == 0
    two.hub.unblock("p", "c")
    assert two.c.is_pending()
    assert texts(two.c) == [b"p0", b"p1"]


@pytest.mark.parametrize("way", [("p", "c"), ("c", "p")])
def test_nobody_connects_through_a_partition(way: tuple[str, str]) -> None:
    two = Two()
    two.hub.block(*way)
    two.c.dial(-2, "memory://p")
    assert texts(two.c) == []
    two.hub.unblock(*way)
    assert texts(two.c) == []  # that attempt is over
    two.c.dial(-3, "memory://p")
    assert two.c.receive() == [(NetworkEvent.OPENED, -3, ())]


def test_an_address_may_be_refused_for_a_time() -> None:
    two = Two()
    two.hub.refuse("memory://p")
    two.c.dial(-2, "memory://p")
    assert texts(two.c) == []
    two.hub.admit("memory://p")
    two.c.dial(-3, "memory://p")
    assert texts(two.c) == [NetworkEvent.OPENED]


def test_messages_take_their_time_and_keep_their_order() -> None:
    two = Two(delay=0.1, jitter=0.3)
    two.send(50)
    assert two.c.next_due() >= two.clock() + 0.1
    arrived: list[bytes | NetworkEvent] = []
    while two.hub.next_due() < float("inf"):
        two.clock.now = two.hub.next_due()
        arrived += texts(two.c)
        two.p.receive()
    assert arrived == [b"p%d" % number for number in range(50)]
    assert two.clock() <= 3.4 + 0.1


def test_one_direction_may_be_slow() -> None:
    two = Two()
    two.hub.slow("p", "c", 5.0)
    two.send(1)
    assert texts(two.p) == [b"c0"]
    assert texts(two.c) == []
    two.clock.advance(5.0)
    assert texts(two.c) == [b"p0"]


def test_links_arrive_in_an_order_that_the_seed_chooses() -> None:
    def order(seed: int) -> list[bytes | NetworkEvent]:
        hub = MemoryNetwork(FakeClock(), seed)
        listener = hub.port("p")
        listener.listen("memory://p")
        for name in "abcde":
            port = hub.port(name)
            port.dial(-1, "memory://p")
            port.receive()
            port.send(-1, [name.encode()])
        return texts(listener)

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(20)}) > 5


def test_frames_are_copied_when_they_are_sent() -> None:
    two = Two()
    payload = bytearray(b"before")
    two.p.send(1, [payload, memoryview(payload)])
    payload[:] = b"after!"
    ((_, _, frames),) = two.c.receive()
    assert frames == [b"before", b"before"]


def test_a_link_holds_so_much_and_no_more() -> None:
    two = Two()
    for _ in range(MAX_QUEUED):
        assert two.p.send(1, [b"x"])
    assert not two.p.send(1, [b"x"])
    assert not two.p.send(1, [b"x"])


def test_a_closed_port_takes_its_addresses_and_links_along() -> None:
    two = Two()
    two.send(3)
    two.p.close()
    left = texts(two.c)
    assert left[-1] is NetworkEvent.CLOSED
    assert left[:-1] == [b"p0", b"p1", b"p2"][: len(left) - 1]  # what had not left is lost
    two.c.dial(-2, "memory://p")
    assert texts(two.c) == []
    again = two.hub.port("p")
    assert again.listen("memory://p") == "memory://p"
    two.p.close()  # once more: it does not concern its successor
    two.c.dial(-3, "memory://p")
    assert texts(two.c) == [NetworkEvent.OPENED]


def test_a_dialler_that_hangs_up_before_it_is_connected_is_not() -> None:
    two = Two(delay=1.0)
    two.c.dial(-2, "memory://p")
    two.c.hang_up(-2)
    two.clock.advance(5.0)
    assert texts(two.c) == []


def test_wildcards_are_filled_in_and_addresses_are_taken_once() -> None:
    hub = MemoryNetwork(FakeClock())
    port = hub.port("p")
    assert port.listen("memory://*") != port.listen("memory://*")
    port.listen("memory://here")
    with pytest.raises(StartError, match="cannot listen at memory://here"):
        port.listen("memory://here")
    assert MemoryNetwork(FakeClock()).next_due() == float("inf")


def test_who_dialled_is_known_by_name_while_the_link_is() -> None:
    two = Two()
    assert two.p.dialled_by(1) == "c"
    assert two.c.dialled_by(-1) == ""
    two.p.hang_up(1)
    assert two.p.dialled_by(1) == ""
