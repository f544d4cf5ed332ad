"""Turns a supervisor's `Herald` in the loop that waits for its processes.

ZeroMQ is loaded when it starts, so that describing a service does not need it.
"""

from __future__ import annotations

import os
import secrets
import selectors
import socket
from collections.abc import Callable, Iterable
from time import monotonic

from mesh.discovery import Discovery
from mesh.herald import Herald
from mesh.instructions import Identity
from mesh.links import Links
from mesh.messages import Obituary, Role
from mesh.node import Network, Node


class Reporter:
    """A supervisor's link to the gateways.

    Args:
        mesh: name of the mesh.
        timeout: seconds that a request lives by default; heartbeats follow from it.
        keys: folder of keys, "" for plain links.
    """

    def __init__(self, mesh: str, timeout: float, keys: str = "") -> None:
        self._keys = keys
        identity = Identity(
            incarnation=secrets.randbits(63) | 1,
            role=Role.SUPERVISOR,
            mesh=mesh,
            host=socket.gethostname(),
            pid=os.getpid(),
            timeout=timeout,
        )
        self._herald = Herald(Links(identity, secrets.SystemRandom().random))
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
        from mesh.security import Keys
        from mesh.sockets import ZmqNetwork

        def watch(fd: int) -> None:
            selector.register(fd, selectors.EVENT_READ, lambda: self._ready.append(fd))

        self._nudge = nudge
        keys = Keys(self._keys, ["supervisor"]) if self._keys else None
        self._network = ZmqNetwork(monotonic, watch, lambda fd: _forget(selector, fd), keys)
        self._node = Node(self._herald, self._network)
        self._look()

    def dial(self, addresses: Iterable[str], *, anew: bool = False) -> None:
        """These are all the gateways, by number or by name.

        Args:
            addresses: of all of them.
            anew: they listen since just now: attempts that failed before count for nothing.
        """
        if anew:
            self._known = set()
            self._herald.dial((), monotonic())
        wanted = list(addresses)
        if wanted != self._addresses:
            self._addresses = wanted
            self._look()

    def _look(self) -> None:
        if self._discovery is not None:
            self._discovery.stop()
        if self._node is not None:
            self._discovery = Discovery(self._addresses, lambda _: self._nudge())
            self._discovery.start()

    def died(self, obituary: Obituary) -> None:
        """A replica ended."""
        self._herald.died(obituary, monotonic())

    def turn(self) -> None:
        """Take in what has come, send what is to be sent."""
        if self._node is None or self._discovery is None:
            return
        now = monotonic()
        if self._discovery.known != self._known:
            self._known = self._discovery.known
            self._herald.dial(self._known, now)
        ready, self._ready = self._ready, []
        self._node.turn(now, ready)

    def next_due(self) -> float:
        """When to turn at the latest: monotonic seconds."""
        if self._node is None or self._network is None:
            return float("inf")
        return 0.0 if self._network.is_pending() else self._node.next_due()

    def close(self) -> None:
        """Hang up."""
        if self._discovery is not None:
            self._discovery.stop()
        if self._network is not None:
            self._network.close()
        self._node = self._network = None


def _forget(selector: selectors.BaseSelector, fd: int) -> None:
    selector.unregister(fd)
