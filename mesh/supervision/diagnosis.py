"""Explains to people why a gateway's address is not reached, by connecting to it once more.

ZeroMQ retries silently and never reports a reason. A plain socket reports one: the kernel's error
or, if a process listens there, the first bytes that it sends.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Final

from mesh.transport.dialable import SHARED, folder_of, is_private
from mesh.transport.discovery import first_of, is_file, resolve

MAX_DIAGNOSED: Final = 3  # addresses that are diagnosed
_TIMEOUT_S: Final = 0.25
# How ZeroMQ's greeting begins (ZMTP 3): signature and version. The peer then sends its whole
# greeting, with its mechanism. We hold ours back: a peer hangs up on a mechanism other than its
# own.
_GREETING: Final = b"\xff" + bytes(8) + b"\x7f\x03"
_GREETING_BYTES: Final = 64  # bytes of a greeting
_REASONS: Final = {
    errno.ECONNREFUSED: "connection refused: nothing listens there",
    errno.ENOENT: "there is no such socket: does a gateway run, with the same name and HTTP port?",
    errno.EHOSTUNREACH: "the host cannot be reached",
    errno.ENETUNREACH: "its network cannot be reached",
}


def explain(addresses: Sequence[str], objections: Mapping[str, str], keyed: bool) -> str:
    """Describe each address and what is wrong with it.

    Args:
        addresses: the addresses as configured.
        objections: why gateways at these numeric addresses refused us.
        keyed: whether we dial with keys.
    """
    shown = [f"{first_of(one)}: {why(one, objections, keyed)}" for one in addresses[:MAX_DIAGNOSED]]
    more = len(addresses) - MAX_DIAGNOSED
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")


def why(address: str, objections: Mapping[str, str], keyed: bool) -> str:
    """Describe what is wrong with one address. This may block for a moment."""
    if is_file(address):
        found = sorted(resolve(address))
        if not found:
            return "the file cannot be read, or lists no address"
        return f"{found[0]}: {why(found[0], objections, keyed)}"
    address = first_of(address)
    if not address.startswith("tcp://"):
        path, folder = address.removeprefix("ipc://"), folder_of(address)
        if os.path.isdir(folder) and not is_private(folder):
            return SHARED.format(folder)
        return objections.get(address) or _at(socket.AF_UNIX, path, keyed)
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    try:
        found_at = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return f"no address is known for the name {host} ({error.strerror})"
    family, *_, where = found_at[0]
    number, at = str(where[0]), int(where[1])
    shown = f"[{number}]" if ":" in number else number
    return objections.get(f"tcp://{shown}:{at}") or _at(family, (number, at), keyed)


def _at(family: int, where: str | tuple[str, int], keyed: bool) -> str:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as asking:
            asking.settimeout(_TIMEOUT_S)
            asking.connect(where)
            asking.sendall(_GREETING)
            return judged(_first_bytes(asking), keyed)
    except TimeoutError:
        return f"no answer came within {_TIMEOUT_S:g} s"
    except OSError as error:
        return _REASONS.get(error.errno or 0) or (error.strerror or str(error)).lower()


def _first_bytes(asking: socket.socket) -> bytes:
    """Return the first bytes that the peer sends, if it sends any in time."""
    said = b""
    try:
        while len(said) < _GREETING_BYTES and (piece := asking.recv(64)):
            said += piece
    except OSError:  # it is slow, or has hung up
        return said
    return said


def judged(said: bytes, keyed: bool) -> str:
    """Return what the first bytes of the listening process reveal about it.

    Example:
        >>> judged(b"HTTP/1.1 400 Bad Request", keyed=False)
        "HTTP is spoken there: name the gateway's `bind` address, not its `http`"
    """
    if said.startswith(b"HTTP/"):
        return "HTTP is spoken there: name the gateway's `bind` address, not its `http`"
    if not said:
        return "a process listens there but sends nothing"
    if said[:1] != b"\xff":
        return "the process that listens there is no gateway"
    secured = said[12:32].rstrip(b"\0") == b"CURVE"
    if secured and not keyed:
        return "it demands keys: copy this host's, and name their folder as `keys` in [gateway]"
    if keyed and not secured:
        return "it has no keys, and refuses processes that have: give it a folder of `keys`, too"
    if keyed:
        return "it refuses our keys: compare the folders, and see the gateway's log"
    return "the process that listens there does not answer as a gateway does"
