"""Checks whether other users or machines could reach a mesh address that has no keys. Pure.

Over tcp, only keys distinguish the processes of a service from others. Any process that reaches a
port may claim to be a replica and receive requests, and any process that answers at a gateway's
address is trusted. This includes the loopback address, which all users of a machine share. Only a
socket in a private folder is restricted to the processes of one user.
"""

from __future__ import annotations

from typing import Final

from mesh.config.schema import is_loopback, split_tcp

_KEYS: Final = "run `mesh keygen` and name its folder as keys in [gateway]"
_MEET: Final = (
    "leave it out, so that the parts of a service on this machine meet at a socket that is for "
    "this user alone"
)


def of_listener(address: str) -> str:
    """Return why not to listen there without keys, and what to do; "" if there is no reason.

    Example:
        >>> of_listener("ipc:///run/mine/gateway.sock")
        ''
        >>> of_listener("tcp://127.0.0.1:7000").partition(";")[0]
        'tcp://127.0.0.1:7000 is open to every user of this machine, and nothing authenticates them'
    """
    if not address.startswith("tcp://"):
        return ""
    if is_loopback(split_tcp(address)[0]):
        text = f"{address} is open to every user of this machine, and nothing authenticates them"
        return f"{text}; {_MEET}, {_KEYS}, or {_insecure('every user of this machine')}"
    text = f"{address} can be reached from other machines, and nothing authenticates them"
    return f"{text}; {_KEYS}, or {_insecure('that network')}"


def of_dialler(address: str) -> str:
    """Return why not to dial there without keys, and what to do; "" if there is no reason.

    Example:
        >>> of_dialler("file:///etc/mesh/gateways").partition(";")[0]
        'any process that answers at file:///etc/mesh/gateways is trusted as a gateway'
    """
    if address.startswith("ipc://"):
        return ""
    text = f"any process that answers at {address} is trusted as a gateway"
    near = address.startswith("tcp://") and is_loopback(split_tcp(address)[0])
    trusted = _insecure("every user of this machine" if near else "that network")
    return f"{text}; {_MEET + ', ' if near else ''}{_KEYS}, or {trusted}"


def _insecure(trusted: str) -> str:
    return f"set insecure = true in [gateway] if {trusted} is trusted"
