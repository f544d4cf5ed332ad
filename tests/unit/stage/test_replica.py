"""A replica's decisions, one by one. Whole pipelines are in tests/simulation."""

import pytest

from mesh.links.dialer import HELLO_LIMIT_S
from mesh.links.events import (
    Delivery,
    Dial,
    Identity,
    MessageReceived,
    MessageRefused,
    SessionLost,
    SessionSilent,
    SessionStarted,
)
from mesh.links.links import Links
from mesh.links.session import Session
from mesh.protocol.messages import (
    Cancel,
    HandoffNotice,
    Outcome,
    OutcomeKind,
    Outcomes,
    Peer,
    Peers,
    Ping,
    Role,
    StageFacts,
    Task,
    Tasks,
)
from stage.batching.batcher import Batcher
from stage.batching.estimates import LONG_FORWARD_S
from stage.replica import Replica
from stage.reporting import NEVER, NOTICE_DELAY_S

A, B = ("a", ""), ("b", "")
ME, OWNER, NEXT = 9, 1, 2
POOL = 1 << 20


class ReplicaRig:
    """A replica of stage a, its gateway and, if asked for, a replica of stage b."""

    def __init__(self, batch=4, follower=False, repeatable=True, feed_credit=10):
        facts = StageFacts(*A, batch=batch, timeout=3.0, pool=POOL, repeatable=repeatable)
        self.links = Links(Identity(ME, Role.REPLICA, stage=facts), lambda: 0.5)
        batcher = Batcher(batch, 0.0, POOL, repeatable=repeatable)
        self.replica = Replica(self.links, facts, batcher, ["tcp://g:1"], 0.0)
        self.gateway = self.meet(OWNER, Role.GATEWAY)
        self.next = None
        if follower:
            self.next = self.meet(NEXT, Role.REPLICA, StageFacts(*B, 4, 3.0, POOL))
            self.next.stream.granted.tasks, self.next.stream.granted.nbytes = feed_credit, POOL

    def meet(self, peer, role, stage=None):
        session = Session(ME, peer, role, POOL, now=0.0)
        session.link, session.stage, session.owners = peer, stage, frozenset((OWNER,))
        self.links.sessions[peer] = session
        self.replica.handle_news(SessionStarted(session, False), 0.0)
        return session

    def take(self, *numbers, hops=(A,), hop=0, deadline=90.0, now=0.0):
        tasks = [Task(OWNER, n, hops, hop, 1, deadline, [b"xy"], 2) for n in numbers]
        self.gateway.stream.allowed.used_tasks += len(tasks)
        self.replica.delivered(Delivery(self.gateway, (), Tasks(tasks)), now)
        return tasks

    def outcomes(self, now=0.0):
        self.replica.advance(now)
        messages = [m for m in self.gateway.stream.unacked() if type(m) is Outcomes]
        return [outcome for message in messages for outcome in message.outcomes]

    def compute(self, now=0.0, seconds=0.001):
        """Run the next batch; what has further to go goes on."""
        batch = self.replica.next_batch(now)
        results = [
            forwarding(task) if task.hops[1:] else Outcome(task.number, 1, OutcomeKind.RESULT)
            for task in batch.tasks
        ]
        self.replica.finished(results, seconds)
        return batch


def forwarding(task, buffers=(b"out",)):
    nbytes = sum(map(len, buffers))
    return Task(OWNER, task.number, task.hops[1:], task.hop + 1, 1, 90.0, list(buffers), nbytes)


def kinds(outcomes):
    return [(outcome.number, outcome.kind) for outcome in outcomes]


def test_it_dials_its_gateways_and_grants_a_batch():
    rig = ReplicaRig()
    rig.links.tick(0.0)
    assert [order.address for order in rig.links.take() if type(order) is Dial] == ["tcp://g:1"]
    rig.replica.advance(0.0)
    assert rig.gateway.stream.allowed.tasks == 4


