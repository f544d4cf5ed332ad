"""Calling a service from Python.

Example:
    >>> from mesh.client import Client
    >>> Client("http://127.0.0.1:8000").infer({"text": "hello"})
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh.client.core import Response as Response
    from mesh.client.http_client import Client as Client

__all__ = ["Client", "Response"]

_HOMES = {"Client": "mesh.client.http_client", "Response": "mesh.client.core"}


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that importing this package costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
