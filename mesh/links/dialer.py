"""The addresses that a process dials, and the state of each attempt. Pure.

libzmq's own reconnection is off: it replays stale queues into a new peer, and gives up for good
after a protocol error. Here each attempt is a new socket. The first one follows a loss at once,
later ones follow after an exponential backoff with jitter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum

from mesh.protocol.incarnations import shown

FIRST_ATTEMPT_S = 0.25  # limit of the first attempt to connect, doubled with each failure
HELLO_LIMIT_S = 2.0  # limit for the answer to HELLO
MAX_ATTEMPT_S = 3.0  # the longest limit of an attempt, and about the longest backoff
BYE_LINGER_S = 0.25  # how long the link stays open so that our answer to BYE arrives
# Failed attempts before a refusal is reported. The peer may refuse the first attempt only because
# it has not noticed yet that our last connection is gone.
REFUSALS = 2
DUPLICATE_RETRY_S = 30.0  # pause of an address that led to a process we are connected with
# Limit of the addresses that are dialled because peers named them; two gateways may name different
# ones. Each takes two descriptors.
MOST_NAMED = 1024


class DialState(Enum):
    """The state of an address."""

    IDLE = "idle"
    OPENING = "opening"
    GREETING = "greeting"
    UP = "up"
    LEAVING = "leaving"


class DialedAddress:
    """One address to dial.

    Attributes:
        address: such as ``tcp://10.0.0.7:7000``.
        wanted: whether the settings or a peer still list it. An address that is not wanted is
            forgotten when its link closes.
        state: IDLE between attempts, OPENING until connected, GREETING until WELCOME, UP while a
            session uses the link, LEAVING after the peer's BYE.
        link: the link of the present attempt, 0 if there is none.
        peer: the incarnation that answered last, 0 if none did.
        nonce: the nonce of the HELLO that was sent.
        due: when to act next if nothing happens, local monotonic time in seconds.
        failures: failed attempts since the last WELCOME, at most 16.
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
        return f"<DialedAddress {self.address} {self.state.value} {shown(self.peer)}>"

    @property
    def is_refused(self) -> bool:
        """Whether so many attempts have failed that the next failure is reported."""
        return self.failures >= REFUSALS

    def opening(self, link: int, now: float) -> None:
        """IDLE → OPENING: a new socket connects over this link."""
        self.state = DialState.OPENING
        self.link = link
        self.due = now + min(FIRST_ATTEMPT_S * 2**self.failures, MAX_ATTEMPT_S)

    def greeting(self, nonce: int, now: float) -> None:
        """OPENING → GREETING: the socket is connected, and HELLO was sent."""
        self.state = DialState.GREETING
        self.nonce = nonce
        self.due = now + HELLO_LIMIT_S

    def up(self, peer: int) -> None:
        """GREETING → UP: WELCOME came."""
        self.state = DialState.UP
        self.peer = peer
        self.failures = 0
        self.due = float("inf")  # only the end of the link changes this state

    def failed(self, now: float, chance: Callable[[], float]) -> None:
        """Any state → IDLE: the attempt failed, or the connection closed.

        The first new attempt is due at once: most losses are a restart of the peer.

        Args:
            now: local monotonic time in seconds.
            chance: draws from 0 to 1, for jitter: a thousand peers must not reconnect in step.
        """
        pause = (
            min(0.05 * 2**self.failures, MAX_ATTEMPT_S) * (0.5 + chance()) if self.failures else 0.0
        )
        self.failures = min(self.failures + 1, 16)
        self._idle(now + pause)

    def leaving(self, now: float) -> None:
        """UP → LEAVING: the peer said BYE; the link stays open until our answer has arrived."""
        self.state = DialState.LEAVING
        self.due = now + BYE_LINGER_S

    def duplicate(self, peer: int, now: float) -> None:
        """GREETING or OPENING → IDLE: another address already leads to the same process."""
        self.peer = peer
        self._idle(now + DUPLICATE_RETRY_S)

    def _idle(self, due: float) -> None:
        self.state = DialState.IDLE
        self.link = 0
        self.due = due


