"""ZeroMQ as a `Network`: the only module that knows it. Facts and traps: docs/protocol.md,
"Rules about ZeroMQ".

One ROUTER accepts, one DEALER per dialled address. A descriptor of ZeroMQ's says only "look at my
EVENTS", and only once; every send or receive may use that word up. So whatever socket was touched
is looked at again before the loop sleeps (`is_pending`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from mesh.errors import StartError
from mesh.process.connections import close_inherited
from mesh.process.fork import in_child
from mesh.protocol.fields import MAX_BODY_BYTES, Frame
from mesh.protocol.messages import Hello
from mesh.transport.curve import Keys, ZapAuthenticator
from mesh.transport.dialable import bindable, folder_of, is_dialable, is_private
from mesh.transport.handshake_log import HandshakeLog
from mesh.transport.network import Event, NetworkEvent
from mesh.transport.port_probe import PortProber

# Past the sugar's keyword and enum handling, which costs 1 µs per call.
_send: Callable[..., object] = zmq.backend.Socket.send
_recv: Callable[..., Any] = zmq.backend.Socket.recv
_get: Callable[..., Any] = zmq.backend.Socket.get
_poll: Callable[..., Any] = zmq.backend.zmq_poll
_IN = int(zmq.POLLIN)
_OUT = int(zmq.POLLOUT)
_EITHER = _IN | _OUT
_DISCONNECTED = int(zmq.EVENT_DISCONNECTED)
_UNSHAKEN = int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
_LAST = int(zmq.NOBLOCK)
_MORE = int(zmq.SNDMORE | zmq.NOBLOCK)
_ZERO_COPY_BYTES = 64 * 1024  # bytes from which a frame is handed over uncopied
_MESSAGES_PER_TURN = (
    256  # messages taken from one socket in one turn, so that none starves the rest
)
# Looked for after a disconnect: libzmq names no peer, and may need a moment to know itself.
_PROBE_DELAYS_S = (0.0, 0.005, 0.050)

_OPTIONS = {
    zmq.LINGER: 0,
    zmq.SNDHWM: 4096,  # a tripwire; credit is the bound
    zmq.RCVHWM: 1024,
    zmq.MAXMSGSIZE: MAX_BODY_BYTES + 1024 * 1024,
    zmq.HANDSHAKE_IVL: 5000,
    zmq.HEARTBEAT_IVL: 500,  # answered by libzmq's own thread, also while Python holds its lock
    zmq.HEARTBEAT_TIMEOUT: 2000,
    zmq.HEARTBEAT_TTL: 2500,
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 30,
    zmq.TCP_KEEPALIVE_INTVL: 5,
    zmq.TCP_KEEPALIVE_CNT: 3,
    zmq.TCP_MAXRT: 15000,
    zmq.BACKLOG: 1024,
}


class _Dialled:
    """A DEALER and whether it was ever connected."""

    __slots__ = ("address", "fd", "link", "opened", "poll", "socket")

    def __init__(self, link: int, address: str, socket: zmq.Socket[bytes]) -> None:
        self.link = link
        self.address = address
        self.socket = socket
        self.poll = [(socket, _EITHER)]
        self.fd: int = _get(socket, zmq.FD)
        self.opened = False

    def take(self) -> Event:
        return NetworkEvent.MESSAGE, self.link, _receive_frames(self.socket)


def _nobody(fd: int) -> None:
    pass


class ZmqNetwork:
    """Links over ipc and tcp.

    Args:
        clock: monotonic time in seconds.
        watch: called with each descriptor that the loop must watch from now on.
        unwatch: called with each that it must not watch any more.
        keys: that tcp links are secured with, None for plain ones.

    Example:
        >>> import time
        >>> network = ZmqNetwork(time.monotonic)
        >>> network.listen("tcp://127.0.0.1:*").startswith("tcp://127.0.0.1:")
        True
        >>> network.close()
    """

    def __init__(
        self,
        clock: Callable[[], float],
        watch: Callable[[int], None] = _nobody,
        unwatch: Callable[[int], None] = _nobody,
        keys: Keys | None = None,
    ) -> None:
        self._context = zmq.Context()
        self._clock = clock
        self._watch = watch
        self._unwatch = unwatch
        self._gateways: Collection[str] | None = None
        self._feeds: Collection[str] = ()
        self._keys = keys
        self._check: ZapAuthenticator | None = None
        self._handshakes = HandshakeLog(keyed=keys is not None)
        self._key_of: dict[int, str] = {}  # of links that dialled us, while keys are checked
        self._source_of: dict[int, str] = {}  # the same, with the address they come from
        self._router: zmq.Socket[bytes] | None = None
        self._router_fd = self._monitor_fd = -1
        self._router_poll: list[tuple[zmq.Socket[bytes], int]] = []
        self._monitor: zmq.Socket[bytes] | None = None
        self._probes: list[float] = []
        self._prober = PortProber(clock)
        self._look_at_router = False
        self._by_id: dict[bytes, int] = {}
        self._id_of: dict[int, bytes] = {}
        self._accepted = 0
        self._dialled: dict[int, _Dialled] = {}
        self._by_fd: dict[int, _Dialled] = {}
        self._touched: set[_Dialled] = set()
        self._bound = ""
        self._undo = in_child(self._abandon)

    # --- opening and closing ---------------------------------------------------------------------

    def trust(self, gateways: Collection[str] | None, feeds: Collection[str]) -> None:
        """Say which addresses our own settings name. Of ipc addresses, `is_dialable` decides."""
        self._gateways, self._feeds = gateways, feeds

    def listen(self, address: str) -> str:
        """Accept links at an address such as ``tcp://127.0.0.1:*`` or ``ipc:///run/x.sock``.

        Returns:
            The address with the port filled in.

        Raises:
            StartError: it cannot be bound.
        """
        socket = self._socket(zmq.ROUTER, address)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        if self._keys is not None and address.startswith("tcp://"):
            self._check = ZapAuthenticator(self._context, self._keys)
            self._check.try_wrong_key()
            self._keys.secure_listening(socket)
        monitor = socket.get_monitor_socket(_DISCONNECTED | _UNSHAKEN)
        try:
            with bindable(address):
                socket.bind(address)
        except StartError:
            _close_watched(socket, monitor)
            raise
        except zmq.ZMQError as error:
            _close_watched(socket, monitor)
            raise StartError(f"cannot listen at {address}: {error.strerror}") from error
        self._router, self._monitor = socket, monitor
        self._router_fd = _get(socket, zmq.FD)
        self._router_poll = [(socket, _IN)]
        self._monitor_fd = _get(monitor, zmq.FD)
        self._watch(self._router_fd)
        self._watch(self._monitor_fd)
        self._look_at_router = True
        self._drain_monitor()  # its descriptor says nothing before it was looked at once
        bound: bytes = _get(socket, zmq.LAST_ENDPOINT)
        self._bound = bound.rstrip(b"\0").decode()
        return self._bound

    def dial(self, link: int, address: str) -> None:
        """Begin to connect a new socket; where that cannot be, the attempt runs out like any."""
        is_gateway = self._gateways is None or address in self._gateways
        if not (_is_safe(address) if is_gateway else is_dialable(address, self._feeds)):
            return
        try:
            socket = self._socket(zmq.DEALER, address)
        except zmq.ZMQError:  # no descriptor is left
            return
        try:
            self._connect(socket, address, "gateway" if is_gateway else "feed")
            dialled = _Dialled(link, address, socket)
        except zmq.ZMQError:  # no such address, or again no descriptor
            socket.close(0)
            return
        self._dialled[link] = dialled
        self._by_fd[dialled.fd] = dialled
        self._touched.add(dialled)
        self._watch(dialled.fd)

    def _connect(self, socket: zmq.Socket[bytes], address: str, listener: str) -> None:
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.RECONNECT_IVL, -1)
        socket.setsockopt(zmq.CONNECT_TIMEOUT, 3000)
        if self._keys is not None and address.startswith("tcp://"):
            self._keys.secure_dialling(socket, listener)
        socket.connect(address)

    def _socket(self, kind: int, address: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        # Not for all: with it an IPv4 address is bound, and shown, as ``[::ffff:127.0.0.1]``.
        socket.setsockopt(zmq.IPV6, int(address.startswith("tcp://[")))
        for option, value in _OPTIONS.items():
            socket.setsockopt(option, value)
        return socket

    def hang_up(self, link: int) -> None:
        """Close a dialled socket; of one that dialled us, forget the name."""
        dialled = self._dialled.pop(link, None)
        if dialled is not None:
            self._touched.discard(dialled)
            del self._by_fd[dialled.fd]
            self._unwatch(dialled.fd)
            dialled.socket.close(0)
        identity = self._id_of.pop(link, None)
        if identity is not None:
            self._by_id.pop(identity, None)
            self._key_of.pop(link, None)
            self._source_of.pop(link, None)

    def objection(self, link: int, hello: Hello) -> str:
        """Why who dialled us may not be what it says, by its key; "" where none are checked."""
        if self._keys is None or self._check is None:
            return ""
        return self._keys.objection(self._key_of.get(link, ""), hello)

    def source(self, link: int) -> str:
        """The key and the address of who dialled us; "" where no keys are checked."""
        return self._source_of.get(link, "")

    def close(self) -> None:
        """Close every socket and the context."""
        self._undo()
        for link in list(self._dialled):
            self.hang_up(link)
        if self._router is not None and self._monitor is not None:
            self._unwatch(self._router_fd)
            self._unwatch(self._monitor_fd)
            _close_watched(self._router, self._monitor)
            self._router = None
        if self._check is not None:
            self._check.close()
            self._check = None
        self._prober.close()
        self._context.term()

    def _abandon(self) -> None:
        """In a forked child: hold no connection open. What is left of libzmq is inert there.

        Its own descriptors (wake-ups, epolls) have no thread in the child that would touch them.
        """
        bound = [self._bound] if self._bound else []
        close_inherited(bound, [dialled.address for dialled in self._dialled.values()])
        self._prober.close()

    # --- sending ---------------------------------------------------------------------------------

    def send(self, link: int, frames: Sequence[Frame]) -> bool:
        """Send one multipart; False if the link is gone, stuck, or took only a part."""
        try:
            if link > 0:
                identity = self._id_of.get(link)
                if identity is None or self._router is None:
                    return False
                self._look_at_router = True
                _send(self._router, identity, _MORE)
                _send_frames(self._router, frames)
            else:
                dialled = self._dialled.get(link)
                if dialled is None:
                    return False
                self._touched.add(dialled)
                _send_frames(dialled.socket, frames)
        except zmq.ZMQError:
            self.hang_up(link)
            return False
        return True

    def probe(self, peer: int, address: str) -> None:
        """Ask whether a process listens at a feed's address, or at one of our gateways'."""
        if address in (self._gateways or ()) or is_dialable(address, self._feeds):
            self._prober.probe(peer, address)

    # --- receiving -------------------------------------------------------------------------------

    def is_pending(self) -> bool:
        """Whether a socket was touched since its EVENTS were read."""
        if self._look_at_router or self._touched:
            return True
        return self._prober.awaiting and self._prober.is_answered

    def next_due(self) -> float:
        """When the next look for a vanished consumer, or for an answered probe, is due."""
        due = self._probes[0] if self._probes else float("inf")
        return min(due, self._prober.next_due()) if self._prober.awaiting else due

    def receive(self, ready: Iterable[int] = ()) -> list[Event]:
        """Drain the sockets at these descriptors and those that were touched."""
        events: list[Event] = []
        for fd in ready:
            self._heed(fd, events)
        if self._look_at_router:
            self._drain_router(events)
        if self._touched:
            touched, self._touched = self._touched, set()
            for dialled in touched:
                self._drain_dialled(dialled, events)
        if self._probes and self._probes[0] <= self._clock():
            self._probes.pop(0)
            events.append((NetworkEvent.DOUBT, 0, ()))
        if self._prober.awaiting:
            self._hear_probes(events)
        return events

    def _heed(self, fd: int, events: list[Event]) -> None:
        """Take what a descriptor promised, nearly always a message, without asking once more."""
        try:
            if fd == self._router_fd:
                self._look_at_router = True
                events.append(self._take_routed())
            elif fd == self._monitor_fd:
                self._drain_monitor()
            elif fd in self._by_fd:
                dialled = self._by_fd[fd]
                self._touched.add(dialled)
                if dialled.opened:
                    events.append(dialled.take())
        except zmq.Again:  # it was about something else, or was read meanwhile
            return

    def _hear_probes(self, events: list[Event]) -> None:
        for peer, listens in self._prober.answers():
            events.append((NetworkEvent.LISTENING if listens else NetworkEvent.REFUSED, peer, ()))

    def _drain_router(self, events: list[Event]) -> None:
        for _ in range(_MESSAGES_PER_TURN):
            if not _poll(self._router_poll, 0):
                self._look_at_router = False
                return
            events.append(self._take_routed())

    def _take_routed(self) -> Event:
        router = self._router
        assert router is not None
        identity = _recv(router, _LAST)
        link = self._by_id.get(identity)
        if link is not None:
            return NetworkEvent.MESSAGE, link, _receive_frames(router)
        frames, key, address = self._first_frames(router)
        return NetworkEvent.MESSAGE, self._name(identity, key, address), frames

    def _first_frames(self, router: zmq.Socket[bytes]) -> tuple[list[Frame], str, str]:
        """Record a new peer: its first message, the key that let it in, and its address."""
        if self._check is None:
            return _receive_frames(router), "", ""
        first = router.recv(_LAST, copy=False)
        key, address = _property(first, "User-Id"), _property(first, "Peer-Address")
        return [first.bytes, *(_receive_frames(router) if first.more else ())], key, address

    def _name(self, identity: bytes, key: str, address: str) -> int:
        self._accepted += 1
        if key:
            self._key_of[self._accepted] = key
            self._source_of[self._accepted] = f"{key}@{address}"
        self._by_id[identity] = self._accepted
        self._id_of[self._accepted] = identity
        return self._accepted

    def _drain_dialled(self, dialled: _Dialled, events: list[Event]) -> None:
        state = _events(dialled.poll)
        if not dialled.opened and state & _OUT:
            dialled.opened = True
            events.append((NetworkEvent.OPENED, dialled.link, ()))
        for _ in range(_MESSAGES_PER_TURN):
            if not state & _IN:
                break
            events.append(dialled.take())
            state = _events(dialled.poll)
        if state & _IN:
            self._touched.add(dialled)
        elif dialled.opened and not state & _OUT:
            # IMMEDIATE: no connection, no pipe, nothing to write to.
            link = dialled.link
            self.hang_up(link)
            events.append((NetworkEvent.CLOSED, link, ()))

    def _drain_monitor(self) -> None:
        monitor = self._monitor
        assert monitor is not None
        while _get(monitor, zmq.EVENTS) & _IN:
            told: Any = recv_monitor_message(monitor, _LAST)
            if told["event"] == _UNSHAKEN:
                self._handshakes.record(self._bound, told["value"])
                continue
            now = self._clock()
            self._probes = [now + pause for pause in _PROBE_DELAYS_S]


def _is_safe(address: str) -> bool:
    """Whether no other user can have replaced a socket that our settings name."""
    return not address.startswith("ipc://") or is_private(folder_of(address))


def _close_watched(socket: zmq.Socket[bytes], monitor: zmq.Socket[bytes]) -> None:
    """Close a socket and its monitor; one that is left open would hold up the end of all."""
    socket.disable_monitor()
    monitor.close(0)
    socket.close(0)


def _property(frame: zmq.Frame, name: str) -> str:
    """What libzmq knows of where a message came from, "" where it knows nothing."""
    try:
        return str(frame.get(name))
    except zmq.ZMQError:
        return ""


def _events(poll: list[tuple[zmq.Socket[bytes], int]]) -> int:
    """EVENTS of one socket: a zero-time poll takes 1.3 µs, asking for the option 2.3."""
    found = _poll(poll, 0)
    return found[0][1] if found else 0


def _send_frames(socket: zmq.Socket[bytes], frames: Sequence[Frame]) -> None:
    last = len(frames) - 1
    for i, frame in enumerate(frames):
        _send(socket, frame, _LAST if i == last else _MORE, len(frame) < _ZERO_COPY_BYTES)


def _receive_frames(socket: zmq.Socket[bytes]) -> list[Frame]:
    """One multipart: the first frame as bytes, large payloads as views of libzmq's memory."""
    frame = _recv(socket, _LAST, False)  # it knows whether more follow; to ask takes longer
    frames: list[Frame] = [frame.bytes]
    while frame.more:
        frame = _recv(socket, _LAST, False)
        frames.append(frame.buffer)
    return frames
