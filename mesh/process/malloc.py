"""Keeps freed memory in the process, for the next payloads.

By default glibc returns freed memory to the kernel as soon as it is a few megabytes. If every
request brings an array of megabytes, the kernel then maps and clears new pages for each request,
which costs as much as copying the array.
The parameters are those of mallopt(3).
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as <malloc.h> numbers them
MMAP_THRESHOLD_BYTES = (
    32 << 20
)  # bytes from which an allocation has a mapping of its own, which is returned at once
TRIM_THRESHOLD_BYTES = 64 << 20  # unused bytes that may stay at the end of each of glibc's heaps


def keep_freed() -> bool:
    """Keep up to `TRIM_THRESHOLD_BYTES` of freed memory per heap in this process.

    Each thread that handles payloads may have a heap: the main thread, and ZeroMQ's.

    Returns:
        True; False if the C library is not glibc, or if the user has set one of the two
        thresholds, as ``MALLOC_TRIM_THRESHOLD_`` or in ``GLIBC_TUNABLES``.

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
