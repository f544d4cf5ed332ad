"""The gateway's decisions, one by one. Whole pipelines are in tests/simulation."""

import pytest
from rig import ME, PATH, POOL, A, B, Rig

from gateway.requests.core import CREDIT_PAUSE_S, SWEEP_S, GatewayCore
from gateway.requests.departed import MAX_DEPARTED
from gateway.requests.in_flight import Request
from gateway.requests.journal import Turnover
from gateway.requests.replicas import RESTART_GRACE_S
from mesh.links.events import (
    Delivery,
    MessageReceived,
    MessageRefused,
    SessionSilent,
    SessionStarted,
)
from mesh.links.session import Session
from mesh.protocol.messages import (
    BatchStats,
    Cancel,
    Flag,
    HandoffNotice,
    Meta,
    Outcome,
    OutcomeKind,
    Outcomes,
    Ping,
    Role,
    Tasks,
)
from mesh.protocol.permissions import Breach
from mesh.protocol.wire import decode


@pytest.fixture
def rig():
    return Rig()


def result(request, **more):
    return Outcome(request.number, more.pop("attempt", 1), OutcomeKind.RESULT, 1, **more)


def handback(request, hop=1):
    return Outcome(
        request.number, request.attempt, OutcomeKind.HANDBACK, hop, buffers=[b"ab", b"c"]
    )


def test_a_request_is_dispatched_and_its_result_ends_it(rig):
    request = rig.submit()
    assert rig.core.next_due() == SWEEP_S
    assert rig.tasks(rig.first) == [request]
    assert request.holder == 11
    rig.hear(rig.second, result(request))
    assert rig.endings() == [(1, "")]
    assert rig.core.take_ended() == []
    assert rig.core.next_due() == float("inf")


def test_it_is_ready_when_those_that_feed_each_other_have_met_once(rig):
    assert not rig.core.is_ready(0.0)
    rig.second.owners = frozenset((ME, 11))
    assert rig.core.is_ready(0.0)
    rig.meet(13, A)  # from then on only a stage without any replica counts
    assert rig.core.is_ready(0.0)
    rig.lose(rig.second)
    assert not rig.core.is_ready(0.0)


def test_stats_are_kept_for_the_metrics(rig):
    stats = BatchStats("a", 1, 0, 20_000, "idle")
    rig.hear(rig.first, stats=[stats])
    assert rig.core.stats == [stats]
    rig.core.delivered(Delivery(rig.first, (), Ping(1)), 0.0)


def test_an_output_that_was_handed_back_goes_to_the_next_stage(rig):
    request = rig.submit()
    rig.tasks(rig.first)
    rig.hear(rig.first, handback(request))
    (task,) = rig.tasks(rig.second)
    assert (task.hops, task.hop, task.buffers) == ((B,), 1, [b"ab", b"c"])
    assert (request.holder, request.at) == (12, 1)
    assert rig.core.counts.hub_hops == 1


@pytest.mark.parametrize("hop", [0, 2])
def test_an_output_for_no_stage_is_no_output(rig, hop):
    request = rig.submit()
    rig.tasks(rig.first)
    rig.hear(rig.first, handback(request, hop))
    assert rig.tasks(rig.second) == []
    assert rig.core.counts.hub_hops == 0


def test_what_is_handed_back_too_late_is_dropped(rig):
    request = rig.submit()
    rig.core.gone(request.number)
    rig.hear(rig.first, handback(request))
    assert rig.tasks(rig.second) == []
    assert rig.core.in_flight.late == 1


def test_a_copy_that_waits_here_does_not_run_once_another_has_moved_on():
    c = ("c", "")
    rig = Rig({11: A, 12: B, 13: c}, {"/inference": (A, B, c)})
    request = rig.submit(hops=(A, B, c))
    rig.tasks(rig.first)
    rig.second.stream.granted.tasks = 0
    rig.hear(rig.first, handback(request))
    rig.core.advance(0.0)
    assert [task.hop for task in rig.waiting(B)] == [1]
    rig.hear(rig.second, notices=[HandoffNotice(request.number, 1, 2, 13)])
    assert (rig.waiting(B), request.holder, request.at) == ([], 13, 2)


def test_a_request_that_waits_to_start_leaves_the_queue_when_its_output_is_handed_back():
    c = ("c", "")
    rig = Rig({11: A, 12: B, 13: c, 14: A}, {"/inference": (A, B, c)})
    request = rig.submit(hops=(A, B, c))
    rig.core.advance(0.0)
    for session in rig.sessions.values():
        session.stream.granted.tasks = 0
    rig.lose(rig.sessions[request.holder], orderly=True)  # its handoff notice is still to come
    assert rig.waiting(A) == [request]
    rig.hear(rig.second, handback(request, 2))
    assert (rig.waiting(A), [task.hop for task in rig.waiting(c)]) == ([], [2])


