"""The replica registry: who is there, who is missing and since when, who dials whom."""

import pytest

from gateway.requests.releases import FIRST_PAUSE_S, Release
from gateway.requests.replicas import JOIN_LIMIT_S, RESTART_GRACE_S, Replicas, is_later
from mesh.links.session import Session
from mesh.protocol.messages import Peer, Peers, Role, StageFacts
from mesh.protocol.permissions import MAX_PEERS, peers_objection

A, B, C = ("a", "r"), ("b", "r"), ("c", "r")
ROUTES = {"/one": (A, B), "/two": (A, C)}


def replica(number, hop, feed="", **facts):
    session = Session(1, number, Role.REPLICA, 1 << 20, now=0.0)
    session.stage = StageFacts(*hop, batch=4, timeout=1.0, pool=1 << 20, **facts)
    session.feed = feed
    return session


def test_every_stage_is_missing_at_first():
    replicas = Replicas(ROUTES, 5.0)
    assert replicas.missing() == [A, B, C]
    assert replicas.absent(5.0 + RESTART_GRACE_S - 0.1) == []
    assert replicas.absent(5.0 + RESTART_GRACE_S) == [A, B, C]


def test_a_stage_is_there_while_one_replica_is():
    replicas = Replicas(ROUTES, 0.0)
    first, second = replica(11, A), replica(12, A)
    assert replicas.joined(first) == A
    assert replicas.joined(second) == A
    assert replicas.missing() == [B, C]
    assert (replicas.hop_of(first), replicas.hop_of(replica(13, A))) == (A, None)
    assert replicas.left(first, 10.0) == A
    assert replicas.missing() == [B, C]
    assert replicas.left(second, 20.0) == A
    assert replicas.absent(21.0) == [B, C]
    assert replicas.absent(22.0) == [A, B, C]


def test_what_a_replica_said_of_its_stage_does_not_outlive_it():
    replicas = Replicas(ROUTES, 0.0)
    honest, rogue = replica(11, A), replica(12, A, content_type="text/rogue", repeatable=False)
    replicas.joined(honest)
    replicas.joined(rogue)
    assert not replicas.is_repeatable((A,))
    replicas.left(rogue, 1.0)
    assert replicas.facts[A] == honest.stage
    replicas.left(honest, 1.0)
    assert replicas.facts[A] == honest.stage  # it is still the best that is known


def test_who_is_none_of_ours_does_not_count():
    replicas = Replicas(ROUTES, 0.0)
    stranger = replica(11, ("a", "another revision"))
    supervisor = Session(1, 12, Role.SUPERVISOR, 1 << 20, now=0.0)
    for session in stranger, supervisor:
        assert replicas.joined(session) is None
        assert replicas.left(session, 1.0) is None
    assert replicas.missing() == [A, B, C]
    assert replicas.facts == {}


def test_one_whose_facts_are_gone_is_still_taken_off_the_list():
    replicas = Replicas(ROUTES, 0.0)
    one = replica(11, A)
    replicas.joined(one)
    one.stage = None
    assert replicas.left(one, 1.0) is None
    assert replicas.sessions == {}


def test_consumers_dial_the_replicas_of_the_stages_before_theirs():
    replicas = Replicas(ROUTES, 0.0)
    first, shy = replica(11, A, "tcp://h:1"), replica(12, A)
    later, other = replica(13, B, "tcp://h:3"), replica(14, C)
    for session in first, shy, later, other:
        replicas.joined(session)
    version, peers = replicas.peers_for(later)
    assert peers == [Peer("tcp://h:1", 11, Role.REPLICA, *A)]
    assert replicas.peers_for(other)[1] == peers
    assert replicas.peers_for(first)[1] == []
    assert replicas.fed_by(A) == [later, other]
    assert replicas.fed_by(B) == []
    replicas.left(first, 1.0)
    newer, peers = replicas.peers_for(later)
    assert newer > version
    assert peers == []


def crowded(*sources):
    """A roster with so many feeds of the first stage from each source, and whom they feed."""
    replicas, number = Replicas(ROUTES, 0.0), 100
    for source, count in sources:
        for _ in range(count):
            number += 1
            replicas.joined(replica(number, A, f"tcp://h:{number}"))
            replicas.sessions[number].source = source
    later = replica(13, B)
    replicas.joined(later)
    return replicas, later