def test_a_batch_is_computed_and_answered():
    rig = ReplicaRig()
    assert rig.replica.next_batch(0.0) is None
    rig.take(1, 2)
    assert rig.replica.next_due() <= 0.0
    assert rig.links.load(0.0) == (2, 0, 3000)
    batch = rig.replica.next_batch(0.0)
    assert rig.replica.next_batch(0.0) is None
    assert rig.links.load(0.5) == (0, 500, 3000)
    assert rig.replica.next_due() == NEVER
    results = [
        Outcome(task.number, 1, OutcomeKind.RESULT, buffers=[b"abc"]) for task in batch.tasks
    ]
    rig.replica.finished(results, 0.5)
    rig.replica.advance(1.0)
    (bundle,) = rig.gateway.stream.unacked()
    assert kinds(bundle.outcomes) == [(1, OutcomeKind.RESULT), (2, OutcomeKind.RESULT)]
    (stats,) = bundle.stats
    assert (stats.stage, stats.size, stats.compute) == ("a", 2, 500_000)
    assert stats.nbytes == 6
    assert len(rig.replica.held) == 0


def test_stats_tell_what_was_dropped():
    rig = ReplicaRig()
    rig.take(1, deadline=0.5)
    rig.take(2, 3)
    rig.replica.cancel([(OWNER, 2)])
    batch = rig.replica.next_batch(1.0)
    assert [task.number for task in batch.tasks] == [3]
    rig.replica.finished([Outcome(3, 1, OutcomeKind.RESULT)], 0.1)
    rig.replica.advance(1.0 + NOTICE_DELAY_S)
    (bundle,) = rig.gateway.stream.unacked()
    assert (bundle.stats[0].expired, bundle.stats[0].cancelled) == (1, 1)
    assert len(rig.replica.held) == 0


def test_outputs_go_straight_on_and_a_note_follows_the_ack():
    rig = ReplicaRig(follower=True)
    rig.take(1, hops=(A, B))
    rig.compute()
    assert rig.outcomes() == []
    assert (rig.replica.held.tasks, len(rig.replica.held)) == (0, 1)
    covered = rig.next.stream.unacked()
    assert [task.number for task in covered[0].tasks] == [1]
    rig.replica.delivered(Delivery(rig.next, [*covered, Cancel(OWNER, [])], None), 1.0)
    assert rig.replica.held.tasks == 0
    rig.replica.advance(1.0)  # the figures, which waited for as long; a note rides with anything
    assert rig.gateway.stream.unacked()[0].notices == [HandoffNotice(1, 1, 1, NEXT)]


def test_what_a_gateway_acks_needs_no_note():
    rig = ReplicaRig()
    rig.replica.delivered(Delivery(rig.gateway, [Outcomes()], None), 1.0)
    assert rig.replica.next_due() == NEVER


def test_without_a_way_on_an_output_is_handed_back():
    rig = ReplicaRig()
    rig.take(1, hops=(A, B))
    rig.compute()
    (outcome,) = rig.outcomes()
    assert (outcome.kind, outcome.hop, outcome.buffers) == (OutcomeKind.HANDBACK, 1, [b"out"])
    assert rig.replica.held.tasks == 0


def test_outputs_that_are_stuck_or_expired_do_not_stay():
    rig = ReplicaRig(follower=True, feed_credit=0)
    rig.take(1, 2, hops=(A, B))
    batch = rig.replica.next_batch(0.0)
    outputs = [forwarding(task) for task in batch.tasks]
    outputs[0].deadline = 0.5
    rig.replica.finished(outputs, 0.1)
    assert rig.outcomes(0.4) == []
    assert rig.replica.next_due() == 1.4
    assert rig.outcomes(0.6) == []
    assert kinds(rig.outcomes(1.4)) == [(2, OutcomeKind.HANDBACK)]
    assert rig.replica.held.tasks == 0


@pytest.mark.parametrize("follower", [True, False])
def test_an_output_that_no_message_can_carry_fails(follower):
    rig = ReplicaRig(follower=follower)
    (task,) = rig.take(1, hops=(A, B))
    rig.replica.next_batch(0.0)
    rig.replica.finished([forwarding(task, [b"x"] * 300)], 0.1)
    (outcome,) = rig.outcomes()
    assert (outcome.kind, outcome.label, outcome.hop) == (OutcomeKind.FAILURE, "encoding_error", 0)
    assert "300 buffers" in outcome.text
    assert rig.replica.held.tasks == 0


def test_what_the_next_stage_could_not_read_fails():
    rig = ReplicaRig(follower=True)
    rig.take(1, hops=(A, B))
    rig.compute()
    rig.outcomes()
    (message,) = rig.next.stream.unacked()
    rig.replica.handle_news(MessageRefused(rig.next, message, "too odd"), 0.0)
    (outcome,) = rig.outcomes()
    assert (outcome.label, outcome.text) == (
        "encoding_error",
        "the result cannot be sent on: too odd",
    )
    assert rig.replica.held.tasks == 0


