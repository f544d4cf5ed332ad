"""The roster: who is there, who is missing and since when, who dials whom."""

import pytest

from gateway.requests.releases import FIRST_S, Release
from gateway.requests.replicas import JOINING, RESTART_GRACE, Roster, is_later
from mesh.links.session import Session
from mesh.protocol.messages import Peer, Peers, Role, StageFacts
from mesh.protocol.permissions import MOST_PEERS, peers_objection

A, B, C = ("a", "r"), ("b", "r"), ("c", "r")
ROUTES = {"/one": (A, B), "/two": (A, C)}


def replica(number, hop, feed="", **facts):
    session = Session(1, number, Role.REPLICA, 1 << 20, now=0.0)
    session.stage = StageFacts(*hop, batch=4, timeout=1.0, pool=1 << 20, **facts)
    session.feed = feed
    return session


def test_every_stage_is_missing_at_first():
    roster = Roster(ROUTES, 5.0)
    assert roster.missing() == [A, B, C]
    assert roster.absent(5.0 + RESTART_GRACE - 0.1) == []
    assert roster.absent(5.0 + RESTART_GRACE) == [A, B, C]


def test_a_stage_is_there_while_one_replica_is():
    roster = Roster(ROUTES, 0.0)
    first, second = replica(11, A), replica(12, A)
    assert roster.joined(first) == A
    assert roster.joined(second) == A
    assert roster.missing() == [B, C]
    assert (roster.hop_of(first), roster.hop_of(replica(13, A))) == (A, None)
    assert roster.left(first, 10.0) == A
    assert roster.missing() == [B, C]
    assert roster.left(second, 20.0) == A
    assert roster.absent(21.0) == [B, C]
    assert roster.absent(22.0) == [A, B, C]


def test_what_a_replica_said_of_its_stage_does_not_outlive_it():
    roster = Roster(ROUTES, 0.0)
    honest, rogue = replica(11, A), replica(12, A, mime="text/rogue", repeatable=False)
    roster.joined(honest)
    roster.joined(rogue)
    assert not roster.is_repeatable((A,))
    roster.left(rogue, 1.0)
    assert roster.facts[A] == honest.stage
    roster.left(honest, 1.0)
    assert roster.facts[A] == honest.stage  # it is still the best that is known


def test_who_is_none_of_ours_does_not_count():
    roster = Roster(ROUTES, 0.0)
    stranger = replica(11, ("a", "another revision"))
    supervisor = Session(1, 12, Role.SUPERVISOR, 1 << 20, now=0.0)
    for session in stranger, supervisor:
        assert roster.joined(session) is None
        assert roster.left(session, 1.0) is None
    assert roster.missing() == [A, B, C]
    assert roster.facts == {}


def test_one_whose_facts_are_gone_is_still_taken_off_the_list():
    roster = Roster(ROUTES, 0.0)
    one = replica(11, A)
    roster.joined(one)
    one.stage = None
    assert roster.left(one, 1.0) is None
    assert roster.sessions == {}


def test_consumers_dial_the_replicas_of_the_stages_before_theirs():
    roster = Roster(ROUTES, 0.0)
    first, shy = replica(11, A, "tcp://h:1"), replica(12, A)
    later, other = replica(13, B, "tcp://h:3"), replica(14, C)
    for session in first, shy, later, other:
        roster.joined(session)
    version, peers = roster.peers_for(later)
    assert peers == [Peer("tcp://h:1", 11, Role.REPLICA, *A)]
    assert roster.peers_for(other)[1] == peers
    assert roster.peers_for(first)[1] == []
    assert roster.fed_by(A) == [later, other]
    assert roster.fed_by(B) == []
    roster.left(first, 1.0)
    newer, peers = roster.peers_for(later)
    assert newer > version
    assert peers == []


def crowded(*sources):
    """A roster with so many feeds of the first stage from each source, and whom they feed."""
    roster, number = Roster(ROUTES, 0.0), 100
    for source, count in sources:
        for _ in range(count):
            number += 1
            roster.joined(replica(number, A, f"tcp://h:{number}"))
            roster.sessions[number].source = source
    later = replica(13, B)
    roster.joined(later)
    return roster, later


