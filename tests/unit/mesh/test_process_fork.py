"""What a forked child does. Each case forks in an interpreter of its own, which has no threads."""

import signal
import subprocess
import sys

import pytest

START = """
import os, signal, sys, threading
from mesh.process import fork

def child(act):
    pid = os.fork()
    if pid == 0:
        act()
        os._exit(9)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def ours(*_):
    pass

ours.__module__ = "mesh.supervision.process_loop"
"""


def ran(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", START + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def said(code: str) -> str:
    done = ran(code)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_is_registered_is_called_in_the_child_alone() -> None:
    assert said("fork.in_child(lambda: os.write(1, b'x')); print(child(lambda: None))") == "x9"


def test_not_after_it_was_undone() -> None:
    undo = "undo = fork.in_child(lambda: os.write(1, b'x')); undo(); undo()\n"
    assert said(undo + "print(child(fork.end_if_forked))") == "9"


def test_one_that_fails_keeps_no_other_from_it() -> None:
    code = "fork.in_child(lambda: 1 / 0); fork.in_child(lambda: os.write(1, b'x'))\n"
    assert said(code + "print(child(lambda: None))") == "x9"


def test_a_child_of_a_child_has_nothing_left_to_do() -> None:
    code = "fork.in_child(lambda: os.write(1, b'x'))\n"
    assert said(code + "print(child(lambda: os._exit(child(lambda: None))))") == "x9"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD])
def test_handlers_of_ours_are_gone(number: int) -> None:
    code = f"""
signal.signal({number}, ours)
fork.in_child(lambda: None)
print(child(lambda: os._exit(signal.getsignal({number}) is signal.SIG_DFL)))
print(signal.getsignal({number}) is ours)
"""
    assert said(code).split() == ["1", "True"]


def test_an_interrupt_is_an_exception_again() -> None:
    code = """
signal.signal(signal.SIGINT, ours)
fork.in_child(lambda: None)
print(child(lambda: os._exit(signal.getsignal(signal.SIGINT) is signal.default_int_handler)))
"""
    assert said(code) == "1"


def test_handlers_of_the_user_stay() -> None:
    code = """
theirs = lambda *_: None
signal.signal(signal.SIGTERM, theirs)
fork.in_child(lambda: None)
print(child(lambda: os._exit(signal.getsignal(signal.SIGTERM) is theirs)))
"""
    assert said(code) == "1"


def test_a_child_of_another_thread_is_no_exception() -> None:
    code = """
signal.signal(signal.SIGTERM, ours)
fork.in_child(lambda: None)
codes = []
dies = lambda: codes.append(child(lambda: os.kill(os.getpid(), signal.SIGTERM)))
thread = threading.Thread(target=dies)
thread.start()
thread.join()
print(codes)
"""
    assert said(code) == f"[{-signal.SIGTERM}]"


def test_a_signal_to_the_child_never_reaches_the_wake_up_descriptor() -> None:
    """Sent at once, before the child has run a line of Python."""
    code = """
read, write = os.pipe2(os.O_NONBLOCK)
signal.set_wakeup_fd(write)
signal.signal(signal.SIGTERM, ours)
fork.in_child(lambda: None)
ends = set()
for _ in range(200):
    pid = os.fork()
    if pid == 0:
        signal.pause()
    os.kill(pid, signal.SIGTERM)
    ends.add(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(ends)
try:
    print(os.read(read, 100))
except BlockingIOError:
    print("nothing")
print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""
    assert said(code).splitlines() == [f"{{{-signal.SIGTERM}}}", "nothing", "set()"]


def test_a_child_that_returns_ends_and_says_why() -> None:
    done = ran("fork.in_child(lambda: None); print(child(fork.end_if_forked))")
    assert done.stdout == "70\n"
    assert "a forked child returned" in done.stderr
    assert done.stderr.count("\n") == 1


def test_it_speaks_as_the_log_does() -> None:
    code = """
from mesh import log
log.configure("info", "embed/1")
fork.in_child(lambda: None)
child(lambda: fork.Tripwire().acquire)
"""
    assert '"source":"embed/1","message":"a forked child returned' in ran(code).stderr


@pytest.mark.parametrize(("given", "code"), [("", 0), ("5", 5), ("-1", 255), ("'why'", 1)])
def test_one_that_wants_to_exit_does(given: str, code: int) -> None:
    text = f"""
def leaves():
    try:
        print("last words", end=" ")
        sys.exit({given})
    finally:
        fork.Tripwire().acquire()

fork.in_child(lambda: None)
print(child(leaves))
"""
    done = ran(text)
    assert done.stdout == f"last words {code}\n"
    assert done.stderr == ""


def test_the_parent_is_no_child() -> None:
    assert said("fork.in_child(lambda: None); child(lambda: None); fork.end_if_forked()") == ""


def test_a_block_that_takes_what_was_the_parents_ends_it() -> None:
    code = """
def enters():
    with fork.Tripwire():
        os._exit(1)

fork.in_child(lambda: None)
print(child(enters))
"""
    assert ran(code).stdout == "70\n"