def test_a_result_that_cannot_be_sent_becomes_a_failure():
    rig = ReplicaRig()
    result = Outcome(1, 1, OutcomeKind.RESULT, 0)
    rig.replica.handle_news(MessageRefused(rig.gateway, Outcomes([result]), "too odd"), 0.0)
    (outcome,) = rig.outcomes()
    assert (outcome.kind, outcome.text) == (
        OutcomeKind.FAILURE,
        "the result cannot be sent: too odd",
    )
    rig.replica.handle_news(MessageRefused(rig.gateway, Outcomes([outcome]), "still"), 0.0)
    assert rig.outcomes() == []
    rig.replica.handle_news(MessageRefused(rig.gateway, Cancel(OWNER, []), "never mind"), 0.0)
    assert rig.outcomes() == []


def test_a_cancel_takes_tasks_and_outputs_out():
    rig = ReplicaRig(follower=True, feed_credit=0)
    rig.take(1, hops=(A, B))
    rig.compute()
    rig.take(2)
    rig.replica.delivered(Delivery(rig.gateway, (), Cancel(OWNER, [1, 2, 3])), 0.0)
    assert (len(rig.replica.batcher), len(rig.replica.forwarding)) == (0, 0)
    assert rig.replica.held.tasks == 0


def test_a_lost_consumers_tasks_go_elsewhere():
    rig = ReplicaRig(follower=True)
    rig.take(1, hops=(A, B))
    rig.compute()
    rig.outcomes()
    del rig.links.sessions[NEXT]
    rig.next.link = None
    rig.next.stream.post(Cancel(OWNER, []))
    rig.replica.handle_news(SessionLost(rig.next, "gone"), 0.0)
    assert kinds(rig.outcomes()) == [(1, OutcomeKind.HANDBACK)]
    assert rig.replica.held.tasks == 0


def test_an_output_that_a_second_consumer_is_lost_with_goes_by_its_owner():
    rig = ReplicaRig(follower=True)
    facts = StageFacts(*B, 4, 3.0, POOL)
    others = [rig.meet(peer, Role.REPLICA, facts) for peer in (NEXT + 1, NEXT + 2)]
    for session in others:
        session.stream.granted.tasks, session.stream.granted.nbytes = 10, POOL
    rig.take(1, hops=(A, B))
    rig.compute()
    assert rig.outcomes() == []
    left = [rig.next, *others]  # nobody has acked it
    for expected in ([], [(1, OutcomeKind.HANDBACK)]):
        (holder,) = [one for one in left if any(type(m) is Tasks for m in one.stream.pending())]
        left.remove(holder)
        del rig.links.sessions[holder.peer]
        holder.link = None
        rig.replica.handle_news(SessionLost(holder, "gone"), 0.0)
        assert kinds(rig.outcomes()) == expected
    assert rig.replica.held.tasks == 0


def test_a_lost_gateway_is_forgotten():
    rig = ReplicaRig(follower=True, feed_credit=0)
    rig.take(1, hops=(A, B))
    rig.compute()
    del rig.links.sessions[OWNER]
    rig.replica.handle_news(SessionLost(rig.gateway, "gone"), 0.0)
    assert (len(rig.replica.reporting), len(rig.replica.forwarding), len(rig.replica.held)) == (
        0,
        0,
        0,
    )


def test_a_gateway_that_met_us_anew_still_wants_what_is_its():
    rig = ReplicaRig(follower=True, feed_credit=0)
    rig.take(1, hops=(A, B))
    rig.compute()
    old = rig.gateway
    old.link = None
    rig.gateway = rig.meet(OWNER, Role.GATEWAY)
    rig.replica.handle_news(SessionLost(old, "it has forgotten us"), 0.0)
    rig.next.stream.granted.tasks = 1
    rig.outcomes()
    assert [task.number for task in rig.next.stream.unacked()[0].tasks] == [1]


def test_a_producer_that_is_gone_has_no_share_of_the_credit():
    rig = ReplicaRig()
    other = rig.meet(3, Role.GATEWAY)
    rig.replica.advance(0.0)
    assert (rig.gateway.stream.allowed.nbytes, other.stream.allowed.nbytes) == (
        POOL // 2,
        POOL // 2,
    )
    other.link = None
    rig.take(1)
    rig.compute()
    rig.outcomes(1.0)
    rig.outcomes(2.0)
    assert rig.gateway.stream.allowed.nbytes >= POOL


