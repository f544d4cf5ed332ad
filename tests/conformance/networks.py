"""Memory, ipc and tcp behind one face, so that one suite can ask the same of all three.

An end calls `receive` only when the `Network` contract says that there is something to receive:
a descriptor is ready, `is_pending`, or `next_due` has come. So a network that forgets to say so
fails by waiting in vain.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

from mesh.protocol.fields import Frame
from mesh.transport.curve import Keys, generate
from mesh.transport.memory import FakeClock, MemoryNetwork
from mesh.transport.network import Event, Network, NetworkEvent
from mesh.transport.zeromq import ZmqNetwork

PATIENCE = 5.0

DIALLER = """
import sys, threading, time
from mesh.transport.curve import Keys
from mesh.transport.zeromq import ZmqNetwork
keys = Keys(sys.argv[2], ["stage"], "gateway") if sys.argv[2] else None
network = ZmqNetwork(time.monotonic, keys=keys)
network.dial(-1, sys.argv[1])
until = time.monotonic() + 10
while not network.receive() and time.monotonic() < until:
    network._touched.update(network._dialled.values())
    threading.Event().wait(0.005)
network.send(-1, [b"here I am"])
threading.Event().wait(60)
"""
LISTENER = """
import sys, threading, time
from mesh.transport.curve import Keys
from mesh.transport.zeromq import ZmqNetwork
keys = Keys(sys.argv[2], ["stage"], "gateway") if sys.argv[2] else None
network = ZmqNetwork(time.monotonic, keys=keys)
print(network.listen(sys.argv[1]), flush=True)
threading.Event().wait(60)
"""


class End:
    """One process's network, and all that happened on it."""

    def __init__(self, network: Network, wait: Callable[[float], list[int]]) -> None:
        self.network = network
        self.events: list[Event] = []
        self._wait = wait

    def collect(self, longest: float, clock: Callable[[], float]) -> None:
        """Receive if there is something, waiting at most so many seconds for it."""
        pause = min(longest, self.network.next_due() - clock())
        ready = [] if self.network.is_pending() else self._wait(max(0.0, pause))
        if ready or self.network.is_pending() or self.network.next_due() <= clock():
            self.events += self.network.receive(ready)

    def happened(self, what: NetworkEvent, link: int | None = None) -> bool:
        """Whether that was reported (of that link)."""
        return any(h is what and link in (None, number) for h, number, _ in self.events)

    def messages(self) -> list[list[bytes]]:
        """The multiparts that came, in order."""
        return [
            [bytes(frame) for frame in frames]
            for happened, _, frames in self.events
            if happened is NetworkEvent.MESSAGE
        ]

    def links(self) -> list[int]:
        """The links by which messages came, in the order of their first."""
        return list(dict.fromkeys(n for h, n, _ in self.events if h is NetworkEvent.MESSAGE))


class Setup:
    """A kind of network, and the ends that a test opened on it."""

    def __init__(self) -> None:
        self.ends: list[End] = []

    def now(self) -> float:
        """The time by which these networks go."""
        raise NotImplementedError

    def end(self) -> End:
        """A new process's end."""
        raise NotImplementedError

    def address(self) -> str:
        """Where one may listen."""
        raise NotImplementedError

    def until(self, condition: Callable[[], object], seconds: float = PATIENCE) -> bool:
        """Turn all ends until something holds; False if it never does."""
        raise NotImplementedError

    def mortal_dialler(self, address: str) -> Callable[[], None]:
        """Another process that dials and says something; returns how to kill it."""
        raise NotImplementedError

    def mortal_listener(self) -> tuple[str, Callable[[], None]]:
        """Another process that listens: where, and how to kill it."""
        raise NotImplementedError

    def joined(self) -> tuple[End, End, int]:
        """Two ends with a link: who listens, who dialled (its link is -1), and the other number."""
        listener, dialler = self.end(), self.end()
        dialler.network.dial(-1, listener.network.listen(self.address()))
        assert self.until(lambda: dialler.happened(NetworkEvent.OPENED, -1))
        assert dialler.network.send(-1, [b"hello"])
        assert self.until(listener.messages)
        (number,) = listener.links()
        listener.events.clear()
        dialler.events.clear()
        return listener, dialler, number

    def close(self) -> None:
        """Close every end."""
        for end in self.ends:
            end.network.close()


