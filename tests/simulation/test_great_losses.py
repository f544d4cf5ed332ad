"""Many requests are lost at once: all that have the time are answered, by few further forwards."""

import pytest
from members import Forward, Supervision
from small_mesh import SmallMesh

from mesh.protocol.messages import Death

RESTART_S = 0.5


class Supervised(SmallMesh):
    """A one-stage mesh whose supervisor reports deaths and starts successors.

    Args:
        count: how many replicas.
        timeout: seconds that a request lives.
        how: the replicas, see `Rep`.
    """

    def __init__(self, count, timeout, **how):
        super().__init__("a", timeout=timeout)
        self.supervisor = self.join(Supervision(self, self.addresses, timeout))
        self.how, self.deaths = how, 0
        self.ones = [self.begin() for _ in range(count)]
        self.settle()

    def begin(self):
        return self.replica("a", feed=False, parent=self.supervisor.me, **self.how)

    def die(self, member, signal=9):
        running = member.running
        ids = [] if running is None else [task.id for task in member.core.running.tasks]
        self.leave(member)
        self.deaths += 1
        self.supervisor.core.died(Death(member.me, "a", signal, 0, ids), self.now)
        self.supervisor.node.flush(self.now)
        self.at(self.now + RESTART_S, self.begin)

    def failures(self, numbers, within):
        answers = zip(numbers, self.answered(*numbers, within=within), strict=True)
        return {number: answer.label for number, answer in answers if answer.label}


@pytest.mark.parametrize("count", [4, 8])
def test_one_death_under_large_batches_fails_nothing(count):
    mesh = Supervised(count, timeout=60.0, batch=256, takes=lambda size: 2.0, limit=30.0)
    numbers = [mesh.gateway.submit() for _ in range(2000)]
    mesh.run(1.0)
    victim = max(mesh.ones, key=lambda one: len(one.core.batcher))
    assert victim.running is not None
    mesh.die(victim)
    started = mesh.now
    assert mesh.failures(numbers, within=60.0) == {}
    assert mesh.gateway.core.counts.retries["lost"] >= 200
    batches = -(-2000 // 256)
    assert mesh.now - started < 2.0 * (batches / (count - 1) + 4)


@pytest.mark.parametrize("size", [2, 9, 64])
def test_a_poison_request_costs_its_batch_mates_no_answer(size):
    def forward(tasks):
        poison = any(b"poison" in bytes(task.buffers[0]) for task in tasks)
        return Forward(0.1, crashes=poison)

    mesh = Supervised(3, timeout=60.0, batch=size, forward=forward)
    bodies = [b"poison" if n == size // 3 else b"x" for n in range(size)]
    numbers = [mesh.gateway.submit(body) for body in bodies]
    assert mesh.failures(numbers, within=60.0) == {numbers[size // 3]: "poison_request"}
    assert mesh.deaths <= 2 + (size - 1).bit_length()
    others = [mesh.gateway.submit() for _ in range(size)]
    assert mesh.failures(others, within=5.0) == {}


def test_a_third_of_a_large_stage_is_lost_at_once():
    mesh = Supervised(60, timeout=60.0, batch=32, takes=lambda size: 0.5)
    numbers = [mesh.gateway.submit() for _ in range(4000)]
    mesh.run(0.4)
    for one in mesh.ones[::3]:
        mesh.die(one)
    assert mesh.failures(numbers, within=60.0) == {}
    assert mesh.gateway.core.counts.retries["lost"] > 1000


def test_suspects_delay_others_by_no_more_than_every_second_batch():
    mesh = Supervised(2, timeout=60.0, batch=64, takes=lambda size: 1.0)
    suspects = [mesh.gateway.submit() for _ in range(128)]
    mesh.run(0.5)
    mesh.die(mesh.ones[0])
    others = [mesh.gateway.submit() for _ in range(64)]
    started = mesh.now
    assert mesh.failures(others, within=60.0) == {}
    assert mesh.now - started < 4.0
    assert mesh.failures(suspects, within=60.0) == {}
