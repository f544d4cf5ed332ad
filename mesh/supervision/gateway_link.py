"""Turns a supervisor's `DeathNotices` in the loop that waits for its processes.

ZeroMQ is loaded when it starts, so that describing a service does not need it.
"""

from __future__ import annotations

import os
import secrets
import selectors
import socket
import threading
from collections.abc import Callable, Iterable
from time import monotonic

from mesh.links.events import Identity
from mesh.links.expulsions import ExpulsionLog
from mesh.links.links import Links
from mesh.links.node import Node
from mesh.log import get_logger
from mesh.protocol.messages import Death, Role
from mesh.supervision.death_notices import DeathNotices
from mesh.supervision.diagnosis import MAX_DIAGNOSED, explain
from mesh.supervision.events import Slot
from mesh.supervision.reach import GatewayReach, ReachStep, Unanswered
from mesh.transport.discovery import Discovery, first_of
from mesh.transport.network import Network

_log = get_logger()
_UNKNOWN = "the reason is still being looked for"


class GatewayLink:
    """A supervisor's link to the gateways.

    Args:
        mesh: name of the mesh.
        timeout: seconds that a request lives by default; heartbeats follow from it.
        keys: folder of keys, "" for plain links.
        greets: whether the first connection with a gateway is worth a line of the log.

    Attributes:
        me: its incarnation, which only its replicas and gateways know.
    """

    def __init__(self, mesh: str, timeout: float, keys: str = "", *, greets: bool = False) -> None:
        self._keys = keys
        identity = Identity(
            incarnation=secrets.randbits(63) | 1,
            role=Role.SUPERVISOR,
            mesh=mesh,
            host=socket.gethostname(),
            pid=os.getpid(),
            timeout=timeout,
        )
        self._reach = GatewayReach(greets)
        self._unanswered = Unanswered()
        self._objections: dict[str, str] = {}  # of gateways, by address
        self._why = _UNKNOWN
        self._finding_out: threading.Thread | None = None
        self._found_out = False
        self._telling = threading.Lock()
        self.me = identity.incarnation
        links = Links(identity, secrets.SystemRandom().random, objected=self._objected)
        links.expelled = ExpulsionLog().record
        self._death_notices = DeathNotices(links)
        self._network: Network | None = None
        self._node: Node | None = None
        self._discovery: Discovery | None = None
        self._addresses: list[str] = []
        self._known: set[str] = set()
        self._ready: list[int] = []
        self._nudge: Callable[[], None] = lambda: None

    def start(self, selector: selectors.BaseSelector, nudge: Callable[[], None]) -> None:
        """Begin to dial.

        Args:
            selector: of the loop; a descriptor's entry there holds what is to be called.
            nudge: has the loop turn; called from another thread.
        """
        from mesh.transport.curve import Keys
        from mesh.transport.factory import open_network

        def watch(fd: int) -> None:
            selector.register(fd, selectors.EVENT_READ, lambda: self._ready.append(fd))

        self._nudge = nudge
        keys = Keys(self._keys, ["supervisor"]) if self._keys else None
        self._network = open_network(watch, lambda fd: _forget(selector, fd), keys)
        self._node = Node(self._death_notices, self._network)
        self._look()

    def dial(self, addresses: Iterable[str], *, anew: bool = False) -> None:
        """These are all the gateways, by number or by name.

        Args:
            addresses: of all of them.
            anew: they listen since just now: attempts that failed before count for nothing.
        """
        if anew:
            self._known = set()
            self._death_notices.dial((), monotonic())
        wanted = list(addresses)
        if wanted != self._addresses:
            self._addresses = wanted
            self._look()
        if wanted:
            self._reach.begin(monotonic())

    def _look(self) -> None:
        if self._discovery is not None:
            self._discovery.stop()
        if self._node is not None:
            self._discovery = Discovery(self._addresses, lambda _: self._nudge())
            self._discovery.start()

    def died(self, death_notice: Death) -> None:
        """A replica ended."""
        self._death_notices.died(death_notice, monotonic())

    def refused(self, slot: Slot, address: str, why: str) -> None:
        """A gateway does not let a replica in.

        Args:
            slot: the replica's.
            address: the gateway's.
            why: what it says, "" if nothing.
        """
        if not why:
            reached = self._death_notices.links.addresses_of(Role.GATEWAY)
            if not self._unanswered.is_refused(str(slot), address, reached):
                return
            why = self._silently(slot.stage)
        self._objected(address, why)
        if self._reach.may_say_refused(address, monotonic()):
            text = "the gateway at %s refuses the replicas of %s: %s"
            _log.warning(text, address, slot.stage, why)

    def _silently(self, stage: str) -> str:
        """Why a gateway that lets this host's supervisor in leaves a replica out."""
        if not self._keys:
            return "it does not answer them"
        return (
            f"it does not take their key, stage-{stage}.key or else stage.key in {self._keys}: "
            "its allowed.toml must have it (its log names the key)"
        )

    def _objected(self, address: str, why: str) -> None:
        if why:
            self._objections[address] = why

    def turn(self, leaving: bool = False) -> None:
        """Receive, and send what is due; `leaving`: no gateway need be reached any more."""
        if self._node is None or self._discovery is None:
            return
        now = monotonic()
        if self._discovery.known != self._known:
            self._known = self._discovery.known
            self._death_notices.dial(self._known, now)
        ready, self._ready = self._ready, []
        self._node.turn(now, ready)
        if leaving:
            self._reach = GatewayReach()  # which has nothing to say
        else:
            self._watch(now)

    def _watch(self, now: float) -> None:
        """Say whether any gateway is reached, where that is news."""
        if self._found_out:
            self._found_out = False
            self._reach.answered()
        reached = self._death_notices.links.addresses_of(Role.GATEWAY)
        self._unanswered.keep(reached)
        match self._reach.look(bool(reached), now):
            case ReachStep.ASK:
                self._find_out()
            case ReachStep.SAY:
                _log.warning("no gateway is reached, trying on: %s", self._why)
                self._objections.clear()  # one that is still refused hears so again
            case ReachStep.MET:
                self._objections.clear()
                _log.info("connected with the gateway at %s", ", ".join(reached))

    def _find_out(self) -> None:
        """Have it found out why, beside the loop: names may take long to be looked up."""
        if self._finding_out is None or not self._finding_out.is_alive():
            self._why = f"{', '.join(map(first_of, self._addresses[:MAX_DIAGNOSED]))}: {_UNKNOWN}"
            asked = (list(self._addresses), dict(self._objections))
            self._finding_out = threading.Thread(target=self._ask, args=asked, daemon=True)
            self._finding_out.start()

    def _ask(self, addresses: list[str], objections: dict[str, str]) -> None:
        self._why = explain(addresses, objections, bool(self._keys))
        self._found_out = True
        with self._telling:
            self._nudge()

    def next_due(self) -> float:
        """When to turn at the latest: monotonic seconds."""
        if self._node is None or self._network is None:
            return float("inf")
        if self._network.is_pending():
            return 0.0
        return min(self._node.next_due(), self._reach.next_due())

    def close(self) -> None:
        """Hang up."""
        with self._telling:  # what is being found out is reported no more
            self._nudge = lambda: None
        if self._discovery is not None:
            self._discovery.stop()
        if self._network is not None:
            self._network.close()
        self._node = self._network = None


def _forget(selector: selectors.BaseSelector, fd: int) -> None:
    selector.unregister(fd)