def test_no_more_feeds_are_named_than_a_gateway_may_name():
    roster, later = crowded(("rogue@1", 520))
    version, peers = roster.peers_for(later)
    assert peers_objection(Peers(version, peers)) == ""
    assert [peer.incarnation for peer in peers] == list(range(101, 101 + MOST_PEERS))
    assert roster.peers_for(later) == (version, peers)


@pytest.mark.parametrize("first", [True, False])
def test_one_source_with_many_feeds_crowds_no_other_out(first):
    honest = [(f"honest@{n}", 40) for n in range(6)]
    rogue = ("rogue@1", 600)
    roster, later = crowded(*([rogue, *honest] if first else [*honest, rogue]))
    named = {peer.incarnation for peer in roster.peers_for(later)[1]}
    left_out = [s for s in roster.feeding(later) if s.peer not in named]
    assert len(named) == MOST_PEERS
    assert {session.source for session in left_out} == {"rogue@1"}


def test_facts_stay_when_the_replica_goes():
    roster = Roster(ROUTES, 0.0)
    once = replica(11, B, repeatable=False, mime="image/png")
    assert roster.is_repeatable((A, B))
    roster.joined(once)
    roster.left(once, 1.0)
    assert roster.facts[B].mime == "image/png"
    assert roster.is_repeatable((A,))
    assert not roster.is_repeatable((A, B))


def test_replicas_that_feed_each_other_are_waited_for():
    roster = Roster(ROUTES, 0.0)
    assert roster.is_joined(0.0)
    first, shy, later = replica(11, A, "tcp://h:1"), replica(12, A), replica(13, B)
    for session in first, shy, later:
        roster.joined(session)
    assert not roster.is_joined(0.0)
    later.owners = (1, 11)
    assert roster.is_joined(0.0)
    newest = replica(14, C)
    newest.since = 5.0
    roster.joined(newest)
    assert not roster.is_joined(5.0 + JOINING - 0.1)
    assert roster.is_joined(5.0 + JOINING)  # it may never be


def test_who_feeds_a_replica_are_those_of_the_stages_before_its_own():
    roster = Roster(ROUTES, 0.0)
    first, second, last = replica(11, A), replica(12, A), replica(13, B)
    for session in first, second, last:
        roster.joined(session)
    assert roster.feeding(last) == [first, second]
    assert roster.feeding(first) == []


# --- one revision after another -------------------------------------------------------------------

A2, B2, C2 = ("a", "r2"), ("b", "r2"), ("c", "r2")


def add(roster, number, hop, version, **more):
    session = replica(number, hop, version=version, **more)
    assert roster.joined(session) == hop
    return session


def old_and_new():
    """A mesh of version 1 that stands, and two of three stages of version 2."""
    roster = Roster(ROUTES, 0.0, version="1")
    for number, hop in enumerate((A, B, C), 11):
        add(roster, number, hop, "1")
    for number, hop in enumerate((A2, B2), 21):
        add(roster, number, hop, "2")
    return roster


def test_the_routes_move_when_all_of_a_later_version_stands():
    roster = old_and_new()
    assert (roster.missing(), roster.is_coming, roster.successor(9.0)) == ([], True, None)
    last = add(roster, 23, C2, "2")
    assert roster.successor(9.0).version == "2"
    roster.move(last.stage, 9.0)
    assert roster.routes == {"/one": (A2, B2), "/two": (A2, C2)}
    assert (roster.version, roster.is_coming, roster.successor(9.0)) == ("2", False, None)
    roster.left(last, 10.0)
    assert (roster.missing(), roster.absent(12.0)) == ([C2], [C2])


def test_a_version_that_is_no_later_one_never_takes_over():
    roster = old_and_new()
    roster.move(add(roster, 23, C2, "2").stage, 9.0)
    for number, version in enumerate(("1", "2", ""), 31):
        assert roster.joined(replica(number, ("a", "r3"), version=version)) is None
    assert not roster.is_coming


