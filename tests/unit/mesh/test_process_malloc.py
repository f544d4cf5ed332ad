"""Freed memory stays with the process, unless its user has decided otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Eight buffers of a megabyte live at a time: a heap that is trimmed faults on each page of each.
CHURN = """
import resource, sys
from mesh.process.malloc import keep_freed
kept = keep_freed() if sys.argv[1] == "kept" else False
def churn():
    for _ in range(25):
        buffers = [bytearray(b"x") * (1 << 20) for _ in range(8)]
        del buffers
churn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
churn()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def churned(how: str, **variables: str) -> tuple[bool, int]:
    """Whether freed memory is kept, and how many pages were asked of the kernel for 200 MiB."""
    chosen = ("MALLOC_", "GLIBC_TUNABLES")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(chosen)}
    ran = subprocess.run(
        [sys.executable, "-c", CHURN, how],
        env=clean | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    kept, faults = ran.stdout.split()
    return kept == "True", int(faults)


def test_pages_are_not_asked_for_again() -> None:
    kept, faults = churned("kept")
    assert kept
    _, otherwise = churned("left alone")
    assert faults < 100
    assert otherwise > 10 * faults + 1000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MALLOC_TRIM_THRESHOLD_", "131072"),
        ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=131072"),
    ],
)
def test_what_the_user_chose_stands(name: str, value: str) -> None:
    kept, faults = churned("kept", **{name: value})
    assert not kept
    assert faults > 1000