def test_of_two_that_hand_back_the_same_output_one_is_believed():
    rig = Rig(repeatable=False)
    request = rig.submit()
    rig.tasks(rig.first)
    rig.hear(rig.first, handback(request))
    rig.hear(rig.meet(13, A), handback(request))  # the task was sent to both in doubt
    assert len(rig.tasks(rig.second)) == 1
    rig.hear(rig.first, handback(request))
    assert rig.tasks(rig.second) == []
    assert (rig.core.counts.hub_hops, rig.core.in_flight.late) == (1, 2)


def test_who_holds_a_task_may_hand_it_back_unchanged(rig):
    request = rig.submit()
    rig.tasks(rig.first)
    rig.hear(rig.first, handback(request))
    rig.tasks(rig.second)
    other = rig.meet(13, B)
    rig.hear(rig.second, handback(request))  # it drains
    assert len(rig.tasks(other)) == 1
    assert rig.core.counts.hub_hops == 2


@pytest.mark.parametrize("hop", [0, 1])
def test_who_gave_tasks_back_gets_none_until_it_grants_more_or_some_time_has_passed(rig, hop):
    request = rig.submit()
    rig.tasks(rig.first)
    if hop:
        rig.hear(rig.first, handback(request))
        rig.tasks(rig.second)
    session = (rig.first, rig.second)[hop]
    back = handback(request) if hop else Outcome(request.number, 1, OutcomeKind.UNSTARTED)
    rig.hear(session, back)
    assert rig.tasks(session) == []
    session.stream.granted.tasks += 1
    assert len(rig.tasks(session)) == 1
    rig.hear(session, back)
    assert rig.tasks(session, now=CREDIT_PAUSE_S - SWEEP_S) == []
    assert len(rig.tasks(session, now=CREDIT_PAUSE_S)) == 1
    assert request.tried == (session.peer, session.peer)


def test_only_who_holds_a_task_gives_it_back_unstarted(rig):
    request = rig.submit()
    rig.tasks(rig.first)
    rig.hear(rig.meet(13, A), Outcome(request.number, 1, OutcomeKind.UNSTARTED))
    assert (request.holder, rig.core.in_flight.late) == (11, 1)


def test_unstarted_tasks_go_elsewhere_without_an_attempt(rig):
    request = rig.submit()
    rig.tasks(rig.first)
    other = rig.meet(13, A)
    rig.hear(rig.first, Outcome(request.number, 1, OutcomeKind.UNSTARTED))
    assert rig.tasks(other) == [request]
    assert (request.attempt, request.tried) == (1, (11,))


def test_events_of_streams_end_nothing(rig):
    request = rig.submit()
    rig.tasks(rig.first)
    rig.hear(rig.first, Outcome(request.number, 1, OutcomeKind.EVENT))
    assert rig.endings() == []
    assert request.holder == 11


def test_a_large_request_that_nobody_wants_and_that_has_not_set_out_costs_no_credit(rig):
    request = rig.submit()
    request.buffers, request.nbytes = [bytes(2 * POOL)], 2 * POOL
    rig.first.stage = rig.first.stage._replace(pool=4 * POOL)
    rig.core.advance(0.0)
    assert rig.first.stream.granted.free_tasks == 9
    rig.core.gone(request.number)
    rig.core.advance(0.0)
    assert (rig.first.stream.granted.free_tasks, rig.first.stream.granted.free_nbytes) == (10, POOL)
    assert rig.first.stream.unacked() == []


# --- notes ----------------------------------------------------------------------------------------


def test_a_note_moves_the_holder(rig):
    request = rig.submit()
    rig.tasks(rig.first)
    rig.hear(rig.first, notices=[HandoffNotice(1, 1, 1, 12)])
    assert (request.holder, request.at) == (12, 1)
    rig.lose(rig.first)
    assert request.attempt == 1
    rig.lose(rig.second)
    assert (request.attempt, request.holder, request.tried) == (2, 0, (12,))


def test_a_note_that_names_nobody_we_know_is_a_loss_at_once(rig):
    request = rig.submit()
    rig.tasks(rig.first)
    rig.hear(rig.first, notices=[HandoffNotice(1, 1, 1, 99)])
    assert rig.core.counts.retries == {"holder_gone": 1}
    assert rig.tasks(rig.first) == [request]
    assert request.attempt == 2


def test_a_note_of_a_request_that_is_over_is_answered_with_cancel(rig):
    rig.hear(rig.first, notices=[HandoffNotice(5, 1, 1, 12), HandoffNotice(6, 1, 1, 99)])
    assert rig.sent(rig.second, Cancel) == [Cancel(ME, [5])]


# --- deaths ---------------------------------------------------------------------------------------


def test_attempts_run_out():
    rig = Rig(attempts=1)
    rig.submit()
    rig.tasks(rig.first)
    rig.lose(rig.first)
    assert rig.endings() == [(1, "lost")]