def addresses(rig):
    rig.links.tick(9.0)
    return {order.address for order in rig.links.take() if type(order) is Dial}


def test_it_dials_whom_any_gateway_names():
    rig = ReplicaRig()
    first = Peers(2, [Peer("tcp://b:1", 5, Role.REPLICA, *B)])
    rig.replica.delivered(Delivery(rig.gateway, (), first), 9.0)
    rig.replica.delivered(Delivery(rig.gateway, (), Peers(1, [])), 9.0)
    assert addresses(rig) == {"tcp://g:1", "tcp://b:1"}
    rig.replica.know_gateways(["tcp://g:1", "tcp://g:2"], 9.0)
    assert addresses(rig) == {"tcp://g:2"}


def test_no_gateway_that_names_many_crowds_out_what_another_names():
    rig = ReplicaRig()
    rig.links.most_named = 6
    other = Session(rig.links.me, 77, Role.GATEWAY, 100)
    many = Peers(1, [Peer(f"tcp://rogue:{n}", 5, Role.REPLICA, *B) for n in range(500)])
    few = Peers(1, [Peer(f"tcp://b:{n}", 5, Role.REPLICA, *B) for n in range(3)])
    rig.replica.delivered(Delivery(other, (), many), 9.0)
    rig.replica.delivered(Delivery(rig.gateway, (), few), 9.0)
    dialled = addresses(rig)
    assert dialled.issuperset({"tcp://g:1", "tcp://b:0", "tcp://b:1", "tcp://b:2"})
    assert len(dialled) == 7


def test_other_messages_mean_nothing_to_it():
    rig = ReplicaRig()
    rig.replica.delivered(Delivery(rig.gateway, (), Ping(1)), 0.0)
    assert rig.outcomes() == []


# --- giving back ---------------------------------------------------------------------------------


def test_it_is_pressed_while_outputs_wait_or_something_large_is_under_way():
    rig = ReplicaRig(follower=True, feed_credit=0)
    assert not rig.replica.is_pressed()
    rig.take(1, hops=(A, B))
    rig.compute()
    assert rig.replica.is_pressed()
    rig.next.stream.granted.tasks = 1
    rig.replica.advance(0.0)
    assert not rig.replica.is_pressed()
    rig.gateway.stream.post(
        Outcomes([Outcome(2, 1, OutcomeKind.RESULT, buffers=[bytes(1 << 22)])]), 1 << 22
    )
    assert rig.replica.is_pressed()


def test_it_is_pressed_while_it_drains():
    rig = ReplicaRig()
    rig.replica.drain(0.0)
    assert rig.replica.is_pressed()


def test_what_waits_behind_a_long_forward_is_given_back():
    rig = ReplicaRig(batch=1)
    rig.take(*range(1, 7))
    rig.replica.next_batch(0.0)
    rig.replica.relieve(LONG_FORWARD_S / 2)
    assert rig.outcomes() == []
    rig.replica.relieve(LONG_FORWARD_S)
    assert kinds(rig.outcomes()) == [(n, OutcomeKind.UNSTARTED) for n in (4, 5, 6)]
    rig.replica.relieve(2 * LONG_FORWARD_S)
    assert rig.outcomes() == []


def test_after_a_give_back_nothing_is_granted_until_the_forward_ends():
    rig = ReplicaRig(batch=1)
    rig.replica.advance(0.0)
    granted = rig.gateway.stream.allowed.tasks
    rig.take(1)
    rig.replica.next_batch(0.0)
    rig.take(*range(2, 7))
    rig.replica.relieve(LONG_FORWARD_S)
    rig.replica.advance(LONG_FORWARD_S)
    rig.replica.advance(1.0)
    assert (rig.gateway.stream.allowed.tasks, rig.replica.next_due()) == (granted, NEVER)
    rig.gateway.stream.allowed.tasks = granted = 100  # it had far more left
    rig.replica.finished([Outcome(1, 1, OutcomeKind.RESULT)], 1.0)
    rig.replica.advance(1.0)
    assert rig.gateway.stream.allowed.tasks == granted + 1
    rig.compute(1.0)
    rig.replica.advance(1.1)
    assert rig.gateway.stream.allowed.tasks == granted + 1