def moved_on():
    """Version 2 has the routes, and all of version 1 stands beside it."""
    roster = old_and_new()
    for session in roster.sessions.values():
        session.link = session.peer
    last = add(roster, 23, C2, "2")
    roster.move(last.stage, 9.0)
    assert (roster.is_coming, roster.refuge()) == (False, None)
    return roster, last


def test_the_routes_go_back_where_the_successor_has_gone_and_the_former_stands():
    roster, last = moved_on()
    roster.left(last, 10.0)
    assert roster.is_coming
    assert roster.refuge() == Release("1", "r")
    roster.move(roster.refuge(), 10.0)
    assert (roster.routes, roster.version) == (ROUTES, "1")
    assert (roster.missing(), roster.refuge()) == ([], None)
    add(roster, 24, C2, "2")  # it is back, and is not believed at once
    assert roster.is_coming
    assert roster.successor(10.0 + FIRST_S - 0.1) is None
    assert roster.successor(10.0 + FIRST_S).version == "2"


def test_they_go_nowhere_where_the_former_is_gone_too_or_about_to():
    roster, last = moved_on()
    roster.left(last, 10.0)
    former = next(s for s in roster.sessions.values() if s.stage[:2] == B)
    former.draining = True
    assert roster.refuge() is None
    former.draining, former.link = False, None
    assert roster.refuge() is None
    former.link = 7
    assert roster.refuge()
    roster.left(former, 10.0)
    assert roster.refuge() is None
    assert roster.is_coming  # it may be back
    again = replica(31, B, version="1")
    again.link = 8
    assert roster.joined(again) == B
    assert roster.refuge()


def test_nothing_is_to_be_moved_when_the_successor_is_whole_again():
    roster, last = moved_on()
    roster.left(last, 10.0)
    add(roster, 24, C2, "2")
    assert (roster.is_coming, roster.refuge()) == (False, None)


def test_a_stage_that_no_route_knows_is_none_of_ours():
    roster = old_and_new()
    assert roster.joined(replica(31, ("z", "r2"), version="2")) is None


def test_a_version_with_other_routes_is_none_of_ours():
    roster = old_and_new()
    roster.routes_name = "ab"
    assert roster.joined(replica(31, ("a", "r3"), version="3", routes="abc")) is None
    assert roster.joined(replica(32, ("a", "r4"), version="4", routes="ab")) == ("a", "r4")


def test_the_latest_that_stands_is_followed():
    roster = old_and_new()
    add(roster, 23, C2, "2")
    add(roster, 24, ("a", "r3"), "3")
    assert roster.successor(9.0).version == "2"
    for number, stage in enumerate("bc", 25):
        add(roster, number, (stage, "r3"), "3")
    assert roster.successor(9.0).version == "3"


def test_it_is_no_longer_coming_when_the_last_of_it_went():
    roster = old_and_new()
    first, second = (s for s in roster.sessions.values() if s.stage.version == "2")
    roster.left(first, 1.0)
    assert roster.is_coming
    assert roster.left(second, 1.0) == B2
    assert not roster.is_coming


def test_the_routes_wait_until_those_that_feed_each_other_have_met():
    roster = old_and_new()
    first, second = (s for s in roster.sessions.values() if s.stage.version == "2")
    first.feed = "tcp://h:1"
    last = add(roster, 23, C2, "2")
    second.owners = last.owners = (1,)
    assert roster.is_joined(0.5)  # of the old ones none has a feed
    assert roster.successor(0.5) is None
    second.owners = last.owners = (1, first.peer)
    assert roster.successor(0.5).version == "2"


def test_replicas_dial_only_those_of_their_own_revision():
    roster = old_and_new()
    old, new = (s for s in roster.sessions.values() if s.stage.name == "a")
    old.feed, new.feed = "tcp://h:1", "tcp://h:2"
    for hop, feed in (B, old), (B2, new):
        (consumer,) = (s for s in roster.sessions.values() if s.stage[:2] == hop)
        assert [peer.incarnation for peer in roster.peers_for(consumer)[1]] == [feed.peer]
        assert consumer in roster.fed_by(feed.stage[:2])


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