def test_a_goodbye_uses_up_no_attempt():
    rig = Rig(attempts=1)
    request = rig.submit()
    rig.tasks(rig.first)
    other = rig.meet(13, A)
    rig.lose(rig.first, orderly=True)
    assert rig.tasks(other) == [request]
    assert (request.attempt, request.tried) == (1, (11,))
    assert rig.core.counts.retries == {"parted": 1}


def test_a_stage_that_must_not_run_twice_ends_what_it_held():
    rig = Rig(repeatable=False)
    request = rig.submit()
    rig.tasks(rig.first)
    rig.hear(rig.first, handback(request))
    rig.tasks(rig.second)
    rig.lose(rig.second)
    ((_, outcome),) = rig.core.take_ended()
    assert (outcome.label, outcome.hop) == ("lost", 1)
    assert "must not be run twice" in outcome.text


def test_before_such_a_stage_a_request_may_begin_again():
    rig = Rig(repeatable=False)
    request = rig.submit()
    rig.tasks(rig.first)
    rig.lose(rig.first)
    assert rig.tasks(rig.meet(13, A)) == [request]


def test_an_death_notice_loses_whom_it_names(rig):
    rig.died(11, signal=9)
    news = rig.links.news.popleft()
    assert news.session is rig.first
    rig.core.handle_news(news, 0.0)
    rig.died(11, code=3)  # again
    assert rig.core.counts.deaths == {"signal": 1}
    rig.died(12, code=3)
    rig.core.handle_news(rig.links.news.popleft(), 0.0)
    assert rig.core.counts.deaths == {"signal": 1, "exit": 1}


def test_a_death_is_counted_once_and_a_goodbye_is_none(rig):
    rig.lose(rig.first)
    rig.lose(rig.second, orderly=True)
    assert rig.core.counts.deaths == {"link": 1}


def test_the_journal_tells_who_came_and_went(rig):
    rig.core.handle_news(SessionStarted(rig.first, True), 0.0)  # resumed: nobody came
    rig.lose(rig.first)
    rig.lose(rig.second, orderly=True)
    told = [(entry.session.peer, entry.orderly, entry.reason) for entry in rig.core.journal]
    came = [(11, True, "connected"), (12, True, "connected")]
    assert told == [*came, (11, False, "gone"), (12, True, "gone")]


def test_the_newer_attempt_of_a_request_that_has_its_result_is_called_off(rig):
    request = rig.submit()
    rig.tasks(rig.first)
    other = rig.meet(13, A)
    rig.lose(rig.first)
    rig.tasks(other)
    rig.hear(rig.second, result(request, attempt=1))
    assert rig.endings() == [(1, "")]
    assert rig.sent(other, Cancel) == [Cancel(ME, [1])]


def test_an_early_failure_of_an_old_attempt_changes_nothing(rig):
    request = rig.submit()
    rig.tasks(rig.first)
    rig.lose(rig.first)
    rig.hear(rig.first, Outcome(1, 1, OutcomeKind.FAILURE, label="server_error"))
    assert rig.endings() == []
    assert request.number in rig.core.in_flight.requests


def test_cancels_for_one_that_is_gone_are_not_kept(rig):
    request = rig.submit()
    rig.tasks(rig.first)
    rig.core.gone(request.number)
    del rig.links.sessions[11]
    rig.core.advance(0.0)
    again = rig.submit()
    other = rig.meet(13, A)
    assert rig.tasks(other) == [again]
    rig.core.gone(again.number)
    rig.lose(other)
    assert rig.core._cancels == {}


# --- nobody wants it any more ---------------------------------------------------------------------


def test_a_client_that_is_gone_leaves_the_queue():
    rig = Rig(replicas=False)
    request = rig.submit()
    assert rig.core.gone(request.number) is request
    assert rig.core.gone(request.number) is None
    assert rig.tasks(rig.meet(11, A)) == []
    assert rig.core.counts.cancelled == 1


def test_a_client_that_is_gone_is_cancelled_where_its_task_is(rig):
    request = rig.submit()
    rig.tasks(rig.first)
    rig.core.gone(request.number)
    assert rig.sent(rig.first, Cancel) == [Cancel(ME, [1])]


def test_an_output_that_waits_here_leaves_with_its_client(rig):
    requests = [rig.submit(), rig.submit()]
    rig.tasks(rig.first)
    rig.lose(rig.second)
    rig.hear(rig.first, *[handback(request) for request in requests])
    rig.core.gone(requests[0].number)
    assert [task.number for task in rig.tasks(rig.meet(13, B))] == [2]


def test_deadlines_end_requests_wherever_they_are(rig):
    for deadline in (0.5, 1.0, 9.0):
        rig.submit(deadline)
    rig.tasks(rig.first)
    rig.core.advance(1.0)
    assert rig.endings() == [(1, "deadline_exceeded"), (2, "deadline_exceeded")]
    assert rig.core.counts.expired == 2
    assert rig.sent(rig.first, Cancel, 1.0) == [Cancel(ME, [1, 2])]
    assert rig.core.next_due() == 1.0 + SWEEP_S


