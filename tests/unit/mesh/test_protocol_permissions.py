"""Who may say what: the one table, and links that keep to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest
from mesh_world import FACTS
from wire_samples import (
    ALWAYS,
    BY_HAND,
    GREETINGS,
    Row,
    in_words,
    may_say,
    samples,
    sequence_of,
)

from mesh.links.events import Identity, SessionLost
from mesh.links.links import Links
from mesh.protocol import permissions
from mesh.protocol.fields import Frame
from mesh.protocol.messages import (
    Cancel,
    Header,
    Hello,
    Message,
    Part,
    Peer,
    Peers,
    Ping,
    Role,
    StageFacts,
    Type,
    Welcome,
)
from mesh.protocol.permissions import (
    MAX_BATCH,
    MAX_OWNERS,
    MAX_PEERS,
    MAY_SAY,
    Breach,
    breach_or_bug,
    content_objection,
    hello_objection,
    is_numeric_tcp,
    peers_objection,
    permitted,
    stage_objection,
)
from mesh.protocol.wire import VERSION, encode, seal

SAMPLES = samples(2)
# Each row, those that are not there, too.
ROWS = list(product(Role, Role, (True, False)))


@pytest.mark.parametrize("row", ROWS, ids=in_words)
def test_each_may_say_what_its_row_lists(row: Row) -> None:
    speaker, listener, dialled = row
    said = permitted(speaker, listener, dialled=dialled)
    assert said == (BY_HAND[row] | ALWAYS if row in BY_HAND else set())
    assert (row in MAY_SAY) is (row in BY_HAND)


def test_each_type_that_follows_a_greeting_has_a_sample() -> None:
    assert set(SAMPLES) == set(Type) - GREETINGS


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


def played(row: Row, kind: Type) -> str:
    """What becomes of a speaker that says this type at once: it is met or not, and kept or not."""
    speaker, listener, dialled = row
    links, link = (consumed if dialled else produced)(listener, speaker)
    if 2 not in links.sessions:
        return "never met"
    links.news.clear()
    links.sessions[2].may_owe = True
    links.sessions[2].stream.allow(1, 100, 0.0)
    links.received(link, frames(SAMPLES[kind], 2, 1, sequence=sequence_of(kind)), 0.0)
    lost = [news for news in links.news if isinstance(news, SessionLost) and not news.orderly]
    if not lost:
        return "allowed" if links.breaches == 0 else "counted, and kept"
    assert links.breaches == 1
    assert links.sessions == {}
    return lost[0].reason


def verdict(row: Row, kind: Type) -> str:
    """What should become of it, by the table that is written by hand."""
    if row not in BY_HAND:
        return "never met"
    return "allowed" if may_say(row, kind) else f"it may not say {kind.name}"


@pytest.mark.parametrize("kind", SAMPLES, ids=in_words)
@pytest.mark.parametrize("row", BY_HAND, ids=in_words)
def test_whoever_says_more_loses_its_session(row: Row, kind: Type) -> None:
    assert played(row, kind) == verdict(row, kind)


@pytest.mark.parametrize("row", ROWS, ids=in_words)
def test_only_those_who_have_something_to_say_are_met(row: Row) -> None:
    assert (played(row, Type.PING) == "never met") is (row not in BY_HAND)


@pytest.mark.parametrize("row", BY_HAND, ids=in_words)
def test_each_type_taken_out_of_a_row_or_put_into_it_is_noticed(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in SAMPLES:
        with monkeypatch.context() as patch:
            patch.setitem(permissions._ALLOWED, row, permissions._ALLOWED[row] ^ {kind})
            assert played(row, kind) != verdict(row, kind), kind.name


@pytest.mark.parametrize("row", ROWS, ids=in_words)
def test_each_row_taken_out_or_put_in_is_noticed(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {each: types for each, types in permissions._ALLOWED.items() if each != row}
    if row not in BY_HAND:
        rows[row] = ALWAYS
    monkeypatch.setattr(permissions, "MAY_SAY", rows)
    monkeypatch.setattr(permissions, "_ALLOWED", rows)
    assert played(row, Type.PING) != verdict(row, Type.PING)


# --- what is said, beyond its type ---------------------------------------------------------------


def judged(links: Links, link: int, message: Message, sequence: int = 1) -> str:
    """Why saying this has cost the speaker, number 2, its session; "" if it has not."""
    links.news.clear()
    links.received(link, frames(message, 2, 1, sequence), 0.0)
    return next((news.reason for news in links.news if isinstance(news, SessionLost)), "")


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


def test_a_ping_names_no_more_producers_than_hello_may() -> None:
    most = tuple(range(1, MAX_OWNERS + 1))
    links, link = consumed(Role.GATEWAY, Role.REPLICA)
    assert judged(links, link, Ping(1, owners=most)) == ""
    text = f"{MAX_OWNERS + 1} producers are more than {MAX_OWNERS}"
    assert judged(links, link, Ping(1, owners=(*most, 0))) == text
    assert links.sessions == {}


@pytest.mark.parametrize("speaker", [Role.GATEWAY, Role.REPLICA], ids=lambda role: role.name)
def test_a_producer_sends_slices_only_within_its_credit(speaker: Role) -> None:
    links, link = produced(Role.REPLICA, speaker)
    assert judged(links, link, Part(1, 4, 0, b"xx")) == "it owes nothing that could come in slices"
    links, link = produced(Role.REPLICA, speaker)
    links.sessions[2].stream.allow(1, 100, 0.0)
    assert judged(links, link, Part(1, 4, 0, b"xx")) == ""
    links.sessions[2].stream.allowed.used_tasks = 1
    assert judged(links, link, Part(1, 4, 0, b"xx")) == ""  # it is retransmitted
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


HELLO = Hello(Role.REPLICA, 1, "mesh", (VERSION,), stage=FACTS)


@pytest.mark.parametrize(
    ("changed", "objection"),
    [
        ({}, ""),
        ({"role": Role.GATEWAY}, "a gateway has nothing to say to a gateway"),
        ({"stage": None}, "a replica names its stage, and only a replica does"),
        ({"role": Role.SUPERVISOR}, "a replica names its stage, and only a replica does"),
        ({"owners": tuple(range(MAX_OWNERS))}, ""),
        ({"feed": "tcp://".ljust(256, "9")}, ""),
        ({"owners": tuple(range(MAX_OWNERS + 1))}, f"{MAX_OWNERS + 1} producers are more than"),
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
        (FACTS._replace(batch=MAX_BATCH), ""),
        (FACTS._replace(batch=MAX_BATCH + 1), "batch is 65537"),
        (FACTS._replace(batch=1, pool=1), ""),
        (FACTS._replace(pool=0), "pool is 0 bytes"),
        (FACTS._replace(timeout=31 * 86_400.0), ""),
        (FACTS._replace(timeout=0.0), "timeout is 0 s"),
        (FACTS._replace(timeout=1e9), "timeout is 1e+09 s"),
        (FACTS._replace(content_type=""), "the content type"),
        (FACTS._replace(content_type="x" * 257), "the content type"),
        (FACTS._replace(content_type="text/plain\r\nX: y"), "the content type"),
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
    assert peers_objection(Peers(1, [peer] * MAX_PEERS)) == ""
    assert peers_objection(Peers(1, [peer] * (MAX_PEERS + 1))).startswith("513 addresses")
    assert peers_objection(Peers(1, [peer._replace(address="x" * 256)])) == ""
    assert "longer" in peers_objection(Peers(1, [peer._replace(address="x" * 257)]))


def test_too_many_addresses_cost_a_gateway_its_session() -> None:
    peer = Peer("tcp://10.0.0.7:7001", 7, Role.REPLICA, "embed", "1")
    links, link = produced(Role.REPLICA, Role.GATEWAY)
    said = judged(links, link, Peers(1, [peer] * (MAX_PEERS + 1)), 0)
    assert said == f"{MAX_PEERS + 1} addresses are more than {MAX_PEERS}"


@pytest.mark.parametrize(
    ("address", "numeric"),
    [
        ("tcp://10.0.0.7:7000", True),
        ("tcp://[fe80::1]:7000", True),
        ("tcp://fe80::1:7000", False),
        ("tcp://[10.0.0.7]:7000", False),
        ("tcp://10.0.0.7:1", True),
        ("tcp://10.0.0.7:65535", True),
        ("tcp://10.0.0.7:65536", False),
        ("tcp://[::1x:7000", False),
        ("tcp://x::1]:7000", False),
        ("tcp://10.0.0.7:٣", False),
        ("tcp://10.0.0.7:²", False),
        ("udp://10.0.0.7:7000", False),
        ("10.0.0.7:7000", False),
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


def test_what_is_no_breach_is_our_bug() -> None:
    bug = KeyError("x")
    assert breach_or_bug(bug) == ("it could not be handled: KeyError", bug)
    assert breach_or_bug(Breach("it may not say CANCEL")) == ("it may not say CANCEL", None)
