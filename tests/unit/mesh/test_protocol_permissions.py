"""Who may say what: the one table, and links that keep to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest
from mesh_world import FACTS

from mesh.links.events import Identity, Lost
from mesh.links.links import Links
from mesh.protocol.fields import Frame
from mesh.protocol.messages import (
    Answer,
    Bye,
    Cancel,
    Credit,
    Drain,
    Err,
    Header,
    Hello,
    Kind,
    Message,
    Obituary,
    Outcome,
    Outcomes,
    Part,
    Peer,
    Peers,
    Ping,
    Role,
    StageFacts,
    Submit,
    Task,
    Tasks,
    Type,
    Welcome,
    Who,
)
from mesh.protocol.permissions import (
    MAY_SAY,
    MOST_BATCH,
    MOST_OWNERS,
    MOST_PEERS,
    content_objection,
    hello_objection,
    is_numeric_tcp,
    peers_objection,
    permitted,
    stage_objection,
)
from mesh.protocol.wire import VERSION, encode, seal

ALWAYS = {Type.CREDIT, Type.PING, Type.DRAIN, Type.BYE, Type.WHO, Type.ERR}
# What each may say, once more and by hand: a row that is removed or widened must be noticed.
EXPECTED = {
    "gateway to replica, which dialled": {Type.TASKS, Type.PART, Type.CANCEL, Type.PEERS},
    "replica, which dialled, to gateway": {Type.OUTCOMES, Type.PART},
    "replica to replica, which dialled": {Type.TASKS, Type.PART},
    "replica, which dialled, to replica": set(),
    "supervisor, which dialled, to gateway": {Type.OBITUARY},
    "gateway to supervisor, which dialled": set(),
    "client, which dialled, to gateway": {Type.SUBMIT, Type.PART, Type.CANCEL},
    "gateway to client, which dialled": {Type.ANSWER, Type.PART},
}
SAMPLES: dict[Type, Message] = {
    Type.TASKS: Tasks([Task(1, 1, (("embed", "1"),), 0, 1, 9.0, [b"x"], 1)]),
    Type.PART: Part(1, 4, 0, b"xx"),
    Type.CREDIT: Credit(),
    Type.OUTCOMES: Outcomes(),
    Type.OBITUARY: Obituary(9, "embed", 9, 0, []),
    Type.SUBMIT: Submit(1, "/inference", 0, 0, None, [b"x"]),
    Type.ANSWER: Answer(Outcome(1, 1, Kind.RESULT)),
    Type.CANCEL: Cancel(2, [1]),  # its own
    Type.PEERS: Peers(1, []),
    Type.PING: Ping(5),
    Type.DRAIN: Drain(0),
    Type.BYE: Bye("done"),
    Type.WHO: Who(),
    Type.ERR: Err(0, "no"),
}


def in_words(speaker: Role, listener: Role, dialled: bool) -> str:
    names = speaker.name.lower(), listener.name.lower()
    return (
        f"{names[0]}, which dialled, to {names[1]}"
        if dialled
        else (f"{names[0]} to {names[1]}, which dialled")
    )


@pytest.mark.parametrize(
    ("speaker", "listener", "dialled"), list(product(Role, Role, (True, False)))
)
def test_each_may_say_what_its_row_lists(speaker: Role, listener: Role, dialled: bool) -> None:
    expected = EXPECTED.get(in_words(speaker, listener, dialled))
    said = permitted(speaker, listener, dialled=dialled)
    assert said == (set() if expected is None else expected | ALWAYS)
    assert ((speaker, listener, dialled) in MAY_SAY) is (expected is not None)


def test_each_type_that_follows_a_greeting_has_a_sample() -> None:
    assert set(SAMPLES) == set(Type) - {Type.HELLO, Type.WELCOME}


def half() -> float:
    return 0.5


def frames(message: Message, sender: int, receiver: int = 0, sequence: int = 0) -> list[Frame]:
    encoded = encode(message)
    return seal(Header(encoded.type, sender, receiver, sequence), encoded)


def consumed(listener: Role, speaker: Role) -> tuple[Links, int]:
    """A listener that `speaker` has dialled and greeted, and the link between them."""
    links = Links(Identity(1, listener), half)
    stage = FACTS if speaker is Role.REPLICA else None
    hello = Hello(speaker, 5, "mesh", (VERSION,), stage=stage)
    assert links.received(7, frames(hello, 2), 0.0) is None
    return links, 7


def produced(listener: Role, speaker: Role) -> tuple[Links, int]:
    """A listener that has dialled `speaker`, and was welcomed."""
    stage = FACTS if listener is Role.REPLICA else None
    links = Links(Identity(1, listener, stage=stage), half)
    links.dial(["memory://p"], 0.0)
    links.tick(0.0)
    links.opened(-1, 0.0)
    nonce = links._lines.of(-1).nonce  # type: ignore[union-attr]
    welcome = Welcome(nonce, VERSION, speaker, 0, False, 3.0)
    assert links.received(-1, frames(welcome, 2, 1), 0.0) is None
    return links, -1


@pytest.mark.parametrize("row", list(MAY_SAY), ids=lambda row: in_words(*row))
@pytest.mark.parametrize("kind", list(SAMPLES), ids=lambda kind: kind.name)
def test_whoever_says_more_loses_its_session(row: tuple[Role, Role, bool], kind: Type) -> None:
    speaker, listener, dialled = row
    links, link = (consumed if dialled else produced)(listener, speaker)
    links.news.clear()
    links.sessions[2].may_owe = True
    links.sessions[2].allow(1, 100, 0.0)
    links.received(link, frames(SAMPLES[kind], 2, 1, sequence=1), 0.0)
    may = kind in permitted(speaker, listener, dialled=dialled)
    lost = [news for news in links.news if isinstance(news, Lost) and not news.orderly]
    assert links.breaches == (not may)
    assert bool(lost) is not may
    if lost:
        assert lost[0].reason == f"it may not say {kind.name}"
        assert links.sessions == {}


# --- what is said, beyond its type ---------------------------------------------------------------


def judged(links: Links, link: int, message: Message, sequence: int = 1) -> str:
    """Why saying this has cost the speaker, number 2, its session; "" if it has not."""
    links.news.clear()
    links.received(link, frames(message, 2, 1, sequence), 0.0)
    return next((news.reason for news in links.news if isinstance(news, Lost)), "")


@pytest.mark.parametrize(
    ("greet", "listener", "speaker"),
    [(produced, Role.REPLICA, Role.GATEWAY), (consumed, Role.GATEWAY, Role.CLIENT)],
)
def test_only_ones_own_requests_are_cancelled(
    greet: Callable[[Role, Role], tuple[Links, int]], listener: Role, speaker: Role
) -> None:
    assert judged(*greet(listener, speaker), Cancel(2, [1])) == ""
    links, link = greet(listener, speaker)
    assert judged(links, link, Cancel(3, [1])) == "it may not cancel what is not its own"
    assert links.sessions == {}


@pytest.mark.parametrize("speaker", [Role.GATEWAY, Role.REPLICA], ids=lambda role: role.name)
def test_a_producer_sends_slices_only_within_its_credit(speaker: Role) -> None:
    links, link = produced(Role.REPLICA, speaker)
    assert judged(links, link, Part(1, 4, 0, b"xx")) == "it owes nothing that could come in slices"
    links, link = produced(Role.REPLICA, speaker)
    links.sessions[2].allow(1, 100, 0.0)
    assert judged(links, link, Part(1, 4, 0, b"xx")) == ""
    links.sessions[2].taken_tasks = 1
    assert judged(links, link, Part(1, 4, 0, b"xx")) == ""  # it is sent again
    assert judged(links, link, Part(1, 4, 2, b"xx"), 2) != ""


@pytest.mark.parametrize("speaker", [Role.REPLICA, Role.CLIENT], ids=lambda role: role.name)
def test_a_consumer_sends_slices_only_if_it_may_owe_outputs(speaker: Role) -> None:
    links, link = consumed(Role.GATEWAY, speaker)
    assert judged(links, link, Part(1, 4, 0, b"xx")) == "it owes nothing that could come in slices"
    links, link = consumed(Role.GATEWAY, speaker)
    links.sessions[2].may_owe = True
    assert judged(links, link, Part(1, 4, 0, b"xx")) == ""


def test_what_is_said_matters_for_no_other_type() -> None:
    assert {kind for kind in SAMPLES if content_objection(SAMPLES[kind], 9, may_owe=False)} == {
        Type.CANCEL,
        Type.PART,
    }


@pytest.mark.parametrize("listener", list(Role), ids=lambda role: role.name)
@pytest.mark.parametrize("speaker", list(Role), ids=lambda role: role.name)
def test_only_those_who_have_something_to_say_are_met(speaker: Role, listener: Role) -> None:
    links, _ = consumed(listener, speaker)
    assert bool(links.sessions) is ((speaker, listener, True) in MAY_SAY)


HELLO = Hello(Role.REPLICA, 1, "mesh", (VERSION,), stage=FACTS)


@pytest.mark.parametrize(
    ("changed", "objection"),
    [
        ({}, ""),
        ({"role": Role.GATEWAY}, "a gateway has nothing to say to a gateway"),
        ({"stage": None}, "a replica names its stage, and nobody else does"),
        ({"role": Role.SUPERVISOR}, "a replica names its stage, and nobody else does"),
        ({"owners": tuple(range(MOST_OWNERS + 1))}, f"{MOST_OWNERS + 1} producers are more than"),
        ({"host": "a\nb"}, "the name of the host"),
        ({"host": "h" * 256}, "the name of the host"),
        ({"feed": "tcp://" + "9" * 300}, "the feed address is too long"),
        ({"feed": "tcp://\x1b[2J:1"}, "the feed address is too long or not printable"),
        ({"stage": FACTS._replace(batch=0)}, "batch is 0, not within 1 to 65536"),
    ],
)
def test_what_hello_may_say(changed: dict[str, object], objection: str) -> None:
    said = hello_objection(Role.GATEWAY, replace(HELLO, **changed))  # type: ignore[arg-type]
    assert said.startswith(objection)
    assert bool(said) is bool(objection)


@pytest.mark.parametrize(
    ("facts", "objection"),
    [
        (FACTS, ""),
        (FACTS._replace(name="x\x1b"), "the stage's name"),
        (FACTS._replace(name=""), "the stage's name"),
        (FACTS._replace(batch=MOST_BATCH), ""),
        (FACTS._replace(batch=MOST_BATCH + 1), "batch is 65537"),
        (FACTS._replace(pool=0), "pool is 0 bytes"),
        (FACTS._replace(timeout=0.0), "timeout is 0 s"),
        (FACTS._replace(timeout=1e9), "timeout is 1e+09 s"),
        (FACTS._replace(mime=""), "the content type"),
        (FACTS._replace(mime="x" * 257), "the content type"),
        (FACTS._replace(mime="text/plain\r\nX: y"), "the content type"),
        (FACTS._replace(version="2\n"), "version is not a printable word"),
        (FACTS._replace(version="2026-11-30 b"), ""),
        (FACTS._replace(revision="r" * 129), "revision is not a printable word"),
        (FACTS._replace(routes="\x00"), "routes is not a printable word"),
    ],
)
def test_what_a_stage_may_be(facts: StageFacts, objection: str) -> None:
    said = stage_objection(facts)
    assert said.startswith(objection)
    assert bool(said) is bool(objection)


def test_how_many_addresses_a_gateway_may_name() -> None:
    peer = Peer("tcp://10.0.0.7:7001", 7, Role.REPLICA, "embed", "1")
    assert peers_objection(Peers(1, [peer] * MOST_PEERS)) == ""
    assert peers_objection(Peers(1, [peer] * (MOST_PEERS + 1))).startswith("513 addresses")
    assert "longer" in peers_objection(Peers(1, [peer._replace(address="x" * 257)]))


@pytest.mark.parametrize(
    ("address", "numeric"),
    [
        ("tcp://10.0.0.7:7000", True),
        ("tcp://[fe80::1]:7000", True),
        ("tcp://fe80::1:7000", False),
        ("tcp://[10.0.0.7]:7000", False),
        ("tcp://10.0.0.7:0", False),
        ("tcp://10.0.0.7:70000", False),
        ("tcp://10.0.0.7:99999999999999", False),
        ("tcp://10.0.0.7:", False),
        ("tcp://10.0.0.7", False),
        ("tcp://gateway:7000", False),
        ("ipc:///run/x", False),
    ],
)
def test_an_address_with_nothing_to_resolve(address: str, numeric: bool) -> None:
    assert is_numeric_tcp(address) is numeric
