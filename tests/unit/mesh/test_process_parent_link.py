"""A child's two pipes: what it says over one, what the end of the other makes it do."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mesh.process.parent_link import ParentLink

CHILD = """
import os, sys, time
from mesh.process.parent_link import ParentLink
parent_link = ParentLink(None, int(sys.argv[1]), sys.argv[2])
how = sys.argv[3]
if how == "leaves":
    parent_link.obey(lambda: os._exit(7))
elif how == "stays":
    parent_link.obey(lambda: print("told", flush=True))
elif how == "ending":
    parent_link.end()
parent_link.watch(grace=0.1 if how != "ending" else 60.0)
print("watching", flush=True)
time.sleep(60)
"""


def test_what_a_child_says() -> None:
    heard, ready = os.pipe()
    parent_link = ParentLink(ready, None)
    assert not os.get_inheritable(ready)
    parent_link.bound("tcp://127.0.0.1:7000", 5)
    parent_link.ready(5, http="127.0.0.1:8000", bind="tcp://127.0.0.1:7000")
    parent_link.ready(6)
    parent_link.closed()
    parent_link.refused("tcp://g:7000", "not you")
    parent_link.failed("no model")
    parent_link.close()
    parent_link.close()
    with open(heard, "rb") as pipe:
        words = [json.loads(line) for line in pipe]
    assert words == [
        {"event": "bound", "bind": "tcp://127.0.0.1:7000", "incarnation": 5},
        {
            "event": "ready",
            "incarnation": 5,
            "http": "127.0.0.1:8000",
            "bind": "tcp://127.0.0.1:7000",
        },
        {"event": "ready", "incarnation": 6},
        {"event": "closed"},
        {"event": "refused", "address": "tcp://g:7000", "why": "not you"},
        {"event": "failed", "why": "no model"},
    ]


def test_a_process_without_a_parent_says_nothing() -> None:
    parent_link = ParentLink(None, None)
    parent_link.ready(1)
    parent_link.watch(grace=1.0)
    parent_link.close()


def test_nobody_listening_is_no_error() -> None:
    heard, ready = os.pipe()
    os.close(heard)
    parent_link = ParentLink(ready, None)
    parent_link.failed("too late")
    parent_link.close()


def test_an_orphan_is_one_whose_parent_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    parent, life = os.pipe()
    child, alone = ParentLink(None, parent), ParentLink(None, None)
    assert not child.orphaned
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert child.orphaned
    assert not alone.orphaned  # nobody's child from the first
    child.close()
    alone.close()
    os.close(life)


def test_closing_ends_the_watch() -> None:
    parent, life = os.pipe()
    parent_link = ParentLink(None, parent)
    parent_link.watch(grace=1.0)
    assert threading.active_count() == 2
    parent_link.close()
    assert threading.active_count() == 1
    os.close(life)


@pytest.mark.parametrize(
    ("what", "code"), [("leaves", 7), ("stays", -signal.SIGKILL), ("ending", -signal.SIGKILL)]
)
def test_an_orphan_leaves_and_takes_the_folder_along(what: str, code: int, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    child, life = watching(what, str(folder))
    os.close(life)
    assert child.wait(10) == code
    assert not folder.exists()
    child.__exit__(None, None, None)


def watching(what: str, folder: str = "") -> tuple[subprocess.Popen[bytes], int]:
    """A child that watches, and the end of its pipe that is ours."""
    parent, life = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(parent), folder, what],
        pass_fds=(parent,),
        stdout=subprocess.PIPE,
        process_group=0,
    )
    os.close(parent)
    assert child.stdout is not None
    assert child.stdout.readline() == b"watching\n"
    return child, life


@pytest.mark.parametrize(("what", "code"), [("leaves", 7), ("loads", 0)])
def test_an_order_ends_it_by_what_it_obeys(what: str, code: int) -> None:
    child, life = watching(what)
    with child:
        os.write(life, b"s")
        assert child.wait(10) == code
    os.close(life)


def test_orders_are_heard_until_the_parent_is_gone() -> None:
    child, life = watching("stays")
    with child:
        assert child.stdout is not None
        for _ in range(2):
            os.write(life, b"s")
            assert child.stdout.readline() == b"told\n"
        os.close(life)
        assert child.wait(10) == -signal.SIGKILL


def test_one_that_ends_obeys_no_more() -> None:
    parent, life = os.pipe()
    parent_link = ParentLink(None, parent)
    parent_link.watch(grace=1.0)
    parent_link.end()
    os.write(life, b"s")
    while select.select([parent], [], [], 0)[0]:
        threading.Event().wait(0.001)
    parent_link.close()
    os.close(life)


def test_a_signal_is_told_to_a_parent_that_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    heard, ready = os.pipe()
    parent, life = os.pipe()
    parent_link, alone = ParentLink(ready, parent), ParentLink(None, None)
    assert parent_link.asked()
    assert os.read(heard, 64) == b'{"event": "asked"}\n'
    assert not alone.asked()
    alone.close()
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert not parent_link.asked()
    monkeypatch.undo()
    os.close(heard)
    assert not parent_link.asked()
    parent_link.close()
    os.close(life)


def test_an_orphan_that_is_still_loading_takes_what_it_started_along() -> None:
    text = """
