"""A network in memory, and a clock that only moves when it is told: for tests without luck.

A whole mesh runs in one process over a `MemoryNetwork`, every message as bytes. Links in it do
what TCP does: they keep order, delay, and when they break, lose the end of what was under way.
The same seed gives the same history twice.

Example:
    >>> clock = FakeClock()
    >>> hub = MemoryNetwork(clock)
    >>> gateway, replica = hub.port("gateway"), hub.port("replica")
    >>> address = gateway.listen("memory://gateway")
    >>> replica.dial(-1, address)
    >>> replica.receive()
    [(<NetworkEvent.OPENED: 1>, -1, ())]
    >>> replica.send(-1, [b"hello"])
    True
    >>> gateway.receive()
    [(<NetworkEvent.MESSAGE: 0>, 1, [b'hello'])]
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from mesh.errors import StartError
from mesh.protocol.fields import Frame
from mesh.protocol.messages import Hello
from mesh.transport.network import Event, NetworkEvent

MAX_QUEUED = 4096  # messages under way in one direction; a tripwire, credit is the bound
_NEVER = float("inf")


class FakeClock:
    """Monotonic time that stands still.

    Example:
        >>> clock = FakeClock(100.0)
        >>> clock.advance(0.5)
        >>> clock()
        100.5
    """

    def __init__(self, now: float = 1.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@dataclass(slots=True, eq=False)
class _Direction:
    """One direction of a link: what is under way, oldest first, with the time it arrives.

    Attributes:
        target: whose end it leads to.
        number: of the link at that end, 0 while that end has no name for it.
        ends: what the target is told when the link is gone and the last message has come.
    """

    source: Port
    target: Port
    number: int
    ends: NetworkEvent
    queue: deque[tuple[float, list[bytes]]] = field(default_factory=deque)
    ended_at: float | None = None
    last: float = 0.0
    busy_until: float = 0.0  # when all that was sent has left, if the network has a bandwidth

    def due(self) -> float:
        """When the next event of this lane is there, if nothing blocks it."""
        if self.queue:
            return self.queue[0][0]
        return _NEVER if self.ended_at is None else self.ended_at


@dataclass(slots=True, eq=False)
class _Link:
    """A connection: the lane of the one that dialled, and the lane back."""

    there: _Direction
    back: _Direction
    alive: bool = True


@dataclass(slots=True, eq=False)
class _Attempt:
    """A dialled link that is not connected yet."""

    port: Port
    number: int
    address: str
    at: float


class MemoryNetwork:
    """The hub that joins the ports of all processes, with switches for faults.

    Args:
        clock: tells the time in seconds.
        seed: of all chance in it.
        delay: seconds that a message is under way.
        jitter: seconds that chance may add, per message; order within a link is kept.

    Attributes:
        bandwidth: bytes per second that each direction of a link carries; infinite at first.
        tap: told of every multipart that arrives: from whom, to whom, its frames.
    """

    def __init__(
        self, clock: FakeClock, seed: int = 0, delay: float = 0.0, jitter: float = 0.0
    ) -> None:
        self.clock = clock
        self.delay = delay
        self.jitter = jitter
        self.bandwidth = _NEVER
        self.tap: Callable[[str, str, Sequence[bytes]], None] | None = None
        self._random = Random(seed)
        self._ports: dict[str, Port] = {}
        self._listening: dict[str, Port] = {}
        self._slow: dict[tuple[str, str], float] = {}
        self._blocked: set[tuple[str, str]] = set()
        self._refused: set[str] = set()
        self._wildcards = 0

    def port(self, name: str) -> Port:
        """The seat of a new process. A name may be used again when its port is closed."""
        port = Port(self, name)
        self._ports[name] = port
        return port

    # --- faults ----------------------------------------------------------------------------------

    def cut(self, one: str, other: str, lost: tuple[int, int] = (0, 0)) -> None:
        """Break every link between two processes.

        Args:
            one: its name.
            other: the other's name.
            lost: how many of the last messages under way are lost: those from `one` to `other`,
                and those from `other` to `one`. What was sent before them still arrives.
        """
        for link in self._links(one, other):
            for lane in (link.there, link.back):
                self._lose(lane, lost[0] if lane.source.name == one else lost[1])
            self._end(link)

    def block(self, source: str, target: str) -> None:
        """Hold up what is under way from one process to another, as a one-way partition does."""
        self._blocked.add((source, target))
        self._look_again()

    def unblock(self, source: str, target: str) -> None:
        """Let it through again: nothing was lost, it is only late."""
        self._blocked.discard((source, target))
        self._look_again()

    def slow(self, source: str, target: str, delay: float) -> None:
        """Give one direction a delay of its own, in seconds, for what is sent from now on."""
        self._slow[source, target] = delay

    def refuse(self, address: str) -> None:
        """Refuse connections to an address."""
        self._refused.add(address)

    def admit(self, address: str) -> None:
        """Let them connect again."""
        self._refused.discard(address)

    def under_way(self, source: str, target: str) -> int:
        """How many messages are on their way from one process to another."""
        lanes = (lane for link in self._links(source, target) for lane in (link.there, link.back))
        return sum(len(lane.queue) for lane in lanes if lane.source.name == source)

    def next_due(self) -> float:
        """When the next thing happens anywhere."""
        return min((port.next_due() for port in self._ports.values()), default=_NEVER)

    # --- what the ports use ----------------------------------------------------------------------

    def listen(self, port: Port, address: str) -> str:
        """Give an address to a port; a ``*`` in it becomes a number."""
        self._wildcards += 1
        address = address.replace("*", str(self._wildcards))
        if address in self._listening:
            raise StartError(f"cannot listen at {address}: Address already in use")
        self._listening[address] = port
        return address

    def forget(self, port: Port) -> None:
        """A process is gone: its addresses, and its links as its death would end them."""
        self._listening = {a: p for a, p in self._listening.items() if p is not port}
        for link in port.links():
            self.hang_up(link, port)
        if self._ports.get(port.name) is port:
            del self._ports[port.name]

    def is_blocked(self, source: Port, target: Port) -> bool:
        """Whether nothing passes this way now."""
        return (source.name, target.name) in self._blocked

    def connect(self, attempt: _Attempt) -> _Link | None:
        """Join an attempt to the port that listens; None if none does or it is not let through."""
        target = self._listening.get(attempt.address)
        source = attempt.port
        if target is None or attempt.address in self._refused:
            return None
        if self.is_blocked(source, target) or self.is_blocked(target, source):
            return None
        return _Link(
            _Direction(source, target, 0, NetworkEvent.DOUBT),
            _Direction(target, source, attempt.number, NetworkEvent.CLOSED),
        )

    def listens(self, address: str, source: Port) -> bool | None:
        """Whether a port listens at an address; None if no answer comes from there."""
        target = self._listening.get(address)
        if target is None:
            return False
        if self.is_blocked(source, target) or self.is_blocked(target, source):
            return None
        return True

    def arrival(self, source: Port, target: Port | None, after: float = 0.0) -> float:
        """When what is sent now arrives, and not before what was sent earlier."""
        delay = self.delay
        if target is not None:
            delay = self._slow.get((source.name, target.name), delay)
        return max(after, self.clock() + delay + self.jitter * self._random.random())

    def hang_up(self, link: _Link, port: Port) -> None:
        """One end closes: what it has not sent may be lost, and what comes is not read."""
        outward, inward = (
            (link.there, link.back) if link.there.source is port else (link.back, link.there)
        )
        self._lose(outward, self._random.randint(0, len(outward.queue)))
        inward.queue.clear()
        self._end(link)

    def rank(self) -> float:
        """Chance, for the order of what arrives at once on several links."""
        return self._random.random()

    # --- inside ----------------------------------------------------------------------------------

    def _links(self, one: str, other: str) -> Iterator[_Link]:
        port = self._ports.get(one)
        for link in port.links() if port is not None else []:
            if {link.there.source.name, link.there.target.name} == {one, other}:
                yield link

    def _look_again(self) -> None:
        for port in self._ports.values():
            port.look_again()

    def _lose(self, lane: _Direction, count: int) -> None:
        lane.target.look_again()
        for _ in range(min(count, len(lane.queue))):
            lane.queue.pop()

    def _end(self, link: _Link) -> None:
        if link.alive:
            link.alive = False
            for lane in (link.there, link.back):
                lane.ended_at = self.arrival(lane.source, lane.target, lane.last)
                lane.target.look_again()


class Port:
    """One process's `Network`."""

    def __init__(self, hub: MemoryNetwork, name: str) -> None:
        self.name = name
        self._hub = hub
        self._attempts: list[_Attempt] = []
        self._probes: list[tuple[float, int, str]] = []
        self._links: dict[int, _Link] = {}
        self._lanes: list[tuple[_Direction, _Link]] = []
        self._accepted = 0
        self._due: float | None = None  # when the next thing arrives; None: look

    def dialled_by(self, link: int) -> str:
        """The name of the port that dialled a link, "" of one that is gone or that we dialled."""
        found = self._links.get(link)
        return "" if found is None or link < 0 else found.there.source.name

    def look_again(self) -> None:
        """Something changed on the way to this port."""
        self._due = None

    def links(self) -> list[_Link]:
        """Every link that this end still hears of."""
        return [link for _, link in self._lanes]

    def trust(self, gateways: Collection[str] | None, feeds: Collection[str]) -> None:
        """Do nothing: any address in memory may be dialled."""

    def objection(self, link: int, hello: Hello) -> str:
        """Return "": no keys are checked in memory."""
        return ""

    def source(self, link: int) -> str:
        """Return "": origins are not proven in memory."""
        return ""

    def listen(self, address: str) -> str:
        """Accept links at an address."""
        return self._hub.listen(self, address)

    def dial(self, link: int, address: str) -> None:
        """Begin to connect."""
        self._attempts.append(_Attempt(self, link, address, self._hub.arrival(self, None)))
        self._due = None

    def probe(self, peer: int, address: str) -> None:
        """Ask whether a port listens at an address."""
        self._probes.append((self._hub.arrival(self, None), peer, address))
        self._due = None

    def hang_up(self, link: int) -> None:
        """Close a link that was dialled; forget the name of one that dialled us."""
        self._attempts = [attempt for attempt in self._attempts if attempt.number != link]
        self._due = None
        found = self._links.pop(link, None)
        if found is None:
            return
        if link > 0:
            found.there.number = 0
        else:
            self._hub.hang_up(found, self)
            self._lanes = [pair for pair in self._lanes if pair[1] is not found]

    def send(self, link: int, frames: Sequence[Frame]) -> bool:
        """Send one multipart; False if the link is gone or full."""
        found = self._links.get(link)
        if found is None:
            return False
        lane = found.there if link < 0 else found.back
        if not found.alive or len(lane.queue) >= MAX_QUEUED:
            self.hang_up(link)
            return False
        copied = [bytes(frame) for frame in frames]
        seconds = sum(map(len, copied)) / self._hub.bandwidth
        lane.busy_until = max(lane.busy_until, self._hub.clock()) + seconds
        lane.last = self._hub.arrival(self, lane.target, max(lane.last, lane.busy_until))
        lane.queue.append((lane.last, copied))
        lane.target.look_again()
        return True

    def receive(self, ready: Iterable[int] = ()) -> list[Event]:
        """Everything that has arrived; there are no descriptors, `ready` means nothing."""
        now, hub = self._hub.clock(), self._hub
        events: list[tuple[float, float, Event]] = []
        self._due = None
        for attempt in [attempt for attempt in self._attempts if attempt.at <= now]:
            self._attempts.remove(attempt)
            link = hub.connect(attempt)
            if link is not None:
                self._join(attempt.number, link)
                events.append((attempt.at, 0.0, (NetworkEvent.OPENED, attempt.number, ())))
        events += self._answered(now)
        for lane, link in list(self._lanes):
            if not hub.is_blocked(lane.source, self):
                rank = hub.rank()
                events += [(at, rank, event) for at, event in self._drain(lane, link, now)]
        events.sort(key=lambda event: event[:2])
        return [event for _, _, event in events]

    def _answered(self, now: float) -> Iterator[tuple[float, float, Event]]:
        for probe in [probe for probe in self._probes if probe[0] <= now]:
            self._probes.remove(probe)
            at, peer, address = probe
            listens = self._hub.listens(address, self)
            if listens is not None:
                happened = NetworkEvent.LISTENING if listens else NetworkEvent.REFUSED
                yield at, 0.0, (happened, peer, ())

    def _join(self, number: int, link: _Link) -> None:
        self._links[number] = link
        self._lanes.append((link.back, link))
        acceptor = link.there.target
        acceptor._lanes.append((link.there, link))
        acceptor.look_again()

    def _drain(self, lane: _Direction, link: _Link, now: float) -> Iterator[tuple[float, Event]]:
        while lane.queue and lane.queue[0][0] <= now:
            at, frames = lane.queue.popleft()
            if self._hub.tap is not None:
                self._hub.tap(lane.source.name, self.name, frames)
            if not lane.number:
                self._accepted += 1
                lane.number = self._accepted
                self._links[lane.number] = link
            yield at, (NetworkEvent.MESSAGE, lane.number, frames)
        if not lane.queue and lane.ended_at is not None and lane.ended_at <= now:
            self._lanes.remove((lane, link))
            if lane.ends is NetworkEvent.CLOSED:
                del self._links[lane.number]
            told = lane.number if lane.ends is NetworkEvent.CLOSED else 0
            yield lane.ended_at, (lane.ends, told, ())

    def is_pending(self) -> bool:
        """Whether something has arrived."""
        return self.next_due() <= self._hub.clock()

    def next_due(self) -> float:
        """When the next thing arrives."""
        if self._due is None:
            lanes = [
                lane.due() for lane, _ in self._lanes if not self._hub.is_blocked(lane.source, self)
            ]
            probes = (at for at, _, _ in self._probes)
            dues = [*lanes, *(attempt.at for attempt in self._attempts), *probes]
            self._due = min(dues, default=_NEVER)
        return self._due

    def close(self) -> None:
        """End as a process does: at once, with all its links."""
        self._hub.forget(self)
        self._attempts, self._probes, self._links, self._lanes = [], [], {}, []
