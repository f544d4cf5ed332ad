"""Whose memory a buffer shows, and when it may be sent without a copy. Pure.

ZeroMQ reads a buffer after the call that sent it. An array that the user's code still refers to
might change meanwhile, and the bytes on the wire with it. So an array goes uncopied only where it
can be shown that no other code refers to it; all others are copied once.

It is shown by counting references, after the values that were encoded have been let go of:
whatever is then still counted beyond our own buffers belongs to other code. That holds through
any nesting, because a list that is kept keeps its arrays.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import numpy as np

from mesh.protocol.messages import Buffer

_NOBODYS = 0  # in the place of an owner's identity: memory that nobody can write to


def isolate(outputs: Iterable[list[Buffer]]) -> None:
    """Copy, in place, each buffer that other code may still change.

    Call it when the encoded values themselves have been let go of. A buffer then stays uncopied
    if nothing but these buffers refers to the array that owns its memory, or if that memory is
    read-only for everybody (an array that was received and is passed on). Rows of one array that
    go out together stay uncopied, unless they would keep alive an array twice their size.

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
    """Tell whose memory a view shows.

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
    """Tell whether these are all that is left of their owner, and most of it."""
    arrays = {id(view.obj) for view in views}
    return (
        all(_references(view) == _ONCE for view in views)
        and _owner_references(views[0]) == _OWNED_ONCE + len(arrays) - 1
        and 2 * sum(map(len, views)) >= views[0].obj.base.nbytes  # type: ignore[attr-defined]
    )


# The two counts include whatever asking takes; what that is, an array known to be alone tells.
def _references(view: memoryview) -> int:
    return sys.getrefcount(view.obj)


def _owner_references(view: memoryview) -> int:
    return sys.getrefcount(view.obj.base)  # type: ignore[attr-defined]


_LONELY = np.empty(1).view(np.uint8).data
_ONCE = _references(_LONELY)
_OWNED_ONCE = _owner_references(_LONELY)
