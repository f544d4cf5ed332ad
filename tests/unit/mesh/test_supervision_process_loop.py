"""The loop that starts, hears and ends processes, with small stand-ins for ours."""

from __future__ import annotations

import os
import select
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mesh.protocol.messages import Death
from mesh.supervision.child import Child, Command
from mesh.supervision.events import (
    GATEWAY,
    ProcessPlan,
    Slot,
)
from mesh.supervision.process_loop import ProcessLoop
from mesh.supervision.runtime_dir import RuntimeDir
from mesh.supervision.supervisor import Supervisor

ONE, TWO = Slot("embed", 1), Slot("embed", 2)

# What each stand-in begins with; the settings it is handed say how it goes on.
BEGIN = """
import json, os, select, signal, sys
flags = dict(one[2:].split("=") for one in sys.argv[1:])
settings = json.load(open(flags["settings"]))
def say(**words):
    os.write(int(flags["ready-fd"]), json.dumps(words).encode() + b"\\n")
def leave():
    sys.exit(0)
def serve(stop=leave):
    say(event="ready", incarnation=1, life=settings["life"])
    while True:
        select.select([int(flags["parent-fd"])], [], [])
        if not os.read(int(flags["parent-fd"]), 1):
            leave()
        stop()
exec(settings["play"])
"""


class Stage:
    """Callbacks that start stand-ins and write down what happens.

    Args:
        plays: the program of each slot.
        announced: what to do when all are ready.
    """

    def __init__(self, plays: dict[Slot, str], announced: Callable[[], None]) -> None:
        self.plays, self._announced = plays, announced
        self.lives = dict.fromkeys(plays, 0)
        self.messages: list[tuple[Slot, dict[str, Any]]] = []
        self.exits: list[tuple[Slot, int | None, int]] = []
        self.closings: list[int] = []  # how many had ended when the port was to be closed
        self.descriptors: tuple[int, ...] = ()

    def command(self, slot: Slot) -> Command:
        self.lives[slot] += 1
        settings = {"play": self.plays[slot], "life": self.lives[slot]}
        argv = [sys.executable, "-I", "-S", "-c", BEGIN]
        return Command(argv, dict(os.environ, SLOT=str(slot)), settings, self.descriptors)

    def received(self, slot: Slot, message: dict[str, Any]) -> None:
        self.messages.append((slot, message))

    def exited(self, slot: Slot, pid: int, code: int | None, signal: int) -> None:
        assert pid > 0
        self.exits.append((slot, code, signal))

    def announce(self) -> None:
        self._announced()

    def close_http(self) -> None:
        self.closings.append(len(self.exits))


@pytest.fixture
def folder() -> Iterator[RuntimeDir]:
    base = tempfile.mkdtemp(prefix="b")
    with RuntimeDir(base) as made:
        yield made
    os.rmdir(base)


def prepared(
    folder: RuntimeDir, plays: dict[Slot, str], plan: ProcessPlan | None = None
) -> tuple[ProcessLoop, Stage]:
    """A loop and its callbacks; being announced stops it."""
    stage = Stage(plays, lambda: loop.stop())
    slots = dict.fromkeys(plays, 30.0)
    loop = ProcessLoop(Supervisor(plan or ProcessPlan(slots, grace=5.0)), stage, folder)
    return loop, stage


def said(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(caplog.messages)


def test_all_start_and_end_in_order(folder: RuntimeDir) -> None:
    loop, stage = prepared(folder, {GATEWAY: "serve()", ONE: "serve()", TWO: "serve()"})
    assert loop.run() == 0
    assert stage.exits[0] == (GATEWAY, 0, 0)
    assert sorted(stage.exits[1:]) == [(ONE, 0, 0), (TWO, 0, 0)]
    assert stage.closings == [1]
    assert (ONE, {"event": "ready", "incarnation": 1, "life": 1}) in stage.messages
    assert loop.pids() == {}


def test_a_signal_ends_it_and_the_old_answer_to_it_returns(folder: RuntimeDir) -> None:
    before = signal.getsignal(signal.SIGTERM)
    loop, stage = prepared(folder, {ONE: "serve()"})
    stage._announced = lambda: os.kill(os.getpid(), signal.SIGTERM)
    assert loop.run() == 0
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.set_wakeup_fd(-1) == -1


def test_signals_that_are_not_ours_change_nothing(folder: RuntimeDir) -> None:
    loop, stage = prepared(folder, {ONE: "serve()"})
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))

    def announced() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        loop.stop()

    stage._announced = announced
    assert loop.run() == 0
    signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1]


