"""Where the gateways are: numbers as they are, names by all their DNS records, files, sockets.

libzmq would take the first record only, and resolve it on the thread that moves all messages. So
names are resolved here, on a thread of their own, again and again: that is how a gateway that is
scaled up is found. The last good answer is kept while a name server is silent. A file has one
address a line, and is read as often; whoever changes it replaces it whole, by renaming another.
Of a socket the first is known, and those of its siblings are found beside it as they come: how many
processes a gateway has may be known to nobody but itself.
"""

from __future__ import annotations

import ipaddress
import os
import random
import re
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

LOOKUP_INTERVAL_S = (
    3.0  # seconds between two looks, about: many that started together shall not ask together
)
MAX_ADDRESSES = 512  # addresses that one name may stand for


def is_numeric(address: str) -> bool:
    """Whether there is nothing to resolve.

    Example:
        >>> is_numeric("tcp://10.0.0.7:7000"), is_numeric("tcp://gateway:7000")
        (True, False)
    """
    if is_file(address) or is_socket_and_siblings(address):
        return False
    if not address.startswith("tcp://"):
        return True
    host = address.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_file(address: str) -> bool:
    """Whether it is a file that has the addresses: ``file:///path``."""
    return address.startswith("file://")


def is_socket_and_siblings(address: str) -> bool:
    """Whether it is a socket with those that may be beside it: ``ipc:///path*``."""
    return address.startswith("ipc://") and address.endswith("*")


def with_siblings(address: str) -> str:
    """This address; of a socket, together with its siblings'.

    Example:
        >>> with_siblings("ipc:///run/gateway.sock"), with_siblings("tcp://gateway:7000")
        ('ipc:///run/gateway.sock*', 'tcp://gateway:7000')
    """
    return f"{address}*" if address.startswith("ipc://") else address


def first_of(address: str) -> str:
    """An address without its siblings."""
    return address[:-1] if is_socket_and_siblings(address) else address


def resolve(address: str) -> set[str]:
    """All addresses that a name or a file stands for; none if nothing is known of it now."""
    if is_socket_and_siblings(address):
        return _beside(first_of(address))
    return _listed(address) if is_file(address) else _looked_up(address)


def _listed(address: str) -> set[str]:
    """What a file has, a line each; empty ones and those that begin with ``#`` mean nothing."""
    try:
        text = Path(address.removeprefix("file://")).read_text()
    except (OSError, UnicodeDecodeError):
        return set()
    lines = [line for raw in text.splitlines() if (line := raw.strip()) and line[0] != "#"]
    found = (
        {line} if is_numeric(line) else _looked_up(line)
        for line in lines[:MAX_ADDRESSES]
        if line.startswith(("tcp://", "ipc://"))
    )
    return set().union(*found)


def _beside(first: str) -> set[str]:
    """A socket and those of the gateway's further processes, named as in `addresses`."""
    path = Path(first.removeprefix("ipc://"))
    sibling = re.compile(re.escape(path.name) + r"-[1-9]\d*")
    try:
        names = os.listdir(path.parent)
    except OSError:
        names = []
    return {first, *(f"ipc://{path.parent / name}" for name in names if sibling.fullmatch(name))}


def _looked_up(address: str) -> set[str]:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {_shown(str(where[0]), int(where[1])) for *_, where in found[:MAX_ADDRESSES]}


def _shown(host: str, port: int) -> str:
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


class Discovery:
    """Follows names.

    Args:
        addresses: of all gateways, as they were configured.
        found: called, from a thread of this object, whenever the resolved set has changed.

    Example:
        >>> Discovery(["tcp://127.0.0.1:7000"], print).known
        {'tcp://127.0.0.1:7000'}
    """

    def __init__(self, addresses: Iterable[str], found: Callable[[set[str]], None]) -> None:
        addresses = list(addresses)
        self._names = [a for a in addresses if not is_numeric(a)]
        known = [a for a in addresses if is_numeric(a) or is_socket_and_siblings(a)]
        self._answers: dict[str, set[str]] = {a: {first_of(a)} for a in known}
        self._found = found
        self._stopped = threading.Event()
        self._telling = threading.Lock()

    @property
    def known(self) -> set[str]:
        """The addresses known now."""
        return set().union(*self._answers.values())

    def start(self) -> None:
        """Begin to look, if there is a name among the addresses."""
        if self._names:
            threading.Thread(target=self._follow, name="discovery", daemon=True).start()

    def stop(self) -> None:
        """Look no more, and tell nothing more; a look under way is not waited for."""
        with self._telling:
            self._stopped.set()

    def _follow(self) -> None:
        while not self._stopped.is_set():
            before = self.known
            for name in self._names:
                answer = resolve(name)
                if answer:
                    self._answers[name] = answer
            with self._telling:
                if self.known != before and not self._stopped.is_set():
                    self._found(self.known)
            self._stopped.wait(LOOKUP_INTERVAL_S * random.uniform(0.8, 1.2))


def local_address(towards: str) -> str:
    """This host's address as seen from the one at ``tcp://host:port``.

    Loopback towards what is no TCP address; "" while the name is unknown or nothing leads there,
    and for a file, whose addresses are still to be read.
    """
    if is_file(towards):
        return ""
    if not towards.startswith("tcp://"):
        return "127.0.0.1"
    host, _, port = towards.removeprefix("tcp://").rpartition(":")
    try:
        family = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
        with socket.socket(family[0], socket.SOCK_DGRAM) as probe:
            probe.connect(family[4])  # sends nothing: it only chooses a route
            return str(probe.getsockname()[0])
    except OSError:
        return ""