def test_a_stage_that_is_missing_for_long_is_named(rig):
    assert not rig.core.queues.missing
    rig.lose(rig.second, 5.0)
    assert rig.core.queues.missing
    request = rig.submit()
    rig.tasks(rig.first, 5.0)
    rig.hear(rig.first, handback(request))
    rig.core.advance(5.0)
    assert rig.core.absent(PATH, 5.0) is None
    rig.core.advance(5.0 + RESTART_GRACE_S)
    ((_, outcome),) = rig.core.take_ended()
    assert (outcome.label, outcome.text) == ("no_replica", "stage b has no replica")
    assert rig.core.absent(PATH, 5.0 + RESTART_GRACE_S) == B


def test_a_request_that_no_message_can_carry_fails_alone(rig):
    headers = tuple(("name", "x" * 4000) for _ in range(2000))
    rig.submit(meta=Meta("POST", "/", "", headers))
    bad_and_gone = rig.submit(meta=Meta("POST", "/", "", headers))
    good = rig.submit()
    rig.core.gone(bad_and_gone.number)
    assert rig.tasks(rig.first) == [good]
    assert rig.endings() == [(1, "bad_request")]


def test_a_task_that_its_stage_could_not_read_fails_alone(rig):
    requests = [rig.submit(), rig.submit()]
    rig.tasks(rig.first)
    rig.core.handle_news(MessageRefused(rig.first, Tasks([requests[0]]), "too odd"), 0.0)
    rig.core.handle_news(MessageRefused(rig.first, Cancel(ME, []), "never mind"), 0.0)
    ((request, outcome),) = rig.core.take_ended()
    assert request is requests[0]
    assert outcome.text == "the request cannot be sent to the stage: too odd"


# --- who is there ---------------------------------------------------------------------------------


def test_replicas_are_told_whom_to_dial(rig):
    rig.links.take()
    rig.meet(13, A)
    told = {}
    for order in rig.links.take():
        _, peers = decode(order.frames, 0.0)
        told[order.link] = [peer.address for peer in peers.peers]
    assert told == {13: [], 12: ["tcp://11", "tcp://13"]}
    assert rig.core.met_stage


def test_others_than_our_replicas_are_left_alone(rig):
    supervisor = rig.meet(20, None, Role.SUPERVISOR)
    stranger = rig.meet(21, ("z", ""))
    rig.lose(supervisor)
    rig.lose(stranger)
    assert not rig.core.queues.missing


# --- who may set out ------------------------------------------------------------------------------


def test_a_request_sets_out_only_while_every_stage_of_its_path_lives(rig):
    rig.lose(rig.second)
    late, early = rig.submit(deadline=80.0), rig.submit(deadline=70.0)
    assert rig.tasks(rig.first) == []
    assert rig.core.queues.is_crowded(PATH)
    rig.meet(13, B)
    assert rig.tasks(rig.first) == [early, late]
    assert not rig.core.queues.is_crowded(PATH)


def test_what_waited_for_credit_does_not_set_out_any_more(rig):
    rig.first.stream.granted.tasks = 0
    request = rig.submit()
    assert rig.tasks(rig.first) == []
    assert rig.core.queues.is_crowded(PATH)
    rig.lose(rig.second)
    rig.first.stream.granted.tasks = 10
    assert rig.tasks(rig.first) == []
    rig.meet(13, B)
    assert rig.tasks(rig.first) == [request]


def test_what_is_on_its_way_and_other_routes_go_on():
    rig = Rig(replicas=False)
    rig.core = GatewayCore(rig.links, {"/both": PATH, "/second": (B,)}, 3, 0.0)
    first, second = rig.meet(11, A), rig.meet(12, B)
    second.stream.granted.tasks = 0
    request = rig.submit()
    rig.tasks(first)
    rig.hear(first, handback(request))
    rig.lose(first)
    alone = Request(ME, rig.core.in_flight.next_number(), (B,), 0, 1, 90.0, [b"x"], 1)
    rig.core.submit(alone)
    parked = rig.submit()
    second.stream.granted.tasks = 10
    assert [task.number for task in rig.tasks(second)] == [request.number, alone.number]
    assert not rig.core.queues.is_crowded((B,))
    assert rig.core.queues.is_crowded(PATH)
    assert rig.tasks(rig.meet(13, A)) == [parked]


def test_one_that_may_not_set_out_leaves_with_its_client_or_its_time(rig):
    rig.lose(rig.second)
    gone, late = rig.submit(), rig.submit(deadline=1.0)
    rig.core.gone(gone.number)
    rig.core.advance(1.0)
    assert rig.endings() == [(late.number, "deadline_exceeded")]
    rig.meet(13, B)
    assert rig.tasks(rig.first) == []


def test_how_long_a_stage_may_be_gone_is_a_setting():
    rig = Rig(replicas=False)
    rig.core = GatewayCore(rig.links, {"/inference": PATH}, 3, 0.0, restart_grace=0.5)
    rig.meet(11, A)
    request = rig.submit()
    rig.core.advance(0.49)
    assert rig.endings() == []
    rig.core.advance(0.56)
    assert rig.endings() == [(request.number, "no_replica")]