def test_a_second_request_kills(folder: RuntimeDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.supervision.supervisor.SAME_STOP_S", 0.0)
    loop, stage = prepared(folder, {ONE: "serve(lambda: None)"})
    stage._announced = lambda: (loop.stop(), loop.stop())[0]
    assert loop.run() == 1
    assert stage.exits == [(ONE, 0, signal.SIGKILL)]


def test_who_does_not_leave_within_the_grace_is_killed(folder: RuntimeDir) -> None:
    plan = ProcessPlan({ONE: 30.0}, grace=0.05)
    loop, stage = prepared(folder, {ONE: "serve(lambda: None)"}, plan)
    assert loop.run() == 1
    assert stage.exits == [(ONE, 0, signal.SIGKILL)]


def test_a_crashed_process_is_started_again(folder: RuntimeDir) -> None:
    plays = {ONE: "serve()", TWO: "serve()"}
    loop, stage = prepared(folder, plays)
    restarts: list[int] = []

    def announced() -> None:
        os.kill(loop.pids()[ONE], signal.SIGKILL)

    def received(slot: Slot, message: dict[str, Any]) -> None:
        if slot == ONE and message["life"] == 2:
            restarts.append(loop.pids()[ONE])
            loop.stop()

    stage._announced, stage.received = announced, received  # type: ignore[method-assign]
    assert loop.run() == 0
    assert len(restarts) == 1
    assert stage.exits[0] == (ONE, 0, signal.SIGKILL)


def test_a_gateway_that_takes_no_more_connections_says_so_before_it_ends(
    folder: RuntimeDir,
) -> None:
    loop, stage = prepared(folder, {GATEWAY: "serve(lambda: (say(event='closed'), leave()))"})
    assert loop.run() == 0
    assert stage.closings == [0]


def test_a_child_inherits_what_its_command_names_and_nothing_else(folder: RuntimeDir) -> None:
    inherited, kept = os.memfd_create("inherited"), os.memfd_create("kept")
    os.write(inherited, b"for you")
    play = (
        f"say(event='told', text=os.pread({inherited}, 9, 0).decode(),"
        f" kept=os.path.exists('/proc/self/fd/{kept}')); serve()"
    )
    loop, stage = prepared(folder, {ONE: play})
    stage.descriptors = (inherited,)
    try:
        assert loop.run() == 0
        os.fstat(inherited)  # a restart hands it on again
    finally:
        os.close(inherited)
        os.close(kept)
    assert (ONE, {"event": "told", "text": "for you", "kept": False}) in stage.messages


def test_last_messages_are_received(folder: RuntimeDir, caplog: pytest.LogCaptureFixture) -> None:
    why = "no module torch " * 10000  # more than a pipe holds
    play = f"say(event='failed', why={why!r}); sys.exit(3)"
    loop, stage = prepared(folder, {GATEWAY: "serve()", ONE: play})
    assert loop.run() == 3
    assert f"embed/1: {why}" in said(caplog)
    assert (GATEWAY, 0, 0) in stage.exits or (GATEWAY, 0, signal.SIGTERM) in stage.exits


def test_nonsense_and_half_lines_are_no_trouble(folder: RuntimeDir) -> None:
    play = (
        "os.write(int(flags['ready-fd']), b'what?\\n[]\\n{\"event\":')\n"
        "os.write(int(flags['ready-fd']), b' \"other\"}\\n')\nserve()"
    )
    loop, stage = prepared(folder, {ONE: play})
    assert loop.run() == 0
    assert [message["event"] for _, message in stage.messages] == ["other", "ready"]


def test_a_child_may_close_its_pipe(folder: RuntimeDir) -> None:
    play = "say(event='ready'); os.close(int(flags['ready-fd'])); serve.__globals__.update("
    play += "say=lambda **_: None); serve()"
    loop, stage = prepared(folder, {ONE: play})
    assert loop.run() == 0
    assert stage.exits == [(ONE, 0, 0)]


def test_one_that_is_still_loading_is_ended_by_a_signal(folder: RuntimeDir) -> None:
    loop, stage = prepared(folder, {GATEWAY: "serve()", ONE: "say(event='loads'); signal.pause()"})
    stage.received = lambda slot, message: message["event"] == "loads" and loop.stop()  # type: ignore[method-assign]
    assert loop.run() == 0
    assert (ONE, 0, signal.SIGTERM) in stage.exits


def test_one_that_asks_is_ordered_to_stop_and_comes_back(folder: RuntimeDir) -> None:
    play = "if settings['life'] == 1: say(event='ready'); say(event='asked')\nserve()"
    loop, stage = prepared(folder, {ONE: play, TWO: "serve()"})
    stage._announced = lambda: None
    stage.received = lambda slot, message: message.get("life") == 2 and loop.stop()  # type: ignore[method-assign]
    assert loop.run() == 0
    assert stage.exits[0] == (ONE, 0, 0)
    assert stage.lives == {ONE: 2, TWO: 1}


def test_an_end_that_somebody_else_took_in_has_no_code(
    folder: RuntimeDir, caplog: pytest.LogCaptureFixture
) -> None:
    loop, stage = prepared(folder, {ONE: "serve()"})
    thief = signal.signal(signal.SIGCHLD, lambda *_: os.waitpid(-1, 0))

    def received(slot: Slot, message: dict[str, Any]) -> None:
        if message["life"] == 2:
            signal.signal(signal.SIGCHLD, thief)
            loop.stop()

    stage._announced = lambda: os.kill(loop.pids()[ONE], signal.SIGKILL)
    stage.received = received  # type: ignore[method-assign]
    assert loop.run() == 0
    assert stage.exits[0] == (ONE, None, 0)
    assert "embed/1 is gone, its exit code is unknown; restart in" in said(caplog)


def test_children_leave_a_code_although_sigchld_was_ignored(folder: RuntimeDir) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    loop, stage = prepared(folder, {ONE: "serve()"})
    try:
        assert loop.run() == 0
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert stage.exits == [(ONE, 0, 0)]


def test_where_the_interrupt_is_ignored_it_says_how_it_is_stopped(
    folder: RuntimeDir, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    loop, stage = prepared(folder, {ONE: "serve()"})
    stage._announced = lambda: (
        os.kill(os.getpid(), signal.SIGINT),
        os.kill(os.getpid(), signal.SIGTERM),
    )[0]
    try:
        assert loop.run() == 0
    finally:
        signal.signal(signal.SIGINT, before)
    assert f"stop it: kill {os.getpid()}" in said(caplog)


def test_a_gateway_whose_address_is_awaited(folder: RuntimeDir) -> None:
    plays = {GATEWAY: "say(event='bound', bind='tcp://x:1'); serve()", ONE: "serve()"}
    plan = ProcessPlan(dict.fromkeys(plays, 30.0), grace=5.0, gateway_first=True)
    loop, stage = prepared(folder, plays, plan)
    assert loop.run() == 0
    assert stage.messages[0] == (GATEWAY, {"event": "bound", "bind": "tcp://x:1"})


def test_what_a_process_started_goes_with_it(folder: RuntimeDir) -> None:
    play = (
        "pid = os.fork()\n"
        "if not pid:\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    while True: signal.pause()\n"
        "say(event='child', pid=pid); serve()"
    )
    loop, stage = prepared(folder, {ONE: play})
    stage.received = lambda slot, message: found.append(
        os.pidfd_open(message.get("pid", os.getpid()))
    )  # type: ignore[method-assign]
    found: list[int] = []
    assert loop.run() == 0
    assert stage.exits == [(ONE, 0, 0)]
    assert select.select(found[:1], [], [], 10)[0] == found[:1]
    for pidfd in found:
        os.close(pidfd)


LEAVE_THE_GROUP = "os.setpgid(0, os.getpgid(os.getppid()))\n"


def test_one_that_has_left_its_group_is_killed_like_any_other(folder: RuntimeDir) -> None:
    child = (
        "pid = os.fork()\n"
        "if not pid:\n"
        "    while True: signal.pause()\n"
        "say(event='child', pid=pid)\n"
    )
    plan = ProcessPlan({ONE: 30.0}, grace=0.05)
    loop, stage = prepared(folder, {ONE: f"{child}{LEAVE_THE_GROUP}serve(lambda: None)"}, plan)
    stage.received = lambda slot, message: (
        "pid" in message and found.append(os.pidfd_open(message["pid"]))
    )  # type: ignore[method-assign]
    found: list[int] = []
    assert loop.run() == 1
    assert stage.exits == [(ONE, 0, signal.SIGKILL)]
    assert select.select(found, [], [], 10)[0] == found  # what it had started there, too
    os.close(found[0])


def test_an_error_of_ours_leaves_nobody_who_has_left_his_group(folder: RuntimeDir) -> None:
    loop, stage = prepared(folder, {ONE: f"{LEAVE_THE_GROUP}serve(lambda: None)"})

    def announced() -> None:
        raise RuntimeError("planted")

    stage._announced = announced
    with pytest.raises(RuntimeError, match="planted"):
        loop.run()
    assert loop.pids() == {}


def test_one_that_cannot_be_ended_is_named_and_not_waited_for(
    folder: RuntimeDir, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that waits in the kernel for a device or a network file system."""
    monkeypatch.setattr("mesh.supervision.process_loop.KILLED_END_S", 0.05)
    monkeypatch.setattr(Child, "kill", lambda child: None)
    loop, stage = prepared(folder, {ONE: "serve(lambda: None)"})
    pids: list[int] = []

    def announced() -> None:
        pids.extend(loop.pids().values())
        raise RuntimeError("planted")

    stage._announced = announced
    with pytest.raises(RuntimeError, match="planted"):
        loop.run()
    assert f"process {pids[0]} of embed/1 was killed but does not end" in said(caplog)
    os.kill(pids[0], signal.SIGKILL)
    os.waitpid(pids[0], 0)


def test_a_program_that_is_not_there(folder: RuntimeDir, caplog: pytest.LogCaptureFixture) -> None:
    loop, stage = prepared(folder, {ONE: "serve()"})
    stage.command = lambda slot: Command(["/no/such/program"], {}, {})  # type: ignore[method-assign]
    assert loop.run() == 3
    assert "cannot start a process: No such file or directory" in said(caplog)


def test_an_error_of_ours_leaves_nothing_running(folder: RuntimeDir) -> None:
    loop, stage = prepared(folder, {ONE: "serve()"})

    def announced() -> None:
        raise RuntimeError("planted")

    stage._announced = announced
    with pytest.raises(RuntimeError, match="planted"):
        loop.run()
    assert loop.pids() == {}


def test_it_runs_in_any_thread(folder: RuntimeDir) -> None:
    loop, stage = prepared(folder, {ONE: "serve()"})
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(loop.run()))
    thread.start()
    thread.join()
    assert codes == [0]
    assert stage.exits == [(ONE, 0, 0)]


def test_children_get_their_environment_and_a_group_of_their_own(folder: RuntimeDir) -> None:
    play = "say(event='told', slot=os.environ['SLOT'], group=os.getpgrp() == os.getpid()); serve()"
    loop, stage = prepared(folder, {TWO: play})
    assert loop.run() == 0
    assert stage.messages[0][1] == {"event": "told", "slot": "embed/2", "group": True}


ORPHANS = """
import sys
sys.path[:0] = [{tests!r}]
from test_supervision_process_loop import *
with RuntimeDir({base!r}) as folder:
    wait = "import select; select.select([int(flags['parent-fd'])], [], [], 20)"
    ready = "say(event='ready');" + wait
    loop, stage = prepared(folder, {{GATEWAY: ready, ONE: ready}})
    stage._announced = lambda: (print(*loop.pids().values(), flush=True))
    loop.run()
"""


def test_children_learn_of_a_killed_parent(tmp_path: Path) -> None:
    base = tempfile.mkdtemp(prefix="b")
    script = ORPHANS.format(tests=str(Path(__file__).parent), base=base)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        children = [os.pidfd_open(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(children) == 2
        parent.kill()
        parent.wait()
    for child in children:
        assert select.select([child], [], [], 10)[0]
        os.close(child)
    RuntimeDir(base).close()
    assert os.listdir(base) == []
    os.rmdir(base)


# The batch record as a replica fills it: one batch of the request (7, 3), since the given time.
COMPUTE = """
import mmap, struct
record = mmap.mmap(int(flags["record-fd"]), 0)
struct.pack_into("=2Q", record, 20, 7, 3)
struct.pack_into("=dIiI", record, 0, {since}, 1, -1, 0)
"""


class Told:
    """A reporter without a network."""

    def __init__(self) -> None:
        self.deaths: list[Death] = []
        self.turns = 0

    def start(self, selector: selectors.BaseSelector, nudge: Callable[[], None]) -> None:
        self.nudge = nudge

    def turn(self, leaving: bool) -> None:
        self.turns += 1

    def next_due(self) -> float:
        return float("inf")

    def died(self, death_notice: Death) -> None:
        self.deaths.append(death_notice)

    def close(self) -> None:
        self.closed = True


def test_a_death_is_told_with_what_was_being_computed(folder: RuntimeDir) -> None:
    told = Told()
    crash = f"say(event='ready', incarnation=55)\n{COMPUTE.format(since=1.0)}\nos.abort()"
    plays = {ONE: f"if settings['life'] > 1: serve()\n{crash}", GATEWAY: "serve()"}
    stage = Stage(plays, lambda: None)
    loop = ProcessLoop(
        Supervisor(ProcessPlan(dict.fromkeys(plays, 30.0), 5.0)), stage, folder, told
    )
    stage._announced = lambda: (told.nudge(), loop.stop())[0]
    assert loop.run() == 0
    assert told.deaths[0] == Death(55, "embed", signal.SIGABRT, 0, [(7, 3)])
    assert all(death.stage == "embed" for death in told.deaths)  # the gateway's is not told
    assert told.closed
    assert told.turns > 0


def test_a_replica_that_hangs_is_killed(
    folder: RuntimeDir, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.supervision.process_loop.RECORD_POLL_S", 0.01)
    plays = {ONE: f"if settings['life'] > 1: serve()\n{COMPUTE.format(since=1.0)}\nserve()"}
    plan = ProcessPlan({ONE: 30.0}, 5.0, limits={ONE: 0.5})
    loop, stage = prepared(folder, plays, plan)
    receive = stage.received

    def received(slot: Slot, message: dict[str, Any]) -> None:
        receive(slot, message)
        if message.get("life") == 2:
            loop.stop()

    stage._announced, stage.received = lambda: None, received  # type: ignore[method-assign]
    loop.run()
    assert stage.exits[0] == (ONE, 0, signal.SIGKILL)
    assert "computes one batch for" in said(caplog)


def test_time_in_which_a_replica_stands_still_is_not_held_against_its_batch() -> None:
    child = object.__new__(Child)
    child._batch = child._seen = 0.0
    with subprocess.Popen(["sleep", "60"]) as process:
        child.process = process
        assert child.computes_for(10.0, 10.5, 1.0) == 0.5
        assert child.computes_for(10.0, 11.5, 1.0) == 1.5
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        assert child.computes_for(10.0, 12.5, 1.0) == 1.5
        process.send_signal(signal.SIGCONT)
        os.waitid(os.P_PID, process.pid, os.WCONTINUED)
        assert child.computes_for(10.0, 99.0, 2.0) == 3.5  # nor is that in which nobody looked
        assert child.computes_for(98.5, 100.0, 1.0) == 1.0
        process.kill()
    assert child.computes_for(98.5, 101.0, 1.0) == 2.0  # until somebody sees its end
