"""Opening the network of a process: the one place where a transport is chosen."""

from __future__ import annotations

from collections.abc import Callable, Collection
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh.transport.curve import Keys
    from mesh.transport.network import Network


def open_network(
    watch: Callable[[int], None],
    unwatch: Callable[[int], None],
    keys: Keys | None = None,
    gateways: Collection[str] | None = None,
    feeds: Collection[str] = (),
) -> Network:
    """Open a network that neither listens nor dials yet.

    Args:
        watch: called with each descriptor that the loop must watch from now on.
        unwatch: called with each that it must not watch any more.
        keys: secure the tcp links; None for plain ones.
        gateways, feeds: see `Network.trust`.

    Example:
        >>> network = open_network(lambda fd: None, lambda fd: None)
        >>> network.listen("tcp://127.0.0.1:*").startswith("tcp://127.0.0.1:")
        True
        >>> network.close()
    """
    from mesh.transport.zeromq import ZmqNetwork  # a supervisor without gateways needs no libzmq

    network = ZmqNetwork(monotonic, watch, unwatch, keys)
    network.trust(gateways, feeds)
    return network
