"""Memory that several processes share through an inherited descriptor."""

from __future__ import annotations

import os

_ADVICE = "allow the system call memfd_create, which a seccomp profile or a sandbox forbids here"


def shared_memory(name: str, size: int = 0, *, inheritable: bool = False) -> int:
    """Create memory of `size` bytes; return its descriptor.

    Raises:
        OSError: there is none; `strerror` says what to do.
    """
    try:
        descriptor = os.memfd_create(name, 0 if inheritable else os.MFD_CLOEXEC)
        os.truncate(descriptor, size)
    except OSError as error:
        why = f"there is no shared memory: {error.strerror}; {_ADVICE}"
        raise OSError(error.errno, why) from error
    return descriptor
