"""Serve machine-learning models as pipelines of processes joined by ZeroMQ.

The public names. Each is loaded when it is first used: a replica that only needs `Worker` does not
pay for the rest, and importing this package reads neither flags nor environment.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh.client import Client
    from mesh.errors import (
        ClientError,
        DecodingError,
        EncodingError,
        ForwardTimeout,
        MeshError,
        ProtocolError,
        ServerError,
        SettingsError,
        StartError,
        ValidationError,
    )
    from mesh.log import get_logger
    from mesh.server import Runtime, Server
    from mesh.worker.base import Worker
    from mesh.worker.request_info import Reply, RequestFacts

__all__ = [
    "Client",
    "ClientError",
    "DecodingError",
    "EncodingError",
    "ForwardTimeout",
    "MeshError",
    "ProtocolError",
    "Reply",
    "RequestFacts",
    "Runtime",
    "Server",
    "ServerError",
    "SettingsError",
    "StartError",
    "ValidationError",
    "Worker",
    "get_logger",
]

_HOMES = {
    "Client": "mesh.client",
    "Reply": "mesh.worker.request_info",
    "RequestFacts": "mesh.worker.request_info",
    "Runtime": "mesh.server",
    "Server": "mesh.server",
    "Worker": "mesh.worker.base",
    "get_logger": "mesh.log",
}


def __getattr__(name: str) -> object:
    """Load a public name on its first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(_HOMES.get(name, "mesh.errors")), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """What there is, loaded or not."""
    return sorted({*globals(), *__all__})
