"""What HELLO and WELCOME say."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from mesh_world import FACTS
from wire_samples import BY_HAND, in_words

from mesh.links.events import Identity
from mesh.links.handshake import (
    crowding,
    draw_nonce,
    expulsion,
    hello_of,
    imposture,
    objection,
    welcome_objection,
    welcome_of,
)
from mesh.links.session import Session
from mesh.protocol.messages import Hello, Role, Welcome
from mesh.protocol.permissions import MOST_FROM_ONE_SOURCE
from mesh.protocol.wire import VERSION

ME = Identity(7, Role.REPLICA, "prod", FACTS, "tcp://10.0.0.7:7001", "host", 99, 4.0)


def a_session() -> Session:
    session = Session(7, 8, Role.GATEWAY, 100, nonce=33)
    session.stream.received = 12
    return session


def test_a_first_hello_knows_nobody() -> None:
    expected = Hello(
        *(Role.REPLICA, 5, "prod", (VERSION,), 0, 0),
        *("tcp://10.0.0.7:7001", FACTS, "host", 99, (1, 2)),
    )
    assert hello_of(ME, 5, None, (1, 2)) == expected


def test_a_hello_that_resumes_says_how_far_it_got() -> None:
    hello = hello_of(ME, 33, a_session(), ())
    assert (hello.nonce, hello.known, hello.received) == (33, 8, 12)


@pytest.mark.parametrize("resumed", [True, False])
def test_welcome_answers_the_sessions_nonce(resumed: bool) -> None:
    expected = Welcome(33, VERSION, Role.REPLICA, 12, resumed, 4.0)
    assert welcome_of(ME, a_session(), resumed) == expected


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_a_nonce_is_never_zero(chance: float) -> None:
    assert 0 < draw_nonce(chance) <= 2**53 + 1


@pytest.mark.parametrize(
    ("peer", "hello", "reason"),
    [
        (8, Hello(Role.CLIENT, 1, "prod", (VERSION,)), ""),
        (8, Hello(Role.CLIENT, 1, "test", (VERSION,)), "this is mesh 'prod', not 'test'"),
        (8, Hello(Role.CLIENT, 1, "prod", (99,)), f"version {VERSION} is spoken here, not [99]"),
        (7, Hello(Role.CLIENT, 1, "prod", (VERSION,)), "this is yourself"),
    ],
)
def test_objections(peer: int, hello: Hello, reason: str) -> None:
    assert objection(ME, peer, hello) == reason


@pytest.mark.parametrize(
    ("known", "source", "changed", "is_refused"),
    [
        ("", "", {}, False),
        ("key@a", "key@a", {}, False),
        ("key@a", "key@b", {}, True),
        ("key@a", "", {}, False),
        ("", "key@a", {}, False),
        ("", "", {"role": Role.CLIENT, "stage": None}, True),
        ("", "", {"stage": FACTS._replace(name="other")}, True),
        ("", "", {"stage": FACTS._replace(batch=7)}, False),
        ("", "", {"host": "another"}, True),
        ("", "", {"pid": 5}, True),
        ("", "", {"parent": 9}, True),
    ],
)
def test_a_number_is_that_of_one_process(
    known: str, source: str, changed: dict[str, Any], is_refused: bool
) -> None:
    session = Session(7, 8, Role.REPLICA, 100)
    session.stage, session.host, session.pid, session.source = FACTS, "h", 3, known
    said = {"role": Role.REPLICA, "stage": FACTS, "host": "h", "pid": 3, **changed}
    hello = Hello(nonce=1, mesh="prod", versions=(VERSION,), **said)
    assert bool(imposture(session, hello, source)) is is_refused
    assert imposture(None, hello, source) == ""


def test_a_supervisor_runs_no_stage_and_is_known_all_the_same() -> None:
    session = Session(7, 8, Role.SUPERVISOR, 100)
    assert imposture(session, Hello(Role.SUPERVISOR, 1, "prod", (VERSION,)), "") == ""


def test_from_one_source_come_so_many() -> None:
    sessions = [a_session() for _ in range(MOST_FROM_ONE_SOURCE)]
    assert crowding("", sessions) == ""
    assert crowding("key@a", sessions) == ""
    for session in sessions:
        session.source = "key@a"
    assert crowding("key@a", sessions).startswith("256 processes are connected with your key")
    assert crowding("key@b", sessions) == ""
    assert crowding("key@a", sessions[1:]) == ""


def test_what_is_said_of_an_expulsion_is_short() -> None:
    assert len(expulsion(1.0, "x" * 500)) == 200


def welcomed_by(role: Role, version: int = VERSION) -> Welcome:
    return Welcome(1, version, role, 0, False, 3.0)


@pytest.mark.parametrize(("speaker", "listener"), list(product(Role, Role)), ids=in_words)
def test_only_those_who_have_a_row_may_say_welcome(speaker: Role, listener: Role) -> None:
    me = Identity(7, listener)
    said = welcome_objection(me, welcomed_by(speaker), None, is_gateways=True)
    assert (said == "") is ((speaker, listener, False) in BY_HAND)


@pytest.mark.parametrize(
    ("welcome", "is_gateways", "objection"),
    [
        (welcomed_by(Role.GATEWAY), True, ""),
        (welcomed_by(Role.REPLICA), False, ""),
        (welcomed_by(Role.GATEWAY), False, "our settings name no gateway at this address"),
        (welcomed_by(Role.REPLICA, VERSION + 1), True, "it speaks version 2, and was told of 1"),
        (welcomed_by(Role.CLIENT), True, "a client has nothing to say to a replica"),
    ],
)
def test_what_welcome_may_say(welcome: Welcome, is_gateways: bool, objection: str) -> None:
    said = welcome_objection(Identity(7, Role.REPLICA), welcome, None, is_gateways=is_gateways)
    assert said.startswith(objection)
    assert bool(said) is bool(objection)


@pytest.mark.parametrize("role", [Role.GATEWAY, Role.REPLICA], ids=in_words)
@pytest.mark.parametrize("bearer", [Role.GATEWAY, Role.REPLICA], ids=in_words)
def test_a_feed_bears_the_number_of_no_other_kind_of_process(bearer: Role, role: Role) -> None:
    known = Session(7, 8, bearer, 100)
    said = welcome_objection(ME, welcomed_by(role), known, is_gateways=True)
    refused = role is Role.REPLICA and bearer is Role.GATEWAY
    assert said == ("another process bears this number" if refused else "")
