"""Sockets found by their addresses. Each case runs in an interpreter that has no others."""

import subprocess
import sys
from pathlib import Path

import pytest

CASE = """
import socket, sys
from mesh.process.connections import close_inherited

where, family, place = sys.argv[1], *eval(sys.argv[2])
other = socket.create_server(("127.0.0.1", 0))
listener = socket.create_server(place, family=family)
if family != socket.AF_UNIX:
    where = where.replace("PORT", str(listener.getsockname()[1]))
    place = ("::1" if family == socket.AF_INET6 else "127.0.0.1", listener.getsockname()[1])
dialled = socket.socket(family)
dialled.connect(place)
taken = listener.accept()[0]
unbound = socket.socket()

def is_open(one):
    try:
        one.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
        return True
    except OSError:
        return False

given = {"listening": [where], "dialled": []} if sys.argv[3] == "here" else {
    "listening": [], "dialled": [where]}
close_inherited(**given)
print([is_open(one) for one in (listener, taken, dialled, other, unbound)])
"""
INET, INET6 = '(socket.AF_INET, ("127.0.0.1", 0))', '(socket.AF_INET6, ("::1", 0))'
WAYS = {
    "tcp": ("tcp://127.0.0.1:PORT", INET),
    "any": ("tcp://0.0.0.0:PORT", '(socket.AF_INET, ("0.0.0.0", 0))'),
    "tcp6": ("tcp://[0:0::1]:PORT", INET6),
    "ipc": ("ipc://FOLDER/x.sock", '(socket.AF_UNIX, "FOLDER/x.sock")'),
    "abstract": ("ipc://@mesh-FOLDER", r'(socket.AF_UNIX, "\0mesh-FOLDER")'),
}


def left_open(way: str, side: str, folder: Path) -> str:
    where, place = (text.replace("FOLDER", str(folder)) for text in WAYS[way])
    command = [sys.executable, "-c", CASE, where, place, side]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("way", WAYS)
def test_what_listens_goes_with_whom_it_let_in(way: str, tmp_path: Path) -> None:
    assert left_open(way, "here", tmp_path) == "[False, False, True, True, True]"


@pytest.mark.parametrize("way", sorted(set(WAYS) - {"any"}))
def test_what_was_dialled_goes(way: str, tmp_path: Path) -> None:
    assert left_open(way, "there", tmp_path) == "[True, True, False, True, True]"


def test_an_address_that_nobody_can_have_is_nobodys() -> None:
    from mesh.process.connections import close_inherited

    close_inherited(["tcp://127.0.0.1:*"], ["nonsense"])