import subprocess, sys, time
from mesh.process.parent_link import ParentLink
parent_link = ParentLink(None, int(sys.argv[1]))
started = subprocess.Popen(["sleep", "60"])  # it holds our output open as long as it lives
parent_link.watch(grace=60.0)
print("watching", flush=True)
time.sleep(60)
"""
    parent, life = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-c", text, str(parent)],
        pass_fds=(parent,),
        stdout=subprocess.PIPE,
        process_group=0,
    )
    os.close(parent)
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == b"watching\n"
        os.close(life)
        assert child.wait(10) == -signal.SIGKILL
        assert child.stdout.read() == b""  # ends when the last holder is gone


def test_an_orphan_ends_although_its_worker_does_not_let_python_run() -> None:
    child = """
import ctypes, signal, sys
import mesh.process.parent_link
mesh.process.parent_link.PARENT_DIED = signal.SIGHUP  # 1, and so many seconds
mesh.process.parent_link.ParentLink(None, int(sys.argv[1])).watch(grace=60.0)
ctypes.PyDLL(None).system(b"echo $PPID $$; exec sleep 60")  # keeps the interpreter's lock
"""
    parent = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], pass_fds=(int(sys.argv[2]),))
sys.stdin.read()
"""
    read, life = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", parent, child, str(read)],
        pass_fds=(read,),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        orphan, shell = (os.pidfd_open(int(pid)) for pid in process.stdout.readline().split())
        process.kill()
        process.wait()
        try:
            assert select.select([orphan], [], [], 10.0)[0], "it lives on"
        finally:
            for left in orphan, shell:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(left, signal.SIGKILL)
                os.close(left)
    os.close(read)
    os.close(life)


def test_without_a_descriptor_of_the_parent_the_pipe_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise OSError("no such call")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    told = threading.Event()
    parent, life = os.pipe()
    parent_link = ParentLink(None, parent)
    parent_link.obey(told.set)
    try:
        parent_link.watch(grace=60.0)
        os.close(life)
        assert told.wait(10)
    finally:
        parent_link.close()


LAST_WORDS = """
import sys
from mesh import log
from mesh.process.parent_link import kill_group
log.configure("info", "embed/1")
for number in range(3000):
    log.get_logger().info("line %d %s", number, "x" * 200)
log.get_logger().error("last words")
kill_group()
"""


def test_what_was_logged_before_it_kills_itself_is_not_lost() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", LAST_WORDS], stderr=subprocess.PIPE, process_group=0
    )
    _, written = child.communicate(timeout=30)
    assert child.returncode == -signal.SIGKILL
    assert b"last words" in written
