"""A process's seat in the mesh: the one interpreter of instructions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from mesh_world import FACTS, POOL, Consumer, World, a_task, session_of

from mesh.links.events import (
    Delivery,
    Dial,
    HangUp,
    Identity,
    News,
    ProbePort,
    Send,
    SessionStarted,
)
from mesh.links.links import Links
from mesh.links.node import Node
from mesh.links.session import Session
from mesh.protocol.fields import Frame
from mesh.protocol.messages import Role, Tasks
from mesh.transport.network import Event, NetworkEvent


class Notebook:
    """Writes down, in order, what links, core and network are asked to do."""

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []
        self.refuses = False
        self.events: list[Event] = []
        self.due = float("inf")


class Core:
    def __init__(self, notebook: Notebook) -> None:
        self.notebook = notebook
        self.links = Links(Identity(2, Role.REPLICA, stage=FACTS), lambda: 0.5)

    def delivered(self, delivery: Delivery, now: float) -> None:
        self.notebook.lines.append(("delivered", delivery))

    def handle_news(self, news: News, now: float) -> None:
        self.notebook.lines.append(("told", type(news)))

    def advance(self, now: float) -> None:
        self.notebook.lines.append(("advance", now))

    def next_due(self) -> float:
        return self.notebook.due


class Network:
    def __init__(self, notebook: Notebook) -> None:
        self.notebook = notebook

    def listen(self, address: str) -> str:
        return address

    def dial(self, link: int, address: str) -> None:
        self.notebook.lines.append(("dial", link, address))

    def hang_up(self, link: int) -> None:
        self.notebook.lines.append(("hang up", link))

    def send(self, link: int, frames: Sequence[Frame]) -> bool:
        self.notebook.lines.append(("send", link))
        return not self.notebook.refuses

    def probe(self, peer: int, address: str) -> None:
        self.notebook.lines.append(("knock", peer, address))

    def receive(self, ready: Iterable[int] = ()) -> list[Event]:
        events, self.notebook.events = self.notebook.events, []
        return events

    def is_pending(self) -> bool:
        return False

    def next_due(self) -> float:
        return self.notebook.due

    def close(self) -> None:
        pass


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
def node(notebook: Notebook) -> Node:
    return Node(Core(notebook), Network(notebook))


def test_instructions_are_carried_out_in_order(node: Node, notebook: Notebook) -> None:
    node.core.links.out += [Dial(-9, "a"), Send(-9, [b""]), HangUp(-9), ProbePort(7, "b")]
    node.flush(1.0)
    assert notebook.lines == [
        ("advance", 1.0), ("dial", -9, "a"), ("send", -9), ("hang up", -9), ("knock", 7, "b")
    ]  # fmt: skip


def test_a_refused_send_closes_the_link(node: Node, notebook: Notebook) -> None:
    links = node.core.links
    links.dial(["a"], 0.0)
    node.turn(0.0)
    notebook.events = [(NetworkEvent.OPENED, -1, ())]
    notebook.refuses = True
    node.turn(0.0)  # HELLO is refused
    notebook.lines.clear()
    node.turn(0.0)
    assert ("dial", -2, "a") in notebook.lines


def test_events_go_where_they_belong_and_news_comes_in_between(
    node: Node, notebook: Notebook
) -> None:
    world = World()
    producer = world.producer("p", 1)
    port = world.hub.port("c")
    consumer = Node(Core(notebook), port)
    consumer.core.links.dial(["memory://p"], world.clock())
    world.nodes["c"] = consumer
    world.run(0.1)
    assert ("told", SessionStarted) in notebook.lines
    (session,) = consumer.core.links.sessions.values()
    session.stream.allow(5, 100, world.clock())
    consumer.core.links.touch(session)
    producer.dispatcher.push(a_task(1))
    world.run(0.1)
    delivered = [line[1] for line in notebook.lines if line[0] == "delivered"]
    assert any(delivery.message is not None for delivery in delivered)
    world.hub.cut("p", "c")
    world.run(0.0005)
    world.run(0.2)
    assert notebook.lines.count(("told", SessionStarted)) == 2


def test_it_is_due_when_any_of_its_parts_is(node: Node, notebook: Notebook) -> None:
    node.turn(0.0)
    assert node.next_due() == float("inf")
    notebook.due = 7.0
    assert node.next_due() == 7.0
    node.core.links.dial(["a"], 3.0)
    assert node.next_due() == 3.0
    node.core.links.out.append(HangUp(-9))  # is carried out at once
    assert node.next_due() == 0.0


def test_what_a_probe_found_is_told_to_the_links(node: Node, notebook: Notebook) -> None:
    session = Session(2, 7, Role.GATEWAY, POOL)
    node.core.links.sessions[7] = session
    for happened, lives in ((NetworkEvent.LISTENING, True), (NetworkEvent.REFUSED, False)):
        notebook.events = [(happened, 7, ())]
        node.receive(0.0)
        assert session.vitals.listens
        assert (7 in node.core.links.sessions) is lives


def test_doubt_makes_it_probe() -> None:
    world = World()
    producer, consumer = world.producer("p", 1), world.consumer("c", 2, "p")
    world.run(0.1)
    session = session_of(producer, consumer)
    world.kill("c")
    world.run(0.01)
    assert session.link is None


# --- one bad peer never ends a turn --------------------------------------------------------------


class Choking(Core):
    """Cannot bear what comes of one peer, nor the news of it."""

    def __init__(self, notebook: Notebook, victim: int, *, on_news: bool) -> None:
        super().__init__(notebook)
        self.victim, self.on_news = victim, on_news

    def delivered(self, delivery: Delivery, now: float) -> None:
        super().delivered(delivery, now)
        if delivery.session.peer == self.victim and not self.on_news:
            raise ZeroDivisionError

    def handle_news(self, news: News, now: float) -> None:
        super().told(news, now)
        if news.session.peer == self.victim and self.on_news:
            raise ZeroDivisionError


@pytest.mark.parametrize("on_news", [False, True], ids=["its message", "news of it"])
def test_what_cannot_be_handled_costs_its_sender_its_session_and_not_the_turn(
    notebook: Notebook, on_news: bool
) -> None:
    world = World()
    bad, good = world.producer("bad", 1), world.producer("good", 3)
    consumer = Node(Choking(notebook, 1, on_news=on_news), world.hub.port("c"))
    links = consumer.core.links
    told: list[str] = []
    links.expelled = lambda session, reason, fault: told.append(reason)
    links.dial(["memory://bad", "memory://good"], world.clock())
    world.nodes["c"] = consumer
    world.run(0.1)
    for session in links.sessions.values():
        session.stream.allow(5, 100, world.clock())
        links.touch(session)
    bad.dispatcher.push(a_task(1))
    good.dispatcher.push(a_task(2, owner=3))
    world.run(0.1)
    assert set(links.sessions) == {3}
    assert set(told) == {"it could not be handled: ZeroDivisionError"}
    taken = [
        delivery.message.tasks[0].number
        for kind, delivery in (line for line in notebook.lines if line[0] == "delivered")
        if isinstance(delivery.message, Tasks)
    ]
    assert 2 in taken
    assert session_of(good, Consumer(links)).link is not None