def test_who_has_little_time_or_is_urgent_overtakes(rig):
    rig.first.stream.granted.tasks = 0
    for _ in range(3):
        rig.submit(deadline=90.0)
    assert rig.core.queues.overtaken(PATH, 0, 91.0) == 0
    assert rig.core.queues.overtaken(PATH, 0, 89.0) == 3
    assert rig.core.queues.overtaken(PATH, 1, 91.0) == 3


def test_nobody_is_crowded_when_what_waited_has_left(rig):
    rig.first.stream.granted.tasks = 0
    request = rig.submit()
    rig.core.advance(0.0)
    assert rig.core.queues.is_crowded(PATH)
    assert not rig.core.calm
    rig.core.gone(request.number)
    rig.core.advance(0.0)
    assert not rig.core.queues.is_crowded(PATH)
    assert rig.core.calm


def test_what_a_silent_replica_holds_is_begun_elsewhere_and_called_off_when_answered(rig):
    request = rig.submit()
    assert [task.number for task in rig.tasks(rig.first)] == [request.number]
    rig.core.handle_news(SessionSilent(rig.first), 1.0)
    assert rig.core.counts.hedges == 0  # there is nobody else
    other = rig.meet(13, A)
    rig.core.advance(1.0 + SWEEP_S)
    assert [(task.number, task.attempt) for task in rig.tasks(other)] == [(request.number, 2)]
    assert rig.core.counts.hedges == 1
    rig.hear(other, handback(request))
    assert [(task.number, task.attempt) for task in rig.tasks(rig.second)] == [(request.number, 2)]
    rig.hear(rig.second, result(request, attempt=2))
    assert rig.endings() == [(request.number, "")]
    assert [m.numbers for m in rig.sent(rig.first, Cancel)] == [[request.number]]
    rig.core.handle_news(MessageReceived(rig.first), 2.0)
    assert rig.core.retries.silent == {}
    stranger = Session(ME, 99, Role.SUPERVISOR, POOL)
    rig.core.handle_news(SessionSilent(stranger), 2.0)
    rig.core.handle_news(SessionSilent(other), 2.0)
    rig.lose(other)
    assert rig.core.retries.silent == {}


def test_a_request_that_crashes_replicas_is_quarantined(rig):
    request = rig.submit()
    for dead in (51, 52):
        rig.lose(rig.first)
        rig.first = rig.meet(dead, A)
        assert rig.tasks(rig.first) == [request]
        rig.died(dead, [request.id])
        rig.core.handle_news(rig.links.news.popleft(), 0.0)
    assert rig.endings() == [(request.number, "poison_request")]
    assert rig.core.counts.quarantined == 1


def test_a_replica_that_only_fails_gets_one_task_at_a_time(rig):
    other = rig.meet(13, A)
    other.stream.granted.tasks = 0
    requests = [rig.submit() for _ in range(60)]
    for task in rig.tasks(rig.first):
        failure = Outcome(task.number, 1, OutcomeKind.FAILURE, label="server_error")
        rig.hear(rig.first, *[failure] * 40)
    assert list(rig.core.outliers.failing) == [11]
    rig.first.stream.granted.tasks = 99
    assert len(rig.tasks(rig.first)) == 0
    rig.core.handle_news(SessionSilent(rig.first), 0.0)
    rig.core.handle_news(MessageReceived(rig.first), 0.0)
    assert len(rig.tasks(rig.first)) == 0
    assert len(rig.tasks(rig.first, now=SWEEP_S)) == 1
    assert len(rig.tasks(rig.first, now=2 * SWEEP_S)) == 0
    rig.hear(rig.first, stats=[])
    assert len(requests) == 60


# --- one revision after another -------------------------------------------------------------------

A2, B2 = ("a", "2"), ("b", "2")


def turn_over(rig, now=5.0):
    """Replicas 21 and 22 of a later version come, and the routes move."""
    later = [rig.meet(21, A2, version="2"), rig.meet(22, B2, version="2")]
    assert rig.core.next_due() < float("inf")
    rig.core.advance(now)
    assert rig.core.replicas.routes == {"/inference": (A2, B2)}
    return later


def test_the_routes_move_to_a_later_version_when_all_of_it_stands(rig):
    rig.core.met_stage = False
    rig.meet(21, A2, version="2")
    request = rig.submit()
    assert rig.tasks(rig.first, 5.0) == [request]
    rig.lose(rig.core.replicas.sessions[21])
    first, _ = turn_over(rig, 6.0)
    assert rig.core.met_stage
    assert rig.core.journal[-1] == Turnover("2", "2")
    rig.core.submit(later := Request(ME, 9, (A2, B2), 0, 1, 90.0, [b"x"], 1))
    assert rig.tasks(first, 6.0) == [later]
    rig.hear(rig.second, result(request))  # what the former version has, it finishes
    assert rig.endings() == [(1, "")]