class Dialer:
    """All addresses that a process dials.

    The links that this process dials have negative numbers; the links that peers dial have positive
    ones.

    Args:
        chance: draws from 0 to 1.

    Attributes:
        left_out: how many of the addresses that peers named last exceed the limit, and are not
            dialled.

    Example:
        >>> dialer = Dialer(lambda: 0.5)
        >>> dialer.want({"tcp://10.0.0.7:7000"}, now=0.0)
        []
        >>> [(dialed.link, dialed.address) for dialed in dialer.overdue(0.0)]
        [(0, 'tcp://10.0.0.7:7000')]
    """

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._addresses: dict[str, DialedAddress] = {}
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
        """Replace the list of addresses to be connected with.

        An address that is no longer listed stays as long as its link is up.

        Args:
            addresses: the addresses of our own settings.
            now: local monotonic time in seconds.
            named: the addresses that peers named, the most important first.
            most_named: how many of them are dialled at most.

        Returns:
            The links to close.
        """
        own = set(addresses)
        others = [address for address in dict.fromkeys(named) if address not in own]
        wanted = own.union(self._within_room(own, others, most_named))
        for address in sorted(wanted - self._addresses.keys()):
            self._addresses[address] = DialedAddress(address, now)
        links = []
        for dialed in list(self._addresses.values()):
            dialed.wanted = dialed.address in wanted
            if not dialed.wanted and dialed.state is not DialState.UP:
                links.append(dialed.link)
                self._forget(dialed)
        return [link for link in links if link]

    def _within_room(self, own: set[str], named: list[str], most: int) -> list[str]:
        """Choose the named addresses to dial. Those whose link is up count first: closing a working
        link to make room for a new one would gain nothing."""
        living = {
            dialed.address
            for dialed in self._addresses.values()
            if dialed.state is DialState.UP and dialed.address not in own
        }
        new = [address for address in named if address not in living]
        room = max(0, most - len(living))
        self.left_out = max(0, len(new) - room)
        return new[:room] + [address for address in named if address in living]

    def _forget(self, dialed: DialedAddress) -> None:
        self._addresses.pop(dialed.address, None)
        self._by_link.pop(dialed.link, None)

    def of(self, link: int) -> DialedAddress | None:
        """Return the address whose present attempt uses this link, if there is one."""
        return self._by_link.get(link)

    def leads_to(self, peer: int) -> str:
        """Return the address that led to this incarnation, or "" if none did."""
        return next(
            (dialed.address for dialed in self._addresses.values() if dialed.peer == peer), ""
        )

    def is_greeting(self) -> bool:
        """Whether a HELLO was sent and not answered yet."""
        return any(dialed.state is DialState.GREETING for dialed in self._addresses.values())

    def overdue(self, now: float) -> Iterator[DialedAddress]:
        """Yield the addresses that are due: dial those that are idle, give up the others."""
        yield from [dialed for dialed in self._addresses.values() if dialed.due <= now]

    def dial(self, dialed: DialedAddress, now: float) -> int:
        """Begin an attempt, and return the number of its link."""
        self._dialled -= 1
        dialed.opening(self._dialled, now)
        self._by_link[dialed.link] = dialed
        return dialed.link

    def ended(self, link: int, now: float) -> None:
        """Handle that a link closed."""
        dialed = self._by_link.pop(link, None)
        if dialed is not None:
            dialed.failed(now, self._chance)
            if not dialed.wanted:
                self._forget(dialed)

    def duplicate(self, dialed: DialedAddress, peer: int, now: float) -> None:
        """Give up an attempt because another address already leads to the same process."""
        self._by_link.pop(dialed.link, None)
        dialed.duplicate(peer, now)

    def next_due(self) -> float:
        """Return when the first address is due."""
        return min((dialed.due for dialed in self._addresses.values()), default=float("inf"))
