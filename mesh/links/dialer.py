"""The addresses that a process dials, and how each attempt stands. Pure.

libzmq's own reconnecting is off, because it replays stale queues into a new peer and gives up
for good after a protocol error. Each attempt here is a new socket: the first at once after a
loss, later ones after a growing, jittered pause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum

from mesh.protocol.incarnations import shown

FIRST_ATTEMPT_S = 0.25  # seconds for the first attempt to connect, doubled with each failure
HELLO_LIMIT_S = 2.0  # seconds until HELLO must be answered
MAX_ATTEMPT_S = 3.0  # seconds: no attempt is given longer, and no pause is
BYE_LINGER_S = 0.25  # seconds that our answer to BYE has to arrive before the link is closed
# Attempts that fail before a refusal is told to people: the first may come from one who has not
# noticed yet that our last connection is gone.
REFUSALS = 2
DUPLICATE_RETRY_S = 30.0  # seconds until an address is tried again that led to a process we have
# Addresses that are dialled because peers named them: two gateways may name different ones. Each
# takes two descriptors.
MOST_NAMED = 1024


class DialState(Enum):
    """How an address stands."""

    IDLE = "idle"
    OPENING = "opening"
    GREETING = "greeting"
    UP = "up"
    LEAVING = "leaving"


class DialedAddress:
    """One address to dial.

    Attributes:
        address: such as ``tcp://10.0.0.7:7000``.
        wanted: whether anybody still lists it; otherwise it goes when its link is gone.
        state: how it stands.
        link: of the present attempt, 0 if there is none.
        peer: the incarnation that answered last, 0 if none did.
        nonce: of the HELLO that was sent.
        due: when to act next if nothing happens.
    """

    __slots__ = ("address", "due", "failures", "link", "nonce", "peer", "state", "wanted")

    def __init__(self, address: str, now: float) -> None:
        self.address = address
        self.wanted = True
        self.state = DialState.IDLE
        self.link = 0
        self.peer = 0
        self.nonce = 0
        self.due = now
        self.failures = 0

    def __repr__(self) -> str:
        """Address and state."""
        return f"<Line {self.address} {self.state.value} {shown(self.peer)}>"

    @property
    def is_refused(self) -> bool:
        """Whether another attempt in vain is worth to be told of."""
        return self.failures >= REFUSALS

    def opening(self, link: int, now: float) -> None:
        """A socket dials."""
        self.state = DialState.OPENING
        self.link = link
        self.due = now + min(FIRST_ATTEMPT_S * 2**self.failures, MAX_ATTEMPT_S)

    def greeting(self, nonce: int, now: float) -> None:
        """It is connected, and HELLO was sent."""
        self.state = DialState.GREETING
        self.nonce = nonce
        self.due = now + HELLO_LIMIT_S

    def up(self, peer: int) -> None:
        """WELCOME came."""
        self.state = DialState.UP
        self.peer = peer
        self.failures = 0
        self.due = float("inf")

    def failed(self, now: float, chance: Callable[[], float]) -> None:
        """The attempt or the connection is over. The first new attempt is made at once.

        Args:
            now: local monotonic time in seconds.
            chance: draws from 0 to 1; a thousand peers must not come back in step.
        """
        pause = (
            min(0.05 * 2**self.failures, MAX_ATTEMPT_S) * (0.5 + chance()) if self.failures else 0.0
        )
        self.failures = min(self.failures + 1, 16)
        self._idle(now + pause)

    def leaving(self, now: float) -> None:
        """The other said goodbye, and our answer is on its way."""
        self.state = DialState.LEAVING
        self.due = now + BYE_LINGER_S

    def duplicate(self, peer: int, now: float) -> None:
        """It led to a process that another address leads to."""
        self.peer = peer
        self._idle(now + DUPLICATE_RETRY_S)

    def _idle(self, due: float) -> None:
        self.state = DialState.IDLE
        self.link = 0
        self.due = due


class Dialer:
    """All addresses that a process dials.

    Links that are dialled bear negative numbers; those that others dial bear positive ones.

    Args:
        chance: draws from 0 to 1.

    Attributes:
        left_out: how many of those that were named last are not dialled, as they are too many.

    Example:
        >>> lines = Dialer(lambda: 0.5)
        >>> lines.want({"tcp://10.0.0.7:7000"}, now=0.0)
        []
        >>> [(line.link, line.address) for line in lines.overdue(0.0)]
        [(0, 'tcp://10.0.0.7:7000')]
    """

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._lines: dict[str, DialedAddress] = {}
        self._by_link: dict[int, DialedAddress] = {}
        self._dialled = 0
        self.left_out = 0

    def want(
        self,
        addresses: Iterable[str],
        now: float,
        named: Iterable[str] = (),
        most_named: int = MOST_NAMED,
    ) -> list[int]:
        """These are all the addresses to be connected with.

        An address that is no longer listed stays while its link lives.

        Args:
            addresses: of our own settings.
            now: local monotonic time in seconds.
            named: by peers; the first count most where they are too many.
            most_named: addresses that are dialled beside our own.

        Returns:
            The links to give up.
        """
        own = set(addresses)
        others = [address for address in dict.fromkeys(named) if address not in own]
        wanted = own.union(self._within_room(own, others, most_named))
        for address in sorted(wanted - self._lines.keys()):
            self._lines[address] = DialedAddress(address, now)
        links = []
        for line in list(self._lines.values()):
            line.wanted = line.address in wanted
            if not line.wanted and line.state is not DialState.UP:
                links.append(line.link)
                self._forget(line)
        return [link for link in links if link]

    def _within_room(self, own: set[str], named: list[str], most: int) -> list[str]:
        """Those of the named addresses that are dialled; links that live take their room first."""
        living = {
            line.address
            for line in self._lines.values()
            if line.state is DialState.UP and line.address not in own
        }
        new = [address for address in named if address not in living]
        room = max(0, most - len(living))
        self.left_out = max(0, len(new) - room)
        return new[:room] + [address for address in named if address in living]

    def _forget(self, line: DialedAddress) -> None:
        self._lines.pop(line.address, None)
        self._by_link.pop(line.link, None)

    def of(self, link: int) -> DialedAddress | None:
        """The address whose present attempt this link is."""
        return self._by_link.get(link)

    def leads_to(self, peer: int) -> str:
        """The address that led to this incarnation, "" if none did."""
        return next((line.address for line in self._lines.values() if line.peer == peer), "")

    def is_greeting(self) -> bool:
        """Whether anybody was greeted and has not answered yet."""
        return any(line.state is DialState.GREETING for line in self._lines.values())

    def overdue(self, now: float) -> Iterator[DialedAddress]:
        """The lines whose time to act has come: to dial if they are idle, else to give up."""
        yield from [line for line in self._lines.values() if line.due <= now]

    def dial(self, line: DialedAddress, now: float) -> int:
        """Begin an attempt; returns the number of its link."""
        self._dialled -= 1
        line.opening(self._dialled, now)
        self._by_link[line.link] = line
        return line.link

    def ended(self, link: int, now: float) -> None:
        """A link is gone."""
        line = self._by_link.pop(link, None)
        if line is not None:
            line.failed(now, self._chance)
            if not line.wanted:
                self._forget(line)

    def duplicate(self, line: DialedAddress, peer: int, now: float) -> None:
        """An attempt is given up because its address leads to a process that we have."""
        self._by_link.pop(line.link, None)
        line.duplicate(peer, now)

    def next_due(self) -> float:
        """When the first of them is due."""
        return min((line.due for line in self._lines.values()), default=float("inf"))
