"""The operating system's limit of open files for this process."""

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
    # What a low limit is raised to; not higher, as some programs close all possible descriptors.
    4096
)
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE})


def demand_open_files(needs: Mapping[str, int]) -> None:
    """Raise the limit of open files, which children inherit, if these needs exceed it.

    Args:
        needs: open files by kind of process, as `mesh.process.open_files.needs` returns them.

    Raises:
        StartError: one of them exceeds the hard limit.
    """
    soft, hard = map(_finite, resource.getrlimit(resource.RLIMIT_NOFILE))
    most = max(needs.values())
    if soft < most:
        soft = _raised(min(hard, max(most, _OPEN_FILES)))
    if why := refusal(needs, soft):
        raise StartError(why)


def demand_free_files(count: int, holder: str) -> None:
    """Check that this process may open `count` more files.

    libzmq aborts the process if it cannot open a file, so we check before.

    Args:
        count: how many files.
        holder: what has opened many, for the error.

    Raises:
        StartError: it may not.
    """
    allowed, free = _finite(resource.getrlimit(resource.RLIMIT_NOFILE)[0]), free_files()
    if count > free:
        raise StartError(
            f"a process may have {allowed} open files; {holder} left {free} of them, "
            f"and {count} more are needed; {ADVICE}"
        )


def free_files() -> int:
    """Return how many more files this process may open; negative if the limit was lowered."""
    allowed = _finite(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return allowed - (len(os.listdir("/proc/self/fd")) - 1)


def raise_descriptor_limit() -> int:
    """Raise this process's limit of open files to the hard limit; return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _finite(hard)


@contextlib.contextmanager
def shortage_as_start_error() -> Iterator[None]:
    """Inside the block, convert an error about too many open files to a `StartError`.

    ZeroMQ's errors are no `OSError`, but have the same `errno`.
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