def test_no_more_feeds_are_named_than_a_gateway_may_name():
    replicas, later = crowded(("rogue@1", 520))
    version, peers = replicas.peers_for(later)
    assert peers_objection(Peers(version, peers)) == ""
    assert [peer.incarnation for peer in peers] == list(range(101, 101 + MAX_PEERS))
    assert replicas.peers_for(later) == (version, peers)


@pytest.mark.parametrize("first", [True, False])
def test_one_source_with_many_feeds_crowds_no_other_out(first):
    honest = [(f"honest@{n}", 40) for n in range(6)]
    rogue = ("rogue@1", 600)
    replicas, later = crowded(*([rogue, *honest] if first else [*honest, rogue]))
    named = {peer.incarnation for peer in replicas.peers_for(later)[1]}
    left_out = [s for s in replicas.feeding(later) if s.peer not in named]
    assert len(named) == MAX_PEERS
    assert {session.source for session in left_out} == {"rogue@1"}


def test_facts_stay_when_the_replica_goes():
    replicas = Replicas(ROUTES, 0.0)
    once = replica(11, B, repeatable=False, content_type="image/png")
    assert replicas.is_repeatable((A, B))
    replicas.joined(once)
    replicas.left(once, 1.0)
    assert replicas.facts[B].content_type == "image/png"
    assert replicas.is_repeatable((A,))
    assert not replicas.is_repeatable((A, B))


def test_replicas_that_feed_each_other_are_waited_for():
    replicas = Replicas(ROUTES, 0.0)
    assert replicas.is_joined(0.0)
    first, shy, later = replica(11, A, "tcp://h:1"), replica(12, A), replica(13, B)
    for session in first, shy, later:
        replicas.joined(session)
    assert not replicas.is_joined(0.0)
    later.owners = frozenset((1, 11))
    assert replicas.is_joined(0.0)
    newest = replica(14, C)
    newest.since = 5.0
    replicas.joined(newest)
    assert not replicas.is_joined(5.0 + JOIN_LIMIT_S - 0.1)
    assert replicas.is_joined(5.0 + JOIN_LIMIT_S)  # it may never be


def test_who_feeds_a_replica_are_those_of_the_stages_before_its_own():
    replicas = Replicas(ROUTES, 0.0)
    first, second, last = replica(11, A), replica(12, A), replica(13, B)
    for session in first, second, last:
        replicas.joined(session)
    assert replicas.feeding(last) == [first, second]
    assert replicas.feeding(first) == []


# --- one revision after another -------------------------------------------------------------------

A2, B2, C2 = ("a", "r2"), ("b", "r2"), ("c", "r2")


def add(replicas, number, hop, version, **more):
    session = replica(number, hop, version=version, **more)
    assert replicas.joined(session) == hop
    return session


def old_and_new():
    """A mesh of version 1 that stands, and two of three stages of version 2."""
    replicas = Replicas(ROUTES, 0.0, version="1")
    for number, hop in enumerate((A, B, C), 11):
        add(replicas, number, hop, "1")
    for number, hop in enumerate((A2, B2), 21):
        add(replicas, number, hop, "2")
    return replicas


def test_the_routes_move_when_all_of_a_later_version_stands():
    replicas = old_and_new()
    assert (replicas.missing(), replicas.is_coming, replicas.successor(9.0)) == ([], True, None)
    last = add(replicas, 23, C2, "2")
    assert replicas.successor(9.0).version == "2"
    replicas.move(last.stage, 9.0)
    assert replicas.routes == {"/one": (A2, B2), "/two": (A2, C2)}
    assert (replicas.version, replicas.is_coming, replicas.successor(9.0)) == ("2", False, None)
    replicas.left(last, 10.0)
    assert (replicas.missing(), replicas.absent(12.0)) == ([C2], [C2])


def test_a_version_that_is_no_later_one_never_takes_over():
    replicas = old_and_new()
    replicas.move(add(replicas, 23, C2, "2").stage, 9.0)
    for number, version in enumerate(("1", "2", ""), 31):
        assert replicas.joined(replica(number, ("a", "r3"), version=version)) is None
    assert not replicas.is_coming


def moved_on():
    """Version 2 has the routes, and all of version 1 stands beside it."""
    replicas = old_and_new()
    for session in replicas.sessions.values():
        session.link = session.peer
    last = add(replicas, 23, C2, "2")
    replicas.move(last.stage, 9.0)
    assert (replicas.is_coming, replicas.refuge()) == (False, None)
    return replicas, last


