"""Runs a supervisor's `DeathNotices` in the loop that waits for its processes.

ZeroMQ is imported in `start`, so that a process that only describes a service does not load it.
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
_UNKNOWN = "the reason is not known yet"


class GatewayLink:
    """A supervisor's link to the gateways.

    Args:
        mesh: the name of the mesh.
        timeout: default seconds of a request; the heartbeat interval is derived from it.
        keys: the folder of keys, "" for plain links.
        greets: whether to log the first connection to a gateway.

    Attributes:
        me: the supervisor's incarnation, which only its replicas and gateways know.
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
        self._objections: dict[str, str] = {}  # why gateways refused us, by address
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
        """Start dialling.

        Args:
            selector: the loop's; the data of each entry is the function to call.
            nudge: makes the loop run a turn; called from another thread.
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
        """Dial these gateways, and no others.

        Args:
            addresses: their addresses, with a number or a name as the host.
            anew: whether they have just begun to listen, so that earlier failures do not count.
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
        """Notify the gateways that a replica ended."""
        self._death_notices.died(death_notice, monotonic())

    def refused(self, slot: Slot, address: str, why: str) -> None:
        """Log that a gateway refuses a replica.

        Args:
            slot: the slot of the replica.
            address: the address of the gateway.
            why: the reason that the gateway gives, "" if it gives none.
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
        """Explain why a gateway that accepts this supervisor does not answer a replica."""
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
        """Receive, and send what is due; with `leaving`, no gateway need be reached any more."""
        if self._node is None or self._discovery is None:
            return
        now = monotonic()
        if self._discovery.known != self._known:
            self._known = self._discovery.known
            self._death_notices.dial(self._known, now)
        ready, self._ready = self._ready, []
        self._node.turn(now, ready)
        if leaving:
            self._reach = GatewayReach()  # a new one, which reports nothing
        else:
            self._watch(now)

    def _watch(self, now: float) -> None:
        """Log when the first gateway is reached, and when none is reached any more."""
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
                self._objections.clear()  # a gateway that still refuses us will report it again
            case ReachStep.MET:
                self._objections.clear()
                _log.info("connected with the gateway at %s", ", ".join(reached))

    def _find_out(self) -> None:
        """Diagnose in a thread why no gateway is reached, as resolving names may take long."""
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
        """Return when `turn` must be called next, at the latest: monotonic seconds."""
        if self._node is None or self._network is None:
            return float("inf")
        if self._network.is_pending():
            return 0.0
        return min(self._node.next_due(), self._reach.next_due())

    def close(self) -> None:
        """Hang up."""
        with self._telling:  # a diagnosis that is still running is not reported
            self._nudge = lambda: None
        if self._discovery is not None:
            self._discovery.stop()
        if self._network is not None:
            self._network.close()
        self._node = self._network = None


def _forget(selector: selectors.BaseSelector, fd: int) -> None:
    selector.unregister(fd)
