"""Streams that are missing. Each case runs in an interpreter of its own."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

CASE = """
import json, os, sys
from mesh.process.streams import open_missing_streams
{before}
open_missing_streams()
number = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
names = [os.readlink(f"/proc/self/fd/{{n}}") for n in range(3)]
print("to standard output"); print("to standard error", file=sys.stderr, flush=True)
read = sys.stdin.read() if names[0] == "/dev/null" else ""
inherited = [os.get_inheritable(n) for n in range(3)]
os.write(number, json.dumps([names, read, inherited, number > 2]).encode())
"""
CLOSED = [
    " ".join(chosen)
    for count in range(4)
    for chosen in itertools.combinations(("<&-", ">&-", "2>&-"), count)
]


def found(folder: Path, closed: str, before: str = "") -> list[object]:
    code = CASE.format(before=before)
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", code, folder / "out"]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.PIPE, timeout=60)
    assert done.returncode == 0, done.stderr
    said: list[object] = json.loads((folder / "out").read_text())
    return said


@pytest.mark.parametrize("closed", CLOSED)
def test_what_is_missing_reads_and_writes_nothing(closed: str, tmp_path: Path) -> None:
    names, read, inherited, above = found(tmp_path, closed)
    assert isinstance(names, list)
    missing = [sign in closed.split() for sign in ("<&-", ">&-", "2>&-")]
    assert [name == "/dev/null" for name in names] == missing
    assert (read, inherited, above) == ("", [True, True, True], True)


@pytest.mark.parametrize(
    "before",
    ["sys.stdin = sys.stdout = sys.stderr = None", "sys.stdout.close(); sys.stderr.close()"],
)
def test_so_does_what_a_script_took_away(before: str, tmp_path: Path) -> None:
    assert found(tmp_path, "", before)[3]


def test_what_was_opened_instead_is_not_written_to(tmp_path: Path) -> None:
    names, *_ = found(
        tmp_path, "<&- >&- 2>&-", f"mine = [open('{tmp_path}/mine', 'w') for _ in range(3)]"
    )
    assert names == [f"{tmp_path}/mine"] * 3
    assert (tmp_path / "mine").read_text() == ""
