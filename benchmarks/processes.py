"""The processes of a server: which they are, what they use of the processor and of memory.

They are known by a mark in the environment of everything that began in a server: so its processes
are found however they were started, and none is overlooked when it must be gone.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

MARK = "BENCHMARK_MARK"
WORDS = {
    "spawn_main": "worker",
    "resource_tracker": "tracker",
    "service.py": "parent",
    "services.py": "parent",
}


def marked(mark: str) -> dict[int, str]:
    """Ids and labels of the living processes that bear this mark, in the order of their ids."""
    return {pid: label(_command(pid)) for pid in sorted(_family(set(_marked(mark))))}


def alive(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return bool(fields) and fields[0] != b"Z"


def used(mark: str) -> dict[int, tuple[str, float]]:
    """Per process its label and the seconds of processor time it has had, user and system."""
    return {pid: (name, _used(pid)) for pid, name in marked(mark).items()}


def _used(pid: int) -> float:
    """To the nanosecond where the kernel counts so, else to the tick of 10 ms."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((each / "schedstat").read_bytes().split()[0]) for each in threads) / 1e9
    except (OSError, IndexError):
        fields = _read(pid, "stat").rpartition(b")")[2].split()
        ticks = int(fields[11]) + int(fields[12]) if len(fields) > 12 else 0
        return ticks / os.sysconf("SC_CLK_TCK")


def shares(
    before: dict[int, tuple[str, float]], after: dict[int, tuple[str, float]], seconds: float
) -> dict[str, list[float]]:
    """What each process used between two looks, in percent of one core, by label.

    Example:
        >>> shares({7: ("gateway", 1.0)}, {7: ("gateway", 2.0), 9: ("stage", 0.5)}, 2.0)
        {'gateway': [50.0], 'stage': [25.0]}
    """
    found = defaultdict(list)
    for pid, (name, used) in sorted(after.items()):
        begin = before[pid][1] if pid in before else 0.0
        found[name].append(round((used - begin) / seconds * 100, 1))
    return dict(sorted(found.items()))


def memory(pid: int) -> dict[str, float]:
    """What a process has in memory, in MiB.

    ``rss`` is all that is resident; ``private`` what only it has; ``pss`` counts a page that
    several processes share by its fraction.
    """
    found: dict[str, float] = defaultdict(float)
    names = {"Rss": "rss", "Pss": "pss", "Private_Clean": "private", "Private_Dirty": "private"}
    for line in _read(pid, "smaps_rollup").decode().splitlines()[1:]:
        name, _, rest = line.partition(":")
        if name in names:
            found[names[name]] += int(rest.split()[0]) / 1024
    return dict(found)


def label(command: list[str]) -> str:
    """A word for a process: the module it runs, or what it is called.

    Example:
        >>> label(["/x/bin/python", "-P", "-m", "gateway", "--settings", "y"])
        'gateway'
    """
    if "-m" in command[:-1]:
        return command[command.index("-m") + 1]
    line = " ".join(command)
    for word, name in WORDS.items():
        if word in line:
            return name
    name = Path(command[0]).name
    return ":".join(name.partition(".")[0].split(":")[:3]) if name.startswith("ray::") else name


def _marked(mark: str) -> Iterator[int]:
    wanted = f"{MARK}={mark}".encode()
    for name in os.listdir("/proc"):
        if name.isdigit() and wanted in _read(int(name), "environ").split(b"\0"):
            yield int(name)


def _family(pids: set[int]) -> set[int]:
    """These and their children, of whom some write a title over their environment and mark."""
    parents = dict(_parents())
    found: set[int] = set()
    while pids:
        found |= pids
        pids = {pid for pid, parent in parents.items() if parent in pids and pid not in found}
    return found


def _parents() -> Iterator[tuple[int, int]]:
    for name in os.listdir("/proc"):
        fields = _read(int(name), "stat").rpartition(b")")[2].split() if name.isdigit() else []
        if fields and fields[0] != b"Z":
            yield int(name), int(fields[1])


def _command(pid: int) -> list[str]:
    return _read(pid, "cmdline").decode(errors="replace").rstrip("\0").split("\0")


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
