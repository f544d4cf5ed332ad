"""The roster: who is there, who is missing and since when, who dials whom."""

from gateway.roster import JOINING, RESTART_GRACE, Roster
from mesh.messages import Peer, Role, StageFacts
from mesh.session import Session

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