def test_the_routes_go_back_where_the_successor_has_gone_and_the_former_stands():
    replicas, last = moved_on()
    replicas.left(last, 10.0)
    assert replicas.is_coming
    assert replicas.refuge() == Release("1", "r")
    replicas.move(replicas.refuge(), 10.0)
    assert (replicas.routes, replicas.version) == (ROUTES, "1")
    assert (replicas.missing(), replicas.refuge()) == ([], None)
    add(replicas, 24, C2, "2")  # it is back, and is not believed at once
    assert replicas.is_coming
    assert replicas.successor(10.0 + FIRST_PAUSE_S - 0.1) is None
    assert replicas.successor(10.0 + FIRST_PAUSE_S).version == "2"


def test_they_go_nowhere_where_the_former_is_gone_too_or_about_to():
    replicas, last = moved_on()
    replicas.left(last, 10.0)
    former = next(s for s in replicas.sessions.values() if s.stage[:2] == B)
    former.draining = True
    assert replicas.refuge() is None
    former.draining, former.link = False, None
    assert replicas.refuge() is None
    former.link = 7
    assert replicas.refuge()
    replicas.left(former, 10.0)
    assert replicas.refuge() is None
    assert replicas.is_coming  # it may be back
    again = replica(31, B, version="1")
    again.link = 8
    assert replicas.joined(again) == B
    assert replicas.refuge()


def test_nothing_is_to_be_moved_when_the_successor_is_whole_again():
    replicas, last = moved_on()
    replicas.left(last, 10.0)
    add(replicas, 24, C2, "2")
    assert (replicas.is_coming, replicas.refuge()) == (False, None)


def test_a_stage_that_no_route_knows_is_none_of_ours():
    replicas = old_and_new()
    assert replicas.joined(replica(31, ("z", "r2"), version="2")) is None


def test_a_version_with_other_routes_is_none_of_ours():
    replicas = old_and_new()
    replicas.routes_name = "ab"
    assert replicas.joined(replica(31, ("a", "r3"), version="3", routes="abc")) is None
    assert replicas.joined(replica(32, ("a", "r4"), version="4", routes="ab")) == ("a", "r4")


def test_the_latest_that_stands_is_followed():
    replicas = old_and_new()
    add(replicas, 23, C2, "2")
    add(replicas, 24, ("a", "r3"), "3")
    assert replicas.successor(9.0).version == "2"
    for number, stage in enumerate("bc", 25):
        add(replicas, number, (stage, "r3"), "3")
    assert replicas.successor(9.0).version == "3"


def test_it_is_no_longer_coming_when_the_last_of_it_went():
    replicas = old_and_new()
    first, second = (s for s in replicas.sessions.values() if s.stage.version == "2")
    replicas.left(first, 1.0)
    assert replicas.is_coming
    assert replicas.left(second, 1.0) == B2
    assert not replicas.is_coming


def test_the_routes_wait_until_those_that_feed_each_other_have_met():
    replicas = old_and_new()
    first, second = (s for s in replicas.sessions.values() if s.stage.version == "2")
    first.feed = "tcp://h:1"
    last = add(replicas, 23, C2, "2")
    second.owners = last.owners = frozenset((1,))
    assert replicas.is_joined(0.5)  # of the old ones none has a feed
    assert replicas.successor(0.5) is None
    second.owners = last.owners = frozenset((1, first.peer))
    assert replicas.successor(0.5).version == "2"


def test_replicas_dial_only_those_of_their_own_revision():
    replicas = old_and_new()
    old, new = (s for s in replicas.sessions.values() if s.stage.name == "a")
    old.feed, new.feed = "tcp://h:1", "tcp://h:2"
    for hop, feed in (B, old), (B2, new):
        (consumer,) = (s for s in replicas.sessions.values() if s.stage[:2] == hop)
        assert [peer.incarnation for peer in replicas.peers_for(consumer)[1]] == [feed.peer]
        assert consumer in replicas.fed_by(feed.stage[:2])


LATER = "1>0 1>x 10>9 1.10>1.9 2026-11-27>2026-3-01 v2>v1 a1>a 007>6 1b>1a".split()


@pytest.mark.parametrize("pair", [*LATER, "1>", f"{'9' * 5000}>{'1' * 5000}"])
def test_a_later_version(pair):
    version, _, other = pair.partition(">")
    assert is_later(version, other)
    assert not is_later(other, version)


@pytest.mark.parametrize(("version", "other"), [("", ""), ("2", "2"), ("02", "2")])
def test_neither_is_later(version, other):
    assert not is_later(version, other)
    assert not is_later(other, version)