class Memory(Setup):
    """`MemoryNetwork`; time passes when nothing is to be done."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.hub = MemoryNetwork(self.clock, seed=1, delay=0.001, jitter=0.001)

    def now(self) -> float:
        return self.clock()

    def end(self) -> End:
        end = End(self.hub.port(f"end {len(self.ends)}"), lambda _: [])
        self.ends.append(end)
        return end

    def address(self) -> str:
        return "memory://*"

    def until(self, condition: Callable[[], object], seconds: float = PATIENCE) -> bool:
        end_at = self.clock() + seconds
        while not condition():
            if self.clock() >= end_at:
                return False
            self.clock.now = max(self.clock(), min(self.hub.next_due(), end_at))
            for end in self.ends:
                end.collect(0.0, self.clock)
        return True

    def mortal_dialler(self, address: str) -> Callable[[], None]:
        end = self.end()
        end.network.dial(-1, address)
        assert self.until(lambda: end.happened(NetworkEvent.OPENED, -1))
        end.network.send(-1, [b"here I am"])
        return end.network.close

    def mortal_listener(self) -> tuple[str, Callable[[], None]]:
        end = self.end()
        return end.network.listen(self.address()), end.network.close


class Real(Setup):
    """`ZmqNetwork` over ipc or tcp, or over tcp with keys."""

    def __init__(self, folder: Path, scheme: str) -> None:
        super().__init__()
        self._folder = folder / f"meshline-{os.getuid()}-{os.getpid()}-ab"  # as of a run
        self._folder.mkdir(mode=0o700)
        self._scheme = scheme
        self._count = 0
        self._polls: list[select.epoll] = []
        self._children: list[subprocess.Popen[str]] = []
        self._keys = folder / "keys" if scheme == "keys" else None
        if self._keys is not None:
            generate(self._keys, ())

    def now(self) -> float:
        return monotonic()

    def end(self) -> End:
        poll = select.epoll()
        self._polls.append(poll)
        network = ZmqNetwork(
            monotonic,
            lambda fd: poll.register(fd, select.EPOLLIN),
            lambda fd: poll.unregister(fd),
            None if self._keys is None else Keys(str(self._keys), ["stage"], "gateway"),
        )
        end = End(network, lambda longest: [fd for fd, _ in poll.poll(longest)])
        self.ends.append(end)
        return end

    def address(self) -> str:
        if self._scheme in ("tcp", "keys"):
            return "tcp://127.0.0.1:*"
        if self._scheme == "tcp6":
            return "tcp://[::1]:*"
        self._count += 1
        return f"ipc://{self._folder}/feed-{self._count}.sock"

    def until(self, condition: Callable[[], object], seconds: float = PATIENCE) -> bool:
        end_at = monotonic() + seconds
        while not condition():
            if monotonic() >= end_at:
                return False
            for end in self.ends:
                end.collect(0.002, monotonic)
        return True

    def mortal_dialler(self, address: str) -> Callable[[], None]:
        return self._child(DIALLER, address).kill

    def mortal_listener(self) -> tuple[str, Callable[[], None]]:
        child = self._child(LISTENER, self.address())
        assert child.stdout is not None
        return child.stdout.readline().strip(), child.kill

    def _child(self, text: str, address: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", text, address, str(self._keys or "")]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._children.append(child)
        return child

    def close(self) -> None:
        super().close()
        for poll in self._polls:
            poll.close()
        for child in self._children:
            child.kill()
            child.communicate()


def flat(frames: Sequence[Frame]) -> list[bytes]:
    """The frames as bytes, to compare them."""
    return [bytes(frame) for frame in frames]
