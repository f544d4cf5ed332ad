"""Whether a process listens at an address, found out by connecting and closing at once.

The kernel accepts on behalf of a process, even of one that is computing or stopped. If it refuses a
connection where it once accepted one, the process is gone, and there is no need to wait for it. A
closed connection says less: a broken network closes connections, too.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import select
import socket
from collections.abc import Callable

Answer = tuple[int, bool]  # the peer, and whether a process listens at its address
_LOOKS_S = (0.001, 0.005, 0.020, 0.100)  # after a probe, when to look for its answer
_REFUSED = frozenset({errno.ECONNREFUSED, errno.ENOENT})


class PortProber:
    """Probes addresses, and keeps the probes that have no answer yet.

    Args:
        clock: returns monotonic time in seconds.

    Attributes:
        awaiting: whether `answers` may return anything, now or later.

    Example:
        >>> import time
        >>> prober = PortProber(time.monotonic)
        >>> prober.probe(7, "ipc:///nowhere/at/all.sock")
        >>> prober.answers()
        [(7, False)]
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.awaiting = False
        self._answers: list[Answer] = []
        self._asked: dict[int, tuple[socket.socket, list[float]]] = {}

    @property
    def is_answered(self) -> bool:
        """Whether `answers` would return something now."""
        return bool(self._answers)

    def probe(self, peer: int, address: str) -> None:
        """Probe an address; an address that cannot be probed gets no answer.

        Args:
            peer: the number that the answer carries.
            address: such as ``tcp://10.0.0.7:7000`` or ``ipc:///run/x.sock``. A host name would
                need a resolver, so it is not probed. Peers wrote the address: it may be malformed.
        """
        self.awaiting = True
        self._forget(peer)
        place = _place(address)
        # No descriptor is left, or the address is malformed.
        with contextlib.suppress(OSError, ValueError, OverflowError):
            if place is not None:
                self._connect(peer, *place)

    def _connect(self, peer: int, family: int, where: str | tuple[str, int]) -> None:
        with contextlib.ExitStack() as closing:
            asking = closing.enter_context(
                socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            )
            code = asking.connect_ex(where)
            if code == errno.EINPROGRESS:
                now = self._clock()
                self._asked[peer] = asking, [now + pause for pause in _LOOKS_S]
                closing.pop_all()
            else:
                self._settle(peer, code)

    def _settle(self, peer: int, code: int) -> None:
        # EAGAIN: the queue of connections is full, so a process listens. Other errors say nothing.
        if code in (0, errno.EAGAIN) or code in _REFUSED:
            self._answers.append((peer, code not in _REFUSED))

    def _forget(self, peer: int) -> None:
        asked = self._asked.pop(peer, None)
        if asked is not None:
            asked[0].close()

    def next_due(self) -> float:
        """Return when `answers` must be called next; infinity if no answer is awaited."""
        return min((looks[0] for _, looks in self._asked.values()), default=float("inf"))

    def answers(self) -> list[Answer]:
        """Return the answers since the last call."""
        if self._asked:
            self._look(self._clock())
        answers, self._answers = self._answers, []
        self.awaiting = bool(self._asked)
        return answers

    def _look(self, now: float) -> None:
        for peer, (asking, looks) in list(self._asked.items()):
            if _is_decided(asking):
                self._settle(peer, asking.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
                self._forget(peer)
                continue
            while looks and looks[0] <= now:
                looks.pop(0)
            if not looks:
                self._forget(peer)

    def close(self) -> None:
        """Give up all probes."""
        for peer in list(self._asked):
            self._forget(peer)


def _is_decided(asking: socket.socket) -> bool:
    poll = select.poll()
    poll.register(asking, select.POLLOUT)
    return bool(poll.poll(0))


def _place(address: str) -> tuple[int, str | tuple[str, int]] | None:
    """Return family and address for `connect`, or None if the address cannot be probed."""
    scheme, _, rest = address.partition("://")
    if scheme == "ipc":
        path = f"\0{rest[1:]}" if rest.startswith("@") else rest
        return socket.AF_UNIX, path
    host, _, port = rest.rpartition(":")
    host = host.strip("[]")
    try:
        version = ipaddress.ip_address(host).version
        return (socket.AF_INET if version == 4 else socket.AF_INET6), (host, int(port))
    except ValueError:
        return None
