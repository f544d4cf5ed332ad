"""Whoever has ended leaves the table of processes, except those that somebody waits for."""

from __future__ import annotations

import os

from mesh.process.reaper import reap_orphans


def ended() -> int:
    """A child that has ended, and that nobody has waited for."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


def test_the_ended_are_taken_in() -> None:
    assert reap_orphans(()) == []
    pids = {ended(), ended()}
    assert set(reap_orphans(())) == pids
    assert reap_orphans(()) == []


def test_ours_are_left_to_whom_they_belong() -> None:
    pid = ended()
    assert reap_orphans({pid}) == []
    assert os.waitpid(pid, 0)[0] == pid


def test_those_that_live_are_left_alone() -> None:
    pid = os.posix_spawn("/bin/sleep", ["sleep", "30"], {})
    assert reap_orphans(()) == []
    os.kill(pid, 9)
    os.waitpid(pid, 0)