def test_credit_for_short_forwards_is_not_given_during_a_long_one():
    rig = ReplicaRig(batch=1)
    for n in range(8):
        rig.take(n)
        rig.compute(seconds=1e-6)
    assert rig.replica.batcher.window == 64
    rig.take(9)
    rig.replica.next_batch(0.0)
    rig.replica.relieve(LONG_FORWARD_S)
    rig.replica.advance(LONG_FORWARD_S)
    assert rig.gateway.stream.allowed.tasks - rig.gateway.stream.allowed.used_tasks == 1
    rig.replica.finished([Outcome(9, 1, OutcomeKind.RESULT)], 1.0)
    rig.replica.advance(1.0)
    assert rig.gateway.stream.allowed.tasks - rig.gateway.stream.allowed.used_tasks == 128


def test_a_stage_that_must_not_run_twice_keeps_what_it_has():
    rig = ReplicaRig(batch=1, repeatable=False)
    rig.take(*range(1, 7))
    rig.replica.next_batch(0.0)
    rig.replica.relieve(LONG_FORWARD_S)
    assert rig.outcomes() == []


def bundle(rig, count):
    """Let the next batch be of so many single tasks."""
    for n in range(8):
        rig.take(n)
        rig.compute(seconds=1e-6)
    rig.outcomes()
    tasks = rig.take(*range(11, 11 + count))
    assert len(rig.replica.next_batch(0.0).tasks) == count
    return tasks


def test_a_bundle_that_turns_out_slow_is_cut_short():
    rig = ReplicaRig(batch=1)
    tasks = bundle(rig, 6)
    rig.replica.cancel([(OWNER, 15), (OWNER, 12)])
    results = [Outcome(task.number, 1, OutcomeKind.RESULT) for task in tasks]
    rig.replica.cut_short(results[:2], 0.001, tasks[3:])
    assert kinds(rig.outcomes()) == [(11, OutcomeKind.RESULT), (12, OutcomeKind.RESULT)]
    assert [task.number for task in rig.replica.running.tasks] == [13]
    assert rig.replica.running.waited == 0.001
    assert len(rig.replica.batcher) == 2  # 15 is not wanted any more
    assert rig.replica.held.tasks == 3
    assert rig.links.load(1.5) == (2, 1499, 3000)
    rig.replica.finished(results[2:3], 1.0)
    rig.replica.advance(1.1)
    (message,) = rig.gateway.stream.unacked()
    last = message.stats[-2:]
    assert [(each.size, each.compute) for each in last] == [(2, 1000), (1, 1_000_000)]
    assert [task.number for task in rig.replica.next_batch(1.1).tasks] == [14, 16]


def test_the_rest_of_a_bundle_that_was_not_begun_waits_from_when_it_came():
    rig = ReplicaRig(batch=1)
    tasks = bundle(rig, 3)
    rig.take(20, now=0.1)
    rig.replica.cut_short([], 0.0, tasks[1:])
    rig.replica.finished([Outcome(11, 1, OutcomeKind.RESULT)], 0.5)
    assert [task.number for task in rig.replica.next_batch(0.5).tasks] == [12, 13, 20]
    assert rig.replica.running.waited == 0.5


def test_a_bundle_is_cut_short_while_draining():
    rig = ReplicaRig(batch=1)
    tasks = bundle(rig, 3)
    rig.replica.drain(0.0)
    rig.replica.cut_short([], 0.0, tasks[1:])
    assert kinds(rig.outcomes()) == [(12, OutcomeKind.UNSTARTED), (13, OutcomeKind.UNSTARTED)]


def test_a_drain_gives_back_what_waits_and_asks_for_no_more():
    rig = ReplicaRig(follower=True)
    rig.take(1, 2, 3, 4)
    rig.take(5, hop=0)
    rig.take(6, hop=1)
    rig.replica.next_batch(0.0)
    rig.replica.drain(0.0)
    assert kinds(rig.outcomes()) == [(5, OutcomeKind.UNSTARTED), (6, OutcomeKind.HANDBACK)]
    assert rig.gateway.draining
    assert not rig.next.draining  # outputs still go there
    granted = rig.gateway.stream.allowed.tasks
    rig.take(7)
    assert kinds(rig.outcomes()) == [(7, OutcomeKind.UNSTARTED)]
    assert rig.gateway.stream.allowed.tasks == granted
    assert rig.meet(3, Role.GATEWAY).draining


