"""Whether anybody listens at an address, found out by connecting and hanging up at once.

The kernel answers for a process, also for one that is computing or stopped: who is refused where
it was once let in knows that the process is gone, and need not wait whether it comes back. That a
connection closed says less: so do harmed networks.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import select
import socket
from collections.abc import Callable

Answer = tuple[int, bool]  # who was probed at, and whether somebody is there
_LOOKS_S = (0.001, 0.005, 0.020, 0.100)  # seconds after a probe at which its answer is looked for
_NOBODY = frozenset({errno.ECONNREFUSED, errno.ENOENT})


class PortProber:
    """Knocks at addresses, and remembers who has not answered yet.

    Args:
        clock: monotonic time in seconds.

    Attributes:
        awaiting: an answer may come, or was not told yet; else there is nothing to ask for.

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
        """Whether `answers` has something to tell already."""
        return bool(self._answers)

    def probe(self, peer: int, address: str) -> None:
        """Ask at an address; there is no answer where none can be had at once.

        Args:
            peer: what the answer bears.
            address: such as ``tcp://10.0.0.7:7000`` or ``ipc:///run/x.sock``. A host that is
                named needs a resolver, and is not asked. Others wrote it, so it may be anything.
        """
        self.awaiting = True
        self._forget(peer)
        place = _place(address)
        # No descriptor is left; or nobody can have such an address.
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
        # EAGAIN: its queue of connections is full, so there is one.
        if code in (0, errno.EAGAIN) or code in _NOBODY:
            self._answers.append((peer, code not in _NOBODY))

    def _forget(self, peer: int) -> None:
        asked = self._asked.pop(peer, None)
        if asked is not None:
            asked[0].close()

    def next_due(self) -> float:
        """When an answer must be looked for."""
        return min((looks[0] for _, looks in self._asked.values()), default=float("inf"))

    def answers(self) -> list[Answer]:
        """What has been answered since the last call."""
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
        """Await nobody any more."""
        for peer in list(self._asked):
            self._forget(peer)


def _is_decided(asking: socket.socket) -> bool:
    poll = select.poll()
    poll.register(asking, select.POLLOUT)
    return bool(poll.poll(0))


def _place(address: str) -> tuple[int, str | tuple[str, int]] | None:
    """Family and address for `connect`, None where there is nothing to be asked at once."""
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