def test_a_replica_of_other_classes_or_routes_is_told_of_and_gets_nothing(rig):
    """Its own host sees it connected and ready: only here can be said why nothing reaches it."""
    rig.meet(21, ("a", "f00"))
    entry = rig.core.journal[-1]
    assert (entry.session.peer, entry.orderly) == (21, True)
    assert "gets nothing: its revision is f00, this gateway serves" in entry.reason
    assert rig.tasks(rig.core.links.sessions[21], 5.0) == []
    rig.core._met(entry.session, True, 5.0)  # a link that comes back is no news
    assert rig.core.journal[-1] is entry


def test_the_routes_go_back_when_the_later_version_is_gone_and_the_former_stands(rig):
    first, second = turn_over(rig)
    rig.core.submit(request := Request(ME, 9, (A2, B2), 0, 1, 90.0, [b"x"], 1))
    assert rig.tasks(first, 6.0) == [request]
    assert rig.core.next_due() < float("inf")
    rig.lose(second, 7.0)
    rig.lose(first, 7.0)
    rig.core.met_stage = False
    assert rig.core.next_due() < float("inf")
    assert rig.tasks(rig.first, 7.0 + SWEEP_S) == [request]
    assert rig.core.met_stage
    assert rig.core.replicas.routes == {"/inference": PATH}
    assert rig.core.journal[-1] == Turnover("", "")
    rig.core.submit(later := Request(ME, 10, PATH, 0, 1, 90.0, [b"x"], 1))
    assert later in rig.tasks(rig.first, 7.1)


def test_what_the_former_version_loses_begins_again_in_the_later_one(rig):
    request = rig.submit()
    rig.tasks(rig.first)
    first, _ = turn_over(rig)
    rig.lose(rig.first, 6.0)
    assert rig.tasks(first, 6.0) == [request]
    assert (request.hops, request.attempt, request.holder) == ((A2, B2), 3, 21)


def test_an_output_that_nobody_of_its_version_takes_begins_again(rig):
    rig.second.stream.granted.tasks = 0
    request = rig.submit()
    rig.tasks(rig.first)
    rig.hear(rig.first, handback(request))
    first, _ = turn_over(rig)
    assert rig.tasks(first, 6.0) == []
    rig.lose(rig.second, 6.0, orderly=True)
    rig.core.advance(7.0)
    assert rig.tasks(first, 7.0) == [request]
    assert rig.core.counts.retries == {"version": 1}


def test_what_must_not_run_twice_does_not_run_in_another_version(rig):
    rig = Rig(repeatable=False)
    rig.second.stream.granted.tasks = 0
    request = rig.submit()
    rig.tasks(rig.first)
    rig.hear(rig.first, handback(request))
    turn_over(rig)
    rig.lose(rig.second, 6.0, orderly=True)
    rig.core.advance(7.0)
    assert rig.endings() == [(1, "lost")]


def test_a_version_that_is_gone_and_done_is_forgotten(rig):
    request = rig.submit()
    rig.tasks(rig.first)
    turn_over(rig)
    rig.lose(rig.second, 6.0, orderly=True)
    rig.core.advance(7.0)
    assert B in rig.core.dispatchers  # a request may still ask for it
    rig.hear(rig.first, Outcome(request.number, 1, OutcomeKind.FAILURE))
    rig.lose(rig.first, 8.0, orderly=True)
    rig.core.advance(9.0)
    assert rig.core.dispatchers.keys() == rig.core.replicas.facts.keys() == {A2, B2}
    assert rig.core.next_due() == float("inf")


def test_what_a_replica_of_a_former_version_holds_is_not_lost_with_it(rig):
    """It met us anew after the move, so it is none of ours, and was fed straight all the same."""
    request = rig.submit()
    rig.tasks(rig.first)
    turn_over(rig)
    stranger = rig.meet(13, B)
    rig.hear(rig.first, notices=[HandoffNotice(request.number, 1, 1, 13)])
    assert request.holder == 13
    rig.lose(stranger, 6.0)
    assert rig.tasks(rig.core.links.sessions[21], 7.0) == [request]


def test_where_a_request_failed_can_be_told_for_people_also_of_those_that_are_gone(rig):
    rig.first.host, rig.first.pid = "gpu-1", 812
    assert rig.core.whereabouts(0) == ""
    assert rig.core.whereabouts(11) == "000000000000000b (gpu-1, pid 812)"
    assert rig.core.whereabouts(0xFF) == "00000000000000ff"
    rig.lose(rig.first)
    assert rig.core.whereabouts(11) == "000000000000000b (gpu-1, pid 812)"
    for peer in range(100, 100 + MAX_DEPARTED):
        rig.lose(rig.meet(peer, A))
    assert rig.core.whereabouts(11) == "000000000000000b"
    assert len(rig.core._departed) == MAX_DEPARTED


