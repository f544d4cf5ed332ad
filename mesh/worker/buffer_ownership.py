"""Decides which buffers may be sent without a copy, by who owns their memory. Pure.

ZeroMQ reads a buffer after the call that sends it has returned. If the user's code still refers to
an array, it may change the array meanwhile, and with it the bytes on the wire. So an array is sent
without a copy only if provably no other code refers to it; all others are copied once.

The proof is the reference count after the encoded values have been released: references beyond our
own buffers belong to other code. This holds for any nesting, because a list that is still
referenced keeps its arrays.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import numpy as np

from mesh.protocol.messages import Buffer

_NOBODYS = 0  # in place of an owner's identity: memory that no code can write to


def isolate(outputs: Iterable[list[Buffer]]) -> None:
    """Copy, in place, each buffer that other code may still change.

    Call it once the encoded values have been released. A buffer is not copied if only these buffers
    refer to the array that owns its memory, or if that memory is read-only for all code (a received
    array that is forwarded). Rows of one array that leave together are not copied either, unless
    they would keep an array of more than twice their size alive.

    Args:
        outputs: the buffers of all the values that leave together.
    """
    families: dict[int, list[tuple[memoryview, list[Buffer], int]]] = {}
    for buffers in outputs:
        for index, buffer in enumerate(buffers):
            if type(buffer) is bytes:
                continue
            if isinstance(buffer, memoryview) and (owner := _owner(buffer)) is not None:
                families.setdefault(owner, []).append((buffer, buffers, index))
            else:
                buffers[index] = bytes(buffer)
    families.pop(_NOBODYS, None)
    for places in families.values():
        if not _is_alone([view for view, _, _ in places]):
            for view, buffers, index in places:
                buffers[index] = bytes(view)


def _owner(view: memoryview) -> int | None:
    """Find the owner of a view's memory.

    Returns:
        The identity of the array that owns it, `_NOBODYS`, or None if that is unknown.
    """
    array: object = view.obj
    if isinstance(array, np.ndarray) and isinstance(array.base, np.ndarray):
        owner = array.base
        if owner.flags.owndata:
            return id(owner)
        if isinstance(owner.base, memoryview) and owner.base.readonly:
            return _NOBODYS
    return None


def _is_alone(views: list[memoryview]) -> bool:
    """Return whether only these views refer to their owner, and cover at least half of it."""
    arrays = {id(view.obj) for view in views}
    return (
        all(_references(view) == _ONCE for view in views)
        and _owner_references(views[0]) == _OWNED_ONCE + len(arrays) - 1
        and 2 * sum(map(len, views)) >= views[0].obj.base.nbytes  # type: ignore[attr-defined]
    )


# Both counts include the references that the counting itself takes. Their number is measured on an
# array that no other code refers to.
def _references(view: memoryview) -> int:
    return sys.getrefcount(view.obj)


def _owner_references(view: memoryview) -> int:
    return sys.getrefcount(view.obj.base)  # type: ignore[attr-defined]


_LONELY = np.empty(1).view(np.uint8).data
_ONCE = _references(_LONELY)
_OWNED_ONCE = _owner_references(_LONELY)