def test_it_is_done_when_nothing_is_left_and_nobody_will_send():
    rig = ReplicaRig(follower=True)
    rig.take(1, hops=(A, B))
    rig.replica.drain(0.0)
    assert not rig.replica.is_done()  # what was given back has not left
    rig.outcomes()
    assert not rig.replica.is_done()  # the gateway has not answered DRAIN
    rig.gateway.last = 0
    assert rig.replica.is_done()
    rig.next.stream.post(Cancel(OWNER, []))
    assert not rig.replica.is_done()
    rig.next.stream.unacked()
    assert rig.replica.is_done()


def test_notes_are_hurried_home_before_the_end():
    rig = ReplicaRig(follower=True)
    rig.take(1, hops=(A, B))
    rig.compute()
    rig.outcomes()
    rig.replica.drain(1.0)
    rig.gateway.last = 0
    covered = rig.next.stream.unacked()
    rig.replica.delivered(Delivery(rig.next, covered, None), 1.0)
    assert not rig.replica.is_done()
    rig.replica.advance(1.0)
    assert rig.gateway.stream.unacked()[0].notices == [HandoffNotice(1, 1, 1, NEXT)]
    assert rig.replica.is_done()


def test_a_running_batch_is_waited_for():
    rig = ReplicaRig()
    rig.take(1)
    rig.replica.next_batch(0.0)
    rig.replica.drain(0.0)
    rig.gateway.last = 0
    assert not rig.replica.is_done()
    rig.replica.finished([Outcome(1, 1, OutcomeKind.RESULT)], 0.1)
    rig.outcomes()
    assert rig.replica.is_done()


def test_it_says_goodbye_to_everybody():
    rig = ReplicaRig(follower=True)
    rig.replica.part(0.0)
    assert {order.link for order in rig.links.take()} == {OWNER, NEXT}


def test_after_its_goodbye_it_dials_nobody_whoever_is_named_to_it():
    rig = ReplicaRig()
    rig.replica.part(0.0)
    rig.links.take()
    late = Peers(2, [Peer("tcp://b:1", 5, Role.REPLICA, *B)])
    rig.replica.delivered(Delivery(rig.gateway, (), late), 9.0)
    rig.replica.know_gateways(["tcp://g:2"], 9.0)
    assert addresses(rig) == set()


def test_the_output_of_a_second_attempt_goes_by_its_owner_who_knows_where_it_was_tried():
    rig = ReplicaRig(follower=True)
    rig.take(1, hops=(A, B))
    batch = rig.replica.next_batch(0.0)
    output = forwarding(batch.tasks[0])
    output.attempt = 2
    rig.replica.finished([output], 0.001)
    assert kinds(rig.outcomes()) == [(1, OutcomeKind.HANDBACK)]
    assert rig.next.stream.unacked() == []


@pytest.mark.parametrize("lost", [False, True])
def test_outputs_that_a_silent_consumer_does_not_ack_are_offered_to_their_owner(lost):
    rig = ReplicaRig(follower=True)
    rig.take(1, hops=(A, B))
    rig.compute()
    assert rig.outcomes() == []
    rig.replica.handle_news(
        SessionSilent(rig.gateway), 1.0
    )  # the owner's silence is another matter
    rig.replica.handle_news(SessionSilent(rig.next), 1.0)
    assert kinds(rig.outcomes(1.0)) == [(1, OutcomeKind.HANDBACK)]
    assert rig.replica.held.tasks == 0
    if lost:
        rig.replica.handle_news(SessionLost(rig.next, "gone"), 2.0)
    else:
        rig.replica.handle_news(MessageReceived(rig.next), 2.0)
        covered = rig.next.stream.unacked()
        rig.replica.delivered(Delivery(rig.next, covered, None), 2.0)
    assert rig.replica.held.tasks == 0
    rig.replica.advance(3.0)
    assert not any(message.notices for message in rig.gateway.stream.unacked())
    assert rig.outcomes(3.0) == []


def late(tasks):
    return [Outcome(t.number, 1, OutcomeKind.FAILURE, label="forward_timeout") for t in tasks]


