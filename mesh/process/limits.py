"""What the operating system allows this process: how many files it may open."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import sys
from collections.abc import Iterator, Mapping

from mesh.errors import StartError
from mesh.process.open_files import ADVICE, refusal

_OPEN_FILES = (
    4096  # what a low limit is raised to; no higher, as some programs close all that may be
)
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE})


def demand_open_files(needs: Mapping[str, int]) -> None:
    """Raise the limit of open files, which children inherit, where these needs are above it.

    Args:
        needs: by kind of process, as `mesh.process.open_files.needs` tells.

    Raises:
        StartError: the hard limit is below one of them.
    """
    soft, hard = map(_finite, resource.getrlimit(resource.RLIMIT_NOFILE))
    most = max(needs.values())
    if soft < most:
        soft = _raised(min(hard, max(most, _OPEN_FILES)))
    if why := refusal(needs, soft):
        raise StartError(why)


def demand_free_files(count: int, holder: str) -> None:
    """StartError if this process may not open `count` more files, as `holder` has opened many.

    libzmq ends the process where it gets none for itself, so it is asked before.
    """
    allowed, free = _finite(resource.getrlimit(resource.RLIMIT_NOFILE)[0]), free_files()
    if count > free:
        raise StartError(
            f"a process may have {allowed} open files; {holder} left {free} of them, "
            f"and {count} more are needed; {ADVICE}"
        )


def free_files() -> int:
    """How many more files this process may open; below 0 where its limit was lowered since."""
    allowed = _finite(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return allowed - (len(os.listdir("/proc/self/fd")) - 1)


def raise_descriptor_limit() -> int:
    """Let this process open as many descriptors as the hard limit allows; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _finite(hard)


@contextlib.contextmanager
def shortage_told() -> Iterator[None]:
    """Inside the block, an error that no more files may be opened is a `StartError` that says so.

    ZeroMQ's errors are no `OSError`, but have its numbers.
    """
    try:
        yield
    except Exception as error:
        if getattr(error, "errno", None) not in _EXHAUSTED:
            raise
        allowed = _finite(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        why = f"too many open files: a process may have {allowed}; {ADVICE}"
        raise StartError(why) from error


def _raised(soft: int) -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


def _finite(limit: int) -> int:
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit
