"""Who turns a node, and when: on a descriptor, when asked, when something is due."""

import asyncio
import os
from time import monotonic

from gateway.event_loop import EventLoopDriver


class Node:
    """Counts its turns, and says when it wants the next."""

    def __init__(self):
        self.network = self
        self.turns = []
        self.due = float("inf")
        self.left = 0  # how many more turns something is left after
        self.calm = False

    def receive(self, now, ready=()):
        self.turns.append(tuple(ready))
        came, self.left = self.left > 0, max(0, self.left - 1)
        return came

    def flush(self, now):
        self.due = float("inf") if now >= self.due else self.due

    def is_pending(self):
        return self.left > 0

    def next_due(self):
        return self.due


def driven(act):
    """Run `act(node, drive, answered)` in a loop."""

    async def main():
        node, answered = Node(), []
        driver = EventLoopDriver(node, answered.append, lambda: node.calm)
        driver.start()
        try:
            await act(node, driver, answered)
        finally:
            driver.stop()

    def run():
        asyncio.run(main())

    return run


async def pause():
    for _ in range(5):
        await asyncio.sleep(0)


@driven
async def test_it_turns_at_once_and_answers_after_each_turn(node, driver, answered):
    assert node.turns == [()]
    assert len(answered) == 1


@driven
async def test_answers_go_first_only_where_something_came_and_nothing_waits(node, driver, answered):
    for calm, left, times in ((False, 1, 1), (True, 0, 1), (True, 1, 2)):
        node.calm, node.left = calm, left
        answered.clear()
        driver.wake()
        await pause()
        assert len(answered) == times


@driven
async def test_many_wishes_make_one_turn(node, driver, answered):
    for _ in range(50):
        driver.wake()
    await pause()
    assert len(node.turns) == 2
    driver.wake()
    await pause()
    assert len(node.turns) == 3


@driven
async def test_what_is_left_is_taken_up_but_others_get_the_loop(node, driver, answered):
    node.left = 30
    driver.wake()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert 1 < len(node.turns) < 20
    await pause()
    assert node.left == 0


@driven
async def test_a_readable_descriptor_is_named(node, driver, answered):
    inside, outside = os.pipe()
    try:
        driver.watch(inside)
        os.write(outside, b"x")
        await pause()
        assert (inside,) in node.turns
        driver.unwatch(inside)
        before = len(node.turns)
        await pause()
        assert len(node.turns) == before
    finally:
        os.close(inside)
        os.close(outside)


@driven
async def test_what_is_due_gets_its_turn_in_time(node, driver, answered):
    began = monotonic()
    node.due = began + 0.03
    due = asyncio.Event()
    driver.wake()
    await pause()
    node.flush = lambda now: due.set()
    await asyncio.wait_for(due.wait(), 5.0)
    assert monotonic() - began >= 0.03 - 0.002


@driven
async def test_after_the_end_nothing_turns(node, driver, answered):
    driver.wake()
    driver.stop()
    before = len(node.turns)
    driver.wake()
    await pause()
    assert len(node.turns) == before