def test_the_mates_of_what_took_too_long_run_again_each_alone():
    rig = ReplicaRig()
    rig.take(1, 2, 3)
    rig.take(4, deadline=0.5)
    batch = rig.replica.next_batch(0.0)
    rig.replica.cancel([(OWNER, 2)])
    rig.replica.finished(late(batch.tasks), 1.0)
    assert sorted(kinds(rig.outcomes(1.0))) == [(2, OutcomeKind.FAILURE), (4, OutcomeKind.FAILURE)]
    for number in (1, 3):
        batch = rig.replica.next_batch(2.0)
        assert [task.number for task in batch.tasks] == [number]
        rig.replica.finished(late(batch.tasks), 0.5)
    assert kinds(rig.outcomes(3.0)) == [(1, OutcomeKind.FAILURE), (3, OutcomeKind.FAILURE)]
    assert rig.replica.held.tasks == 0


def test_a_whole_batch_may_have_to_run_again():
    rig = ReplicaRig()
    rig.take(1, 2)
    batch = rig.replica.next_batch(0.0)
    rig.replica.finished(late(batch.tasks), 1.0)
    assert rig.outcomes(1.0) == []
    assert rig.replica.running is None
    assert len(rig.replica.next_batch(1.0).tasks) == 1


def test_where_tasks_must_not_run_twice_a_late_batch_has_failed():
    rig = ReplicaRig(repeatable=False)
    rig.take(1, 2)
    batch = rig.replica.next_batch(0.0)
    rig.replica.finished(late(batch.tasks), 1.0)
    assert len(rig.outcomes(1.0)) == 2


def test_the_output_of_what_was_cancelled_while_it_was_computed_does_not_go_on():
    rig = ReplicaRig(follower=True)
    rig.take(1, 2, hops=(A, B))
    batch = rig.replica.next_batch(0.0)
    rig.replica.cancel([(OWNER, 1)])
    rig.replica.finished([forwarding(task) for task in batch.tasks], 0.1)
    rig.replica.advance(0.1)
    assert [task.number for message in rig.next.stream.unacked() for task in message.tasks] == [2]
    assert (rig.replica.held.tasks, len(rig.replica.held)) == (0, 1)


def test_one_that_drains_ends_when_its_gateway_is_gone():
    """What libzmq had received of a goodbye is lost when the connection ends before it is read."""
    rig = ReplicaRig()
    rig.links.tick(0.0)
    (dialled,) = [one for one in rig.links.take() if isinstance(one, Dial)]
    rig.links._lines.of(dialled.link).up(OWNER)
    rig.take(1)
    rig.replica.drain(1.0)
    rig.replica.advance(1.0)
    assert not rig.replica.is_done()
    rig.gateway.detach(1.0)
    rig.links.probed(OWNER, False, 1.02)
    assert rig.links.sessions == {}
    rig.replica.handle_news(rig.links.news.pop(), 1.02)
    assert rig.replica.is_done()


def test_it_does_not_leave_whom_it_has_greeted_without_a_goodbye():
    """Told to stop in the moment of its start: to be gone then would be taken for its death."""
    rig = ReplicaRig()
    rig.gateway.last = 0
    rig.replica.drain(0.0)
    assert rig.replica.is_done()
    rig.links.tick(0.0)
    rig.links.opened(-1, 0.0)
    assert not rig.replica.is_done()
    rig.links.tick(HELLO_LIMIT_S)  # it never answers
    assert rig.replica.is_done()


def test_what_a_gateway_named_is_not_dialled_when_that_is_gone():
    rig = ReplicaRig()
    named = Peers(1, [Peer("tcp://10.0.0.7:1", 5, Role.REPLICA, "z", "")])
    rig.replica.delivered(Delivery(rig.gateway, (), named), 0.0)
    del rig.links.sessions[OWNER]
    rig.replica.handle_news(SessionLost(rig.gateway, "gone"), 1.0)
    rig.links.tick(1.0)
    assert [order.address for order in rig.links.take() if type(order) is Dial] == ["tcp://g:1"]


def test_a_replica_of_long_batches_tells_others_at_once_that_it_is_busy():
    rig = ReplicaRig()
    other = rig.meet(OWNER + 1, Role.GATEWAY)
    rig.replica.held.batch_us = 100_000
    rig.replica.advance(0.0)
    other.stream.owes_at = float("inf")
    rig.take(1)
    rig.replica.advance(0.0)
    assert other.stream.owes_at == 0.0
    assert other in rig.links.touched
