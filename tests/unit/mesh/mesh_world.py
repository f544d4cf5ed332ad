"""A small mesh in one process: producers that dispatch, consumers that grant, faults in between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest

from mesh.links.dispatcher import Dispatcher
from mesh.links.events import Delivery, Identity, MessageRefused, News, SessionLost, SessionStarted
from mesh.links.links import Links
from mesh.links.node import Node
from mesh.links.session import Session
from mesh.protocol.messages import (
    Cancel,
    Message,
    Outcome,
    OutcomeKind,
    Outcomes,
    Role,
    StageFacts,
    Task,
    Tasks,
)
from mesh.transport.memory import FakeClock, MemoryNetwork

HOP = ("embed", "1")
FACTS = StageFacts("embed", "1", 4, 5.0, 1 << 20)
POOL = 1 << 20
SMALL = 64  # what the tests make of PART_SIZE


@contextmanager
def small_parts() -> Iterator[None]:
    """Slices of 64 bytes, eight of them under way: many cuts fall within a transfer."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("protocol.chunking", "links.stream", "links.dispatcher"):
            patch.setattr(f"mesh.{module}.PART_BYTES", SMALL)
        patch.setattr("mesh.protocol.chunking.INLINE_BYTES", SMALL // 4)
        patch.setattr("mesh.protocol.chunking.MAX_CHUNK_BYTES", 3 * SMALL)
        patch.setattr("mesh.links.large_messages.MAX_UNACKED_BYTES", 8 * SMALL)
        patch.setattr("mesh.links.stream.ACK_AFTER_BYTES", 2 * SMALL)
        yield


def a_task(number: int, size: int = 1, owner: int = 1, deadline: float = 1e6) -> Task:
    """A task whose payload shows its number in every byte."""
    return Task(owner, number, (HOP,), 0, 1, deadline, [bytes([number % 251]) * size], size)


class Producer:
    """Dispatches tasks; remembers what came of them."""

    def __init__(self, links: Links) -> None:
        self.links = links
        self.dispatcher = Dispatcher(HOP, links.me)
        self.answers: list[int] = []
        self.pushed: dict[int, Task] = {}
        self.given_back: list[int] = []
        self.unwanted: set[int] = set()
        self.dropped: list[int] = []
        self.returned: list[Task] = []
        self.covered: list[int] = []
        self.met: list[SessionStarted] = []
        self.lost: list[SessionLost] = []
        self.refused: list[MessageRefused] = []

    def delivered(self, delivery: Delivery, now: float) -> None:
        for message in delivery.covered:
            if isinstance(message, Tasks):
                self.covered += [task.number for task in message.tasks]
        if isinstance(delivery.message, Outcomes):
            for outcome in delivery.message.outcomes:
                self._take(outcome)

    def _take(self, outcome: Outcome) -> None:
        if outcome.kind is not OutcomeKind.UNSTARTED:
            self.answers.append(outcome.number)
            return
        self.given_back.append(outcome.number)
        if outcome.number not in self.unwanted:
            self.dispatcher.push(self.pushed[outcome.number])

    def cancel(self, number: int) -> None:
        """Nobody wants this task any more: it leaves our queue, or whoever has it is told."""
        self.unwanted.add(number)
        if self.dispatcher.waiting.remove(self.pushed[number]):
            self.dropped.append(number)
            return
        for session in self.links.sessions.values():
            before = session.stream.granted.used_tasks
            session.stream.post_cancel(Cancel(self.links.me, [number]))
            self.dropped += [number] * (before - session.stream.granted.used_tasks)
            self.links.touch(session)

    def handle_news(self, news: News, now: float) -> None:
        if isinstance(news, SessionStarted):
            self.met.append(news)
            news.session.may_owe = True
            self.dispatcher.join(news.session)
        elif isinstance(news, SessionLost):
            self.lost.append(news)
            self.dispatcher.leave(news.session)
            for message in news.session.stream.unacked():
                if isinstance(message, Tasks):
                    self.returned += message.tasks
        elif isinstance(news, MessageRefused):
            self.refused.append(news)

    def advance(self, now: float) -> None:
        for bundle in self.dispatcher.dispatch():
            assert bundle.session.stream.granted.free_tasks >= 0
            last = bundle.tasks[-1]
            assert bundle.session.stream.granted.free_nbytes > -max(1, last.nbytes)
            self.links.touch(bundle.session)

    def next_due(self) -> float:
        return float("inf")


class Consumer:
    """Grants credit, takes tasks, answers them when it is told to."""

    def __init__(self, links: Links, window: int = 4) -> None:
        self.links = links
        self.window = window
        self.held: list[Task] = []
        self.taken: list[tuple[int, int]] = []  # the producer's session, the task
        self.payloads: dict[int, bytes] = {}
        self.cancelled: list[int] = []  # while they were here
        self.overtaken: list[tuple[int, int]] = []  # named by a CANCEL before they came
        self.left: list[Message] = []
        self.met: list[SessionStarted] = []
        self.lost: list[SessionLost] = []
        self.others: list[Message] = []

    def delivered(self, delivery: Delivery, now: float) -> None:
        if isinstance(delivery.message, Tasks):
            for task in delivery.message.tasks:
                self.taken.append((delivery.session.nonce, task.number))
                self.payloads[task.number] = b"".join(task.buffers)
                self.held.append(task)
        elif isinstance(delivery.message, Cancel):
            for number in delivery.message.numbers:
                self._drop(delivery.session.nonce, number)
        elif delivery.message is not None:
            self.others.append(delivery.message)

    def handle_news(self, news: News, now: float) -> None:
        if isinstance(news, SessionStarted):
            self.met.append(news)
        elif isinstance(news, SessionLost):
            self.lost.append(news)

    def advance(self, now: float) -> None:
        for session in self.links.sessions.values():
            if not session.draining:
                tasks = session.stream.allowed.used_tasks + self.window
                session.stream.allow(tasks, session.stream.allowed.used_nbytes + POOL, now)
                self.links.touch(session)

    def _drop(self, nonce: int, number: int) -> None:
        if (nonce, number) not in self.taken:
            self.overtaken.append((nonce, number))
        here = [task for task in self.held if task.number == number]
        self.cancelled += [task.number for task in here]
        self.held = [task for task in self.held if task.number != number]

    def give_back(self, count: int) -> None:
        """Return the newest tasks, never begun."""
        for task in self.held[-count:]:
            session = self.links.sessions.get(task.owner)
            if session is not None:
                session.stream.post(Outcomes([Outcome(task.number, 1, OutcomeKind.UNSTARTED)]))
                self.links.touch(session)
        del self.held[-count:]

    def leave(self) -> None:
        """Take nothing new, and give back what is here."""
        for session in self.links.sessions.values():
            session.drain()
            self.links.touch(session)
        self.give_back(len(self.held) or 1)

    def is_done(self) -> bool:
        """Nothing will come any more, and nothing of ours is under way."""
        sessions = self.links.sessions.values()
        return not self.held and all(s.stream.is_idle() and s.is_drained for s in sessions)

    def answer(self, count: int) -> None:
        """Finish the oldest tasks."""
        for task in self.held[:count]:
            session = self.links.sessions.get(task.owner)
            if session is not None:
                outcome = Outcome(task.number, 1, OutcomeKind.RESULT, buffers=task.buffers)
                session.stream.post(Outcomes([outcome]))
                self.links.touch(session)
        del self.held[:count]

    def next_due(self) -> float:
        return float("inf")


class World:
    """Producers and consumers over one network. Time runs only in `run`."""

    def __init__(self, seed: int = 0, delay: float = 0.001, jitter: float = 0.001) -> None:
        self.clock = FakeClock()
        self.random = Random(seed)
        self.hub = MemoryNetwork(self.clock, seed, delay, jitter)
        self.nodes: dict[str, Node] = {}
        self.number = 0

    def producer(self, name: str, incarnation: int, **facts: object) -> Producer:
        identity = Identity(incarnation, Role.GATEWAY, **facts)  # type: ignore[arg-type]
        core = Producer(Links(identity, self.random.random))
        self.nodes[name] = Node(core, self.hub.port(name))
        self.nodes[name].network.listen(f"memory://{name}")
        return core

    def consumer(self, name: str, incarnation: int, *producers: str, **facts: object) -> Consumer:
        identity = Identity(incarnation, Role.REPLICA, stage=FACTS, **facts)  # type: ignore[arg-type]
        core = Consumer(Links(identity, self.random.random))
        self.nodes[name] = Node(core, self.hub.port(name))
        core.links.dial([f"memory://{producer}" for producer in producers], self.clock())
        return core

    def kill(self, name: str) -> None:
        self.nodes.pop(name).network.close()

    def push(self, producer: Producer, size: int = 1) -> int:
        self.number += 1
        task = producer.pushed[self.number] = a_task(self.number, size, producer.links.me)
        producer.dispatcher.push(task)
        return self.number

    def run(self, seconds: float = 0.0) -> None:
        """Turn every node whenever it wants to be turned, until that much time has passed."""
        until = self.clock() + seconds
        for node in self.nodes.values():
            node.turn(self.clock())
        at_once = 0
        while True:
            now = self.clock()
            for node in list(self.nodes.values()):
                if node.next_due() <= now:
                    node.turn(now)
            due = min(node.next_due() for node in self.nodes.values())
            at_once = at_once + 1 if due <= now else 0
            assert at_once < 100, "it turns and turns without time passing"
            if due > until:
                self.clock.now = max(now, until)
                return
            self.clock.now = max(now, due)


def session_of(core: Producer | Consumer, peer: Producer | Consumer) -> Session:
    """The session of one with the other."""
    return core.links.sessions[peer.links.me]


def assert_quiet(producer: Producer, consumer: Consumer) -> None:
    """Both ends have counted the same, and neither keeps anything."""
    here, there = session_of(producer, consumer), session_of(consumer, producer)
    assert here.nonce == there.nonce
    assert (here.stream.granted.used_tasks, here.stream.granted.used_nbytes) == (
        there.stream.allowed.used_tasks,
        there.stream.allowed.used_nbytes,
    )
    assert (here.stream.granted.tasks, here.stream.granted.nbytes) == (
        there.stream.allowed.tasks,
        there.stream.allowed.nbytes,
    )
    assert (here.stream.sequence, there.stream.sequence) == (
        there.stream.received,
        here.stream.received,
    )
    assert here.stream.is_idle()
    assert there.stream.is_idle()
    assert there.stream._incoming.held == here.stream._incoming.held == 0
