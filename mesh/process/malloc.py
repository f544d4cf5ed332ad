"""Memory that payloads have left is kept for the payloads that follow.

Left to itself, glibc gives what was freed back to the kernel as soon as there are a few megabytes
of it. Where every request brings an array of megabytes, the kernel then takes pages away and
clears them anew for each one, which costs as much as copying the array does.
The parameters are those of mallopt(3).
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as <malloc.h> numbers them
MMAP_THRESHOLD_BYTES = (
    32 << 20
)  # bytes from which memory has a mapping of its own, given back at once
TRIM_THRESHOLD_BYTES = 64 << 20  # bytes that may lie unused at the end of each of glibc's heaps


def keep_freed() -> bool:
    """Have this process keep what was freed, up to `TRIM_THRESHOLD_BYTES` per heap, for what is
    allocated next.

    Each thread that carries payloads may have a heap: the main one, and ZeroMQ's.

    Returns:
        Whether it does. Not where another C library than glibc is in use, or where the user has
        set one of the two thresholds, as ``MALLOC_TRIM_THRESHOLD_`` or in ``GLIBC_TUNABLES``.

    Example:
        >>> keep_freed() in (True, False)
        True
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or _is_users_choice():
        return False
    return bool(
        mallopt(_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)
        and mallopt(_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)
    )


def _is_users_choice() -> bool:
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return any(
        f"MALLOC_{name.upper()}_" in os.environ or f"glibc.malloc.{name}=" in tunables
        for name in ("trim_threshold", "mmap_threshold")
    )
