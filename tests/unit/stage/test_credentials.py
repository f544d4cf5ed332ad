"""Whose tasks a replica takes."""

import pytest

from mesh.links.session import Session
from mesh.protocol.messages import Role, Task
from mesh.protocol.permissions import Breach
from stage.credentials import judge_tasks

HERE, NEXT = ("b", "r"), ("c", "r")


def task(owner=1, hops=(HERE, NEXT)):
    return Task(owner, 5, hops, 1, 1, 9.0, [b"x"], 1)


def judge(role, *tasks):
    judge_tasks(Session(2, 1, role, 0), tasks, *HERE)


def test_a_gateway_sends_tasks_of_its_own():
    judge(Role.GATEWAY, task(), task())
    with pytest.raises(Breach, match="of another gateway"):
        judge(Role.GATEWAY, task(), task(owner=9))


def test_a_replica_passes_on_tasks_of_any_gateway():
    judge(Role.REPLICA, task(owner=9), task(owner=8))


@pytest.mark.parametrize("role", [Role.GATEWAY, Role.REPLICA])
@pytest.mark.parametrize("hops", [(NEXT,), (("b", "another"),)])
def test_nobody_sends_what_is_for_another_stage(role, hops):
    with pytest.raises(Breach, match="another stage or revision"):
        judge(role, task(), task(hops=hops))