def test_a_failure_is_of_whoever_sent_it(rig):
    request = rig.submit()
    rig.core.advance(0.0)
    failure = Outcome(request.number, 1, OutcomeKind.FAILURE, 1, label="server_error")
    rig.core.delivered(Delivery(rig.second, (), Outcomes([failure])), 0.0)
    ((ended, _),) = rig.core.take_ended()
    assert ended.holder == rig.second.peer


# --- who may say what -----------------------------------------------------------------------------


def test_a_result_from_a_replica_that_never_held_the_request_is_a_breach():
    rig = Rig(replicas=False)
    rig.core = GatewayCore(rig.links, {"/inference": (A,)}, 3, 0.0)
    holder, sibling = rig.meet(11, A), rig.meet(12, A)
    sibling.stream.granted.tasks = 0
    request = Request(ME, 1, (A,), 0, 1, 90.0, [b"x"], 1)
    rig.core.submit(request)
    assert rig.tasks(holder) == [request]
    forged = Outcome(request.number, 1, OutcomeKind.RESULT, 0)
    with pytest.raises(Breach, match="never held"):
        rig.hear(sibling, forged)
    assert rig.endings() == []
    rig.hear(holder, forged)
    assert rig.endings() == [(1, "")]
    rig.hear(sibling, forged)  # it is over: whatever comes now is late, and no breach
    assert rig.core.in_flight.late == 1


def test_a_result_of_a_stage_that_is_not_the_last_changes_nothing(rig):
    request = rig.submit()
    rig.tasks(rig.first)
    rig.hear(rig.first, result(request), Outcome(request.number, 1, OutcomeKind.RESULT, 0))
    assert rig.endings() == []
    assert rig.core.in_flight.late == 2


def test_a_note_that_leads_nowhere_moves_nothing(rig):
    request = rig.submit()
    rig.tasks(rig.first)
    other = rig.meet(13, A)
    for speaker, hop, holder in ((rig.first, 9, 12), (rig.first, 1, 13), (other, 1, 99)):
        rig.hear(speaker, notices=[HandoffNotice(request.number, 1, hop, holder)])
        assert (request.holder, request.at, request.attempt) == (11, 0, 1)


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_note_that_names_nobody_begins_nothing_again(rig, attempt):
    """What waits here is held by nobody, too."""
    request = rig.submit()
    rig.tasks(rig.first)
    rig.second.stream.granted.tasks = 0
    rig.hear(rig.first, handback(request))
    request.attempt = attempt
    rig.hear(rig.first, notices=[HandoffNotice(request.number, 1, 1, 0)])
    assert (request.deaths, request.attempt) == (0, attempt)
    assert rig.core.dispatchers[A].waiting.count == 0


def test_who_had_a_former_attempt_has_no_say_in_the_present_one():
    rig = Rig()
    request, other = rig.submit(), rig.meet(13, B)
    rig.tasks(rig.first)
    rig.hear(rig.first, notices=[HandoffNotice(request.number, 1, 1, 12)])
    rig.core.handle_news(
        SessionSilent(rig.second), 0.0
    )  # a second attempt begins while 12 has the first
    assert (request.attempt, request.holder, request.at) == (2, 0, 0)
    failure = Outcome(request.number, 2, OutcomeKind.FAILURE, 1, label="server_error")
    rig.hear(rig.second, failure, Outcome(request.number, 2, OutcomeKind.UNSTARTED))
    rig.hear(rig.second, notices=[HandoffNotice(request.number, 2, 1, 12)])
    rig.hear(other, result(request, attempt=2))
    rig.died(13, [request.id])
    assert rig.endings() == []
    assert (request.attempt, request.holder, request.at, request.flags & Flag.SOLO) == (2, 0, 0, 0)
    rig.hear(rig.second, result(request))  # of the attempt that it has
    assert rig.endings() == [(request.number, "")]


def test_an_output_of_a_replica_that_never_held_the_request_is_dropped(rig):
    request = rig.submit()
    rig.tasks(rig.first)
    rig.hear(rig.meet(13, A), handback(request))
    assert rig.tasks(rig.second) == []
    assert rig.core.in_flight.late == 1


def test_stats_are_taken_from_replicas_that_serve_and_of_their_own_stage(rig):
    with pytest.raises(Breach, match="another stage"):
        rig.hear(rig.second, stats=[BatchStats("a", 1, 0, 0, "idle")])
    stranger = rig.meet(13, ("anything", "r"))
    rig.hear(stranger, stats=[BatchStats("anything", 1, 0, 0, "idle")])
    former = rig.meet(14, ("a", "another"))
    rig.hear(former, stats=[BatchStats("a", 1, 0, 0, "idle", nbytes=2**30)])
    assert rig.core.stats == []


def test_stats_count_as_what_a_request_can_have_here(rig):
    rig.hear(rig.first, stats=[BatchStats("a", 1, 0, 2**32 - 1, "idle", nbytes=2**36)])
    limits = rig.links.identity
    assert rig.core.stats[0].compute == limits.timeout * 1e6
    assert rig.core.sizes.largest(["a"]) == limits.pool
    other = rig.meet(13, A)
    rig.hear(other, stats=[BatchStats("a", 1, 0, 0, "idle", nbytes=9)])
    rig.lose(rig.first)
    assert rig.core.sizes.largest(["a"]) == 9


def test_a_replica_may_owe_outputs_where_its_stage_is_of_a_route(rig):
    assert rig.first.may_owe
    assert rig.meet(13, ("a", "former")).may_owe
    assert not rig.meet(14, ("anything", "r")).may_owe
    assert not rig.meet(15, None, role=Role.SUPERVISOR).may_owe


def test_a_supervisor_tells_of_its_own_replicas_only(rig):
    another = Session(ME, 78, Role.SUPERVISOR, POOL)
    request = rig.submit()
    rig.tasks(rig.first)
    for _ in range(2):
        with pytest.raises(Breach, match="did not start"):
            rig.died(11, [request.id], supervisor=another)
    assert 11 in rig.links.sessions
    assert not request.flags
    rig.lose(rig.first)
    with pytest.raises(Breach, match="did not start"):
        rig.died(11, [request.id], supervisor=another)
    rig.died(11, [request.id])  # its link has closed before its supervisor tells
    assert request.flags


def test_no_supervisor_buries_another_stages_or_another_supervisors_replicas(rig):
    """Also where a replica of its own takes the number of one that is gone."""
    mine, others = Session(ME, 78, Role.SUPERVISOR, POOL), Session(ME, 79, Role.SUPERVISOR, POOL)
    rig.first.parent, rig.second.parent = 78, 79
    sibling = rig.meet(13, A)  # of the same stage, and of a third
    request = rig.submit()
    rig.tasks(rig.first)
    for dead, supervisor in ((12, mine), (13, mine), (11, others), (13, others)):
        with pytest.raises(Breach, match="did not start"):
            rig.died(dead, [request.id], supervisor=supervisor)
    rig.lose(rig.first)
    impostor = rig.meet(11, B)
    impostor.parent = 79
    with pytest.raises(Breach, match="did not start"):
        rig.died(11, [request.id], supervisor=others)
    assert {11, 12, 13} <= set(rig.links.sessions)
    assert not request.flags
    rig.lose(impostor)
    rig.died(11, [request.id], supervisor=mine)  # its own supervisor is heard, and is no liar
    assert request.flags
    assert sibling.peer in rig.core.replicas.sessions


def test_of_a_replica_that_never_came_nothing_is_said(rig):
    """It died while it was loading, or is another gateway's: that is no breach."""
    request = rig.submit()
    rig.tasks(rig.first)
    another = Session(ME, 78, Role.SUPERVISOR, POOL)
    rig.died(99, [request.id], supervisor=another)
    rig.died(98, [request.id], supervisor=another)
    assert not request.flags
    assert rig.endings() == []


def test_an_death_notice_blames_only_what_the_dead_may_have_held(rig):
    held, other = rig.submit(), rig.submit()
    rig.first.stream.granted.tasks = 1
    rig.tasks(rig.first)
    told = rig.died(11, [held.id, other.id, (ME, 12345), (2, 6)])
    assert (bool(held.flags), bool(other.flags)) == (True, False)
    assert told.computing == [held.id, (ME, 12345), (2, 6)]


def test_who_is_named_as_a_holder_and_is_none_hears_nothing(rig):
    supervisor = rig.meet(78, None, role=Role.SUPERVISOR)
    rig.hear(rig.first, notices=[HandoffNotice(4711, 1, 1, 78), HandoffNotice(4711, 1, 1, 12)])
    assert rig.sent(supervisor, Cancel) == []
    assert rig.sent(rig.second, Cancel) == [Cancel(ME, [4711])]


def test_what_a_breach_left_is_laid_at_nobody_elses_door():
    rig = Rig(replicas=False)
    rig.core = GatewayCore(rig.links, {"/inference": (A,)}, 3, 0.0)
    rogue, honest = rig.meet(11, A), rig.meet(12, A)
    honest.stream.granted.tasks = 0
    requests = [Request(ME, number, (A,), 0, 1, 90.0, [b"x"], 1) for number in (1, 2)]
    for request in requests:
        rig.core.submit(request)
    assert rig.tasks(rogue) == requests
    requests[1].holder = 12
    failed = Outcome(1, 1, OutcomeKind.FAILURE, label="server_error")
    with pytest.raises(Breach):
        rig.hear(rogue, failed, Outcome(2, 1, OutcomeKind.RESULT))
    rig.hear(honest, Outcome(2, 1, OutcomeKind.RESULT))
    assert rig.endings() == [(1, "server_error"), (2, "")]
    assert rig.core.outliers._shares == {}


def test_what_a_lost_replica_said_of_its_stage_is_looked_at_again(rig):
    rig.core.met_stage = False
    rig.lose(rig.first)
    assert rig.core.met_stage
