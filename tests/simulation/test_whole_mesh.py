"""Requests through whole pipelines: real cores and bytes, a clock that nobody waits for."""

from collections import Counter

import pytest
from members import Supervision
from small_mesh import SmallMesh

from mesh.protocol.messages import Cancel, Death, Meta, OutcomeKind, Outcomes
from stage.item_outcome import ItemOutcome

MIB = 1 << 20


def bodies(outcomes):
    return [b"".join(outcome.buffers) for outcome in outcomes]


def labels(outcomes):
    return [outcome.label for outcome in outcomes]


def assert_quiet(mesh):
    """Nothing is held, queued or owed anywhere, and every producer has its credit."""
    mesh.run(1.0)
    for gateway in mesh.gateways:
        core = gateway.core
        assert len(core.in_flight) == 0
        assert not any(dispatcher.waiting for dispatcher in core.dispatchers.values())
    for one in mesh.members:
        for session in one.core.links.sessions.values():
            assert session.stream.is_idle()
        if one in mesh.gateways:
            continue
        core = one.core
        assert (len(core.held), core.held.tasks, len(core.batcher)) == (0, 0, 0)
        assert (len(core.forwarding), len(core.reporting)) == (0, 0)
        for session in core._producers():
            assert (
                session.stream.allowed.tasks - session.stream.allowed.used_tasks
                >= core.batcher.window
            )
            peer = mesh.of(session.peer).core.links.sessions[one.me]
            assert (peer.stream.granted.used_tasks, peer.stream.granted.tasks) == (
                session.stream.allowed.used_tasks,
                session.stream.allowed.tasks,
            )


@pytest.mark.parametrize("stages", ["a", "ab", "abc"])
def test_results_come_straight_from_stage_to_stage(stages):
    mesh = SmallMesh(*stages)
    for name in stages:
        mesh.replica(name)
        mesh.replica(name)
    mesh.settle()
    numbers = [mesh.gateway.submit(b"%d-" % n) for n in range(40)]
    for n, outcome in enumerate(mesh.answered(*numbers)):
        assert outcome.buffers == [b"%d-" % n + stages.encode()]
        assert len(outcome.timings) == 2 * len(stages)
    assert mesh.gateway.core.counts.hub_hops == 0
    assert_quiet(mesh)


def test_from_the_moment_it_is_ready_nothing_goes_by_the_hub():
    mesh = SmallMesh("a", "b", "c", gateways=2)
    for name in "cba":
        mesh.replica(name)
        mesh.replica(name)
    for gateway in mesh.gateways:
        assert not gateway.core.is_ready(mesh.now)
    ready = [gateway.core.is_ready for gateway in mesh.gateways]
    assert mesh.run(0.5, lambda: all(is_ready(mesh.now) for is_ready in ready))
    for gateway in mesh.gateways:
        numbers = [gateway.submit() for _ in range(20)]
        mesh.answered(*numbers, gateway=gateway)
        assert gateway.core.counts.hub_hops == 0


def test_a_lone_request_waits_for_nobody():
    mesh = SmallMesh("a", "b")
    mesh.replica("a")
    mesh.replica("b")
    mesh.settle()
    began = mesh.now
    number = mesh.gateway.submit()
    mesh.answered(number)
    assert mesh.gateway.answered_at[number] - began == pytest.approx(2 * 0.010 + 3 * 0.0002)


# --- the hub --------------------------------------------------------------------------------------


def test_without_feed_links_outputs_go_by_way_of_the_owner():
    mesh = SmallMesh("a", "b")
    mesh.replica("a", feed=False)
    mesh.replica("b")
    mesh.settle()
    assert bodies(mesh.answered(*[mesh.gateway.submit() for _ in range(10)])) == [b"xab"] * 10
    assert mesh.gateway.core.counts.hub_hops == 10
    assert_quiet(mesh)


def test_outputs_go_only_to_a_replica_that_reaches_their_owner():
    mesh = SmallMesh("a", "b", gateways=2)
    first, second = mesh.gateways
    mesh.replica("a")
    mesh.replica("b", gateways=mesh.addresses[:1])
    mesh.replica("b", gateways=mesh.addresses[1:], feed=False)
    mesh.settle()
    assert (
        bodies(mesh.answered(*[second.submit() for _ in range(9)], gateway=second)) == [b"xab"] * 9
    )
    ones = [first.submit() for _ in range(9)]
    assert bodies(mesh.answered(*ones, gateway=first)) == [b"xab"] * 9
    assert first.core.counts.hub_hops == 0
    assert not first.core.counts.retries
    assert not second.core.counts.retries


def test_an_output_waits_at_the_owner_for_a_stage_that_is_restarting():
    mesh = SmallMesh("a", "b")
    mesh.replica("a")
    later = mesh.replica("b")
    mesh.settle()
    number = mesh.gateway.submit()
    mesh.run(0.005)
    mesh.leave(later)
    mesh.run(0.5)
    assert not mesh.gateway.answers
    assert len(mesh.gateway.core.dispatchers["b", "r"].waiting) == 1
    mesh.replica("b")
    assert bodies(mesh.answered(number)) == [b"xab"]
    assert mesh.gateway.core.counts.hub_hops == 1


def test_outputs_that_wait_too_long_for_credit_go_by_the_hub():
    mesh = SmallMesh("a", "b", timeout=9.0)
    first = mesh.replica("a", batch=32)
    stalled = mesh.replica("b")
    mesh.settle()
    stalled.stalled = True
    numbers = [mesh.gateway.submit() for _ in range(32)]
    mesh.run(0.1)
    assert len(first.core.forwarding) > 0
    mesh.run(1.1)
    assert len(first.core.forwarding) == 0
    mesh.replica("b")
    mesh.run(0.5)
    assert mesh.gateway.core.counts.hub_hops > 0
    stalled.stalled = False
    assert bodies(mesh.answered(*numbers)) == [b"xab"] * 32
    assert_quiet(mesh)


# --- deaths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("at", [0.005, 0.012, 0.025, 0.06])
def test_a_replica_of_any_stage_may_die_at_any_moment(which, at):
    mesh = SmallMesh("a", "b", "c")
    firsts = [mesh.replica(name, takes=lambda size: 0.02) for name in "abc"]
    for name in "abc":
        mesh.replica(name, takes=lambda size: 0.02)
    mesh.settle()
    numbers = [mesh.gateway.submit() for _ in range(30)]
    mesh.run(at)
    mesh.leave(firsts[which])
    assert bodies(mesh.answered(*numbers)) == [b"xabc"] * 30
    assert_quiet(mesh)


def test_a_note_names_the_holder_that_dies():
    mesh = SmallMesh("a", "b")
    mesh.replica("a")
    slow = mesh.replica("b", takes=lambda size: 1.0)
    mesh.settle()
    number = mesh.gateway.submit()
    mesh.run(0.2)
    request = mesh.gateway.core.in_flight.requests[number]
    assert (request.holder, request.at) == (slow.me, 1)
    mesh.leave(slow)
    mesh.replica("b")
    assert bodies(mesh.answered(number)) == [b"xab"]
    assert mesh.gateway.core.counts.retries == {"lost": 1}


def test_attempts_are_used_up():
    mesh = SmallMesh("a", attempts=2, timeout=9.0)
    ones = [mesh.replica("a", takes=lambda size: 1.0) for _ in range(3)]
    mesh.settle()
    number = mesh.gateway.submit()
    for _ in range(2):
        mesh.run(0.5)
        (holder,) = [
            one for one in ones if one.me == mesh.gateway.core.in_flight.requests[number].holder
        ]
        mesh.leave(holder)
    (outcome,) = mesh.answered(number)
    assert (outcome.label, outcome.text) == (
        "lost",
        "2 replicas were lost while they held the request",
    )


def test_an_death_notice_is_believed_before_the_link_closes():
    mesh = SmallMesh("a")
    supervisor = mesh.join(Supervision(mesh, mesh.addresses, 3.0))
    dead = mesh.replica("a", takes=lambda size: 2.0, parent=supervisor.me)
    mesh.settle()
    number = mesh.gateway.submit()
    mesh.run(0.1)
    mesh.replica("a")
    mesh.run(0.5)
    dead.stalled = True
    core = mesh.gateway.core
    for _ in range(2):  # a second one changes nothing
        told = core.links.sessions[supervisor.me], (), Death(dead.me, "a", 9, 0, [])
        core.delivered(told, mesh.now)
        mesh.gateway.turn()
    assert bodies(mesh.answered(number, within=0.1)) == [b"xa"]
    assert core.counts.retries == {"lost": 1}
    assert core.counts.deaths == {"signal": 1}


def test_a_result_of_the_attempt_that_was_given_up_still_counts():
    mesh = SmallMesh("a")
    first = mesh.replica("a", takes=lambda size: 0.4)
    mesh.settle()
    number = mesh.gateway.submit()
    mesh.run(0.01)
    second = mesh.replica("a", takes=lambda size: 2.0)
    mesh.run(0.2)
    request = mesh.gateway.core.in_flight.requests[number]
    mesh.gateway.core.in_flight.again(request, first.me)  # a false alarm
    mesh.gateway.core.dispatchers[request.hops[0]].push(request)
    mesh.gateway.turn()
    assert bodies(mesh.answered(number, within=0.5)) == [b"xa"]
    mesh.run(0.01)
    assert request.holder == second.me
    assert [m.numbers for m in second.heard if type(m) is Cancel] == [[number]]


def test_a_stage_that_must_not_run_twice_is_not_run_twice():
    mesh = SmallMesh("a", "b")
    mesh.replica("a")
    once = mesh.replica("b", repeatable=False, takes=lambda size: 1.0)
    mesh.settle()
    number = mesh.gateway.submit()
    mesh.run(0.1)
    assert mesh.gateway.core.counts.hub_hops == 1  # only the owner sends into it
    mesh.leave(once)
    other = mesh.replica("b", repeatable=False)
    (outcome,) = mesh.answered(number)
    assert outcome.label == "lost"
    assert other.computed == []


def test_a_broken_feed_link_does_not_make_a_stage_run_twice():
    mesh = SmallMesh("a", "b", "c", timeout=9.0)
    first = mesh.replica("a", takes=lambda size: 0.01)
    seconds = [mesh.replica("b", takes=lambda size: 0.4) for _ in range(2)]
    once = mesh.replica("c", repeatable=False, takes=lambda size: 1.0)
    mesh.settle()
    number = mesh.gateway.submit()
    assert mesh.run(1.0, lambda: any(one.batches for one in seconds))
    (holder,) = [one for one in seconds if one.batches]
    mesh.network.block(first.port.name, holder.port.name)
    mesh.network.block(holder.port.name, first.port.name)
    mesh.network.cut(first.port.name, holder.port.name)
    mesh.answered(number)
    mesh.run(2.0)
    assert [one.computed for one in seconds] == [[number], [number]]  # it was in doubt
    assert once.computed == [number]


# --- nobody wants it any more ---------------------------------------------------------------------


def test_a_deadline_passes_everywhere():
    mesh = SmallMesh("a", "b", timeout=0.5)
    first = mesh.replica("a")
    slow = mesh.replica("b", takes=lambda size: 5.0, batch=1)
    mesh.settle()
    numbers = [mesh.gateway.submit() for _ in range(6)]
    assert labels(mesh.answered(*numbers, within=0.6)) == ["deadline_exceeded"] * 6
    assert mesh.gateway.core.counts.expired == 6
    mesh.run(6.0)
    assert len(slow.computed) == 1
    assert len(first.core.held) == 0
    assert_quiet(mesh)


@pytest.mark.parametrize("after", [0.005, 0.02, 0.1])
def test_a_client_that_leaves_is_forgotten_at_a_later_stage_too(after):
    mesh = SmallMesh("a", "b")
    mesh.replica("a")
    slow = mesh.replica("b", takes=lambda size: 0.5, batch=1)
    mesh.settle()
    first, second = mesh.gateway.submit(), mesh.gateway.submit()
    mesh.run(after)
    assert mesh.gateway.core.gone(second) is not None
    assert mesh.gateway.core.gone(second) is None
    mesh.gateway.turn()
    mesh.answered(first)
    assert slow.computed == [first]
    assert second not in mesh.gateway.answers
    assert mesh.gateway.core.counts.cancelled == 1
    mesh.run(1.0)
    assert_quiet(mesh)


@pytest.mark.parametrize(
    ("after", "within"),
    [
        # Who holds it is told by a note, and the ack before it: each waits for 50 ms at most.
        (0.0111, 0.101),
        (0.2, 0.0003),  # known: one message, and it is gone
    ],
)
def test_the_last_queue_forgets_a_client_as_soon_as_it_is_known_to_hold_its_request(after, within):
    mesh = SmallMesh("a", "b")
    mesh.replica("a")
    slow = mesh.replica("b", takes=lambda size: 1.0, batch=1)
    mesh.settle()
    numbers = [mesh.gateway.submit(), mesh.gateway.submit()]
    mesh.run(after)
    assert len(slow.core.batcher) == 1
    left = mesh.now
    mesh.gateway.core.gone(numbers[1])
    mesh.gateway.turn()
    assert mesh.run(1.0, lambda: len(slow.core.batcher) == 0)
    assert mesh.now - left <= within
    mesh.answered(numbers[0])
    assert slow.computed == [numbers[0]]
    assert_quiet(mesh)


@pytest.mark.parametrize("after", [0.0, 0.0003, 0.0006])
def test_a_client_leaves_while_its_large_body_is_on_its_way(after):
    mesh = SmallMesh("a")
    one = mesh.replica("a", pool=64 * MIB)
    mesh.settle()
    numbers = [mesh.gateway.submit(bytes(20 * MIB)) for _ in range(3)]
    mesh.run(after)
    for number in numbers[1], numbers[0]:
        mesh.gateway.core.gone(number)
    mesh.gateway.turn()
    mesh.answered(numbers[2])
    assert one.computed == [numbers[2]]
    assert_quiet(mesh)


def test_a_client_leaves_while_its_output_waits_at_the_owner():
    mesh = SmallMesh("a", "b")
    mesh.replica("a")
    earlier = mesh.replica("b")
    mesh.settle()
    number = mesh.gateway.submit()
    mesh.run(0.005)
    mesh.leave(earlier)
    mesh.run(0.1)
    dispatcher = mesh.gateway.core.dispatchers["b", "r"]
    assert len(dispatcher.waiting) == 1
    mesh.gateway.core.gone(number)
    assert len(dispatcher.waiting) == 0
    later = mesh.replica("b")
    mesh.run(0.5)
    assert later.computed == []
    assert_quiet(mesh)


@pytest.mark.parametrize("which", [1, 2])
def test_nothing_sets_out_while_a_stage_of_its_path_is_gone(which):
    mesh = SmallMesh("a", "b", "c")
    ones = [mesh.replica(name) for name in "abc"]
    mesh.settle()
    mesh.leave(ones[which])
    mesh.run(0.3)
    numbers = [mesh.gateway.submit() for _ in range(5)]
    mesh.run(0.5)
    assert [one.computed for one in ones] == [[], [], []]
    mesh.replica("abc"[which])
    assert bodies(mesh.answered(*numbers)) == [b"xabc"] * 5
    assert not mesh.gateway.core.counts.retries
    assert_quiet(mesh)


def test_a_stage_without_replicas_is_named_after_two_seconds():
    mesh = SmallMesh("a", "b", timeout=9.0)
    mesh.replica("a")
    mesh.run(1.5)
    number = mesh.gateway.submit()
    (outcome,) = mesh.answered(number, within=0.6)
    assert (outcome.label, outcome.text) == ("no_replica", "stage b has no replica")
    assert mesh.gateway.core.absent(mesh.hops, mesh.now) == ("b", "r")
    mesh.replica("b")
    mesh.run(0.5)
    assert mesh.gateway.core.absent(mesh.hops, mesh.now) is None


# --- credit ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "seconds"), [(8, 0.020), (1, 0.001), (1, 0.020)])
def test_two_gateways_of_unequal_traffic_fill_a_stage(batch, seconds):
    mesh = SmallMesh("a", gateways=2, timeout=60.0)
    one = mesh.replica("a", batch=batch, takes=lambda size: seconds * (size if batch == 1 else 1))
    mesh.settle()
    busy, calm = mesh.gateways
    amount = int(batch / seconds * 1.2)
    [busy.submit() for _ in range(9 * amount // 10)]
    [calm.submit() for _ in range(amount // 10)]
    began, one.busy = mesh.now, 0.0
    mesh.run(1.0)
    full = sum(len(each) for each in one.batches)
    assert one.busy / (mesh.now - began) >= 0.95
    assert full / (batch / seconds) >= 0.95
    assert len(calm.answers) == amount // 10
    mesh.run(1.0)
    assert_quiet(mesh)


def test_two_upstream_replicas_and_a_gateway_share_a_later_stage():
    mesh = SmallMesh("a", "b", timeout=60.0)
    for _ in range(3):
        mesh.replica("a", takes=lambda size: 0.001)
    last = mesh.replica("b", batch=8, takes=lambda size: 0.02)
    mesh.settle()
    began, last.busy = mesh.now, 0.0
    numbers = [mesh.gateway.submit() for _ in range(400)]
    mesh.answered(*numbers)
    assert last.busy / (mesh.now - began) >= 0.95
    assert mesh.gateway.core.counts.hub_hops == 0
    assert_quiet(mesh)


def test_a_body_larger_than_anybodys_slice_of_the_pool_holds_up_nobody():
    mesh = SmallMesh("a", gateways=2)
    mesh.replica("a", pool=8 * MIB)
    mesh.settle()
    one, other = mesh.gateways
    big = [one.submit(bytes(5 * MIB)) for _ in range(3)]
    small = [one.submit() for _ in range(30)]
    mesh.answered(*big, *small, gateway=one, within=0.5)
    mesh.answered(other.submit(bytes(8 * MIB)), gateway=other, within=0.5)
    assert_quiet(mesh)


@pytest.mark.parametrize("feed", [True, False])
def test_an_output_larger_than_the_next_stages_pool_fails_alone(feed):
    mesh = SmallMesh("a", "b")
    mesh.replica("a", work=lambda body: bytes(5 * MIB) if body == b"big" else body, feed=feed)
    mesh.replica("b", pool=4 * MIB)
    mesh.settle()
    numbers = [mesh.gateway.submit(b"big" if n == 3 else b"ok") for n in range(8)]
    outcomes = mesh.answered(*numbers, within=0.5)
    assert labels(outcomes) == ["", "", "", "encoding_error", "", "", "", ""]
    assert "5242880 bytes, and a replica of stage b takes 4194304" in outcomes[3].text
    assert_quiet(mesh)


# --- drain ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("at", [0.005, 0.013, 0.031])
def test_a_replica_that_stops_under_load_loses_nothing_and_uses_up_nothing(which, at):
    mesh = SmallMesh("a", "b", timeout=9.0)
    firsts = [mesh.replica(name) for name in "ab"]
    for name in "ab":
        mesh.replica(name)
    mesh.settle()
    numbers = [mesh.gateway.submit() for _ in range(60)]
    mesh.run(at)
    leaving = firsts[which]
    leaving.core.drain(mesh.now)
    leaving.node.flush(mesh.now)
    assert mesh.run(0.5, lambda: leaving not in mesh.members), "it never ends"
    assert bodies(mesh.answered(*numbers)) == [b"xab"] * 60
    core = mesh.gateway.core
    assert not core.counts.retries
    assert core.in_flight.late == 0
    assert_quiet(mesh)


def test_tasks_that_were_never_begun_go_elsewhere():
    mesh = SmallMesh("a", timeout=9.0)
    slow = mesh.replica("a", takes=lambda size: 1.0)
    mesh.settle()
    numbers = [mesh.gateway.submit() for _ in range(8)]
    mesh.run(0.1)
    other = mesh.replica("a")
    mesh.run(0.1)
    slow.core.drain(mesh.now)
    slow.node.flush(mesh.now)
    mesh.run(0.1)
    assert len(slow.computed) + len(other.computed) == 8
    assert bodies(mesh.answered(*numbers)) == [b"xa"] * 8


def test_all_replicas_stop_one_after_the_other():
    mesh = SmallMesh("a", "b", timeout=20.0)
    ones = [mesh.replica(name) for name in "ab"]
    mesh.settle()
    numbers = []
    for _ in range(6):
        numbers += [mesh.gateway.submit() for _ in range(10)]
        mesh.run(0.02)
        which = len(numbers) // 10 % 2
        fresh = mesh.replica("ab"[which])
        mesh.run(0.2)
        ones[which].core.drain(mesh.now)
        ones[which].node.flush(mesh.now)
        ones[which] = fresh
    assert bodies(mesh.answered(*numbers)) == [b"xab"] * 60
    assert not mesh.gateway.core.counts.retries
    assert_quiet(mesh)


# --- payloads -------------------------------------------------------------------------------------


def test_large_payloads_travel_in_parts_and_straight_on():
    mesh = SmallMesh("a", "b")
    for name in "ab":
        mesh.replica(name)
    mesh.settle()
    big = bytes(5 * MIB)
    numbers = [mesh.gateway.submit(big) for _ in range(3)]
    assert bodies(mesh.answered(*numbers)) == [big + b"ab"] * 3
    assert mesh.gateway.core.counts.hub_hops == 0
    assert_quiet(mesh)


def test_one_item_fails_alone():
    def work(body):
        bad = body == b"bad"
        return ItemOutcome(code="validation_error", text="no") if bad else ItemOutcome([body])

    mesh = SmallMesh("a")
    mesh.replica("a", work=work, batch=8)
    mesh.settle()
    numbers = [mesh.gateway.submit(b"bad" if n == 3 else b"ok") for n in range(8)]
    outcomes = mesh.answered(*numbers)
    assert labels(outcomes) == ["", "", "", "validation_error", "", "", "", ""]


@pytest.mark.parametrize("feed", [True, False])
def test_an_output_that_no_message_can_carry_fails_alone(feed):
    def work(body):
        return ItemOutcome([b"piece"] * (300 if body == b"bad" else 2))

    mesh = SmallMesh("a", "b")
    mesh.replica("a", work=work, batch=8, feed=feed)
    mesh.replica("b")
    mesh.settle()
    numbers = [mesh.gateway.submit(b"bad" if n == 3 else b"ok") for n in range(8)]
    outcomes = mesh.answered(*numbers)
    assert labels(outcomes) == ["", "", "", "encoding_error", "", "", "", ""]
    assert "300 buffers" in outcomes[3].text
    assert outcomes[3].hop == 0
    assert_quiet(mesh)


def test_a_request_that_no_message_can_carry_fails_alone():
    mesh = SmallMesh("a")
    mesh.replica("a")
    mesh.settle()
    meta = Meta("POST", "/inference", "", (("long", "x" * 5 * MIB),))
    numbers = [mesh.gateway.submit(**more) for more in ({"meta": meta}, {"priority": 999}, {})]
    outcomes = mesh.answered(*numbers)
    assert labels(outcomes) == ["bad_request", "server_error", ""]
    assert_quiet(mesh)


def test_a_very_long_error_does_not_cost_the_replica():
    mesh = SmallMesh("a")
    mesh.replica(
        "a", work=lambda body: ItemOutcome(code="bad_request", text="é" * 100_000), batch=512
    )
    mesh.settle()
    outcomes = mesh.answered(*[mesh.gateway.submit() for _ in range(600)])
    assert set(labels(outcomes)) == {"bad_request"}


def test_a_gateway_that_dies_is_forgotten():
    mesh = SmallMesh("a", "b", gateways=2)
    dying, other = mesh.gateways
    first = mesh.replica("a")
    second = mesh.replica("b", takes=lambda size: 0.2)
    mesh.settle()
    [dying.submit() for _ in range(30)]
    mesh.run(0.05)
    assert [len(one.core.held) for one in (first, second)] == [1, 1]
    mesh.leave(dying)
    mesh.gateways.remove(dying)
    mesh.run(15.0)  # until nobody waits for it to come back
    for one in (first, second):
        assert not one.core.held
        assert not one.core.reporting
        assert one.core.reporting.ownerless == 0  # all was done before the session was forgotten
    assert bodies(mesh.answered(other.submit(), gateway=other)) == [b"xab"]
    assert_quiet(mesh)


# --- a forward that lasts longer than any before -------------------------------------------------


class Moody:
    """Seconds that a bundle takes: 30 us for each task, until told otherwise for one."""

    def __init__(self):
        self.next = 0.0

    def __call__(self, size):
        seconds, self.next = self.next or 30e-6 * size, 0.0
        return seconds


def given_back(mesh):
    """How often each task came back to the gateway, never begun."""
    said = (message.outcomes for message in mesh.gateway.heard if type(message) is Outcomes)
    outcomes = (outcome for outcomes in said for outcome in outcomes)
    return Counter(each.number for each in outcomes if each.kind is OutcomeKind.UNSTARTED)


def quick_ones(mesh):
    """Let the stage learn that its forwards are short."""
    for _ in range(20):
        mesh.answered(*[mesh.gateway.submit() for _ in range(64)])


@pytest.mark.parametrize("stages", ["a", "ba"])
def test_what_a_slow_forward_gives_back_does_not_come_straight_back(stages):
    mesh = SmallMesh(*stages, timeout=9.0)
    takes = Moody()
    if len(stages) > 1:
        mesh.replica("b", takes=lambda size: 0.0001, batch=64)
    slow = mesh.replica("a", takes=takes, batch=1)
    mesh.settle()
    quick_ones(mesh)
    assert slow.core.batcher.window == 64
    takes.next = 1.5
    first = mesh.gateway.submit()
    assert mesh.run(0.1, lambda: slow.core.running is not None)
    began, hops = mesh.now, mesh.gateway.core.counts.hub_hops
    numbers = [mesh.gateway.submit() for _ in range(300)]
    mesh.run(1.0)
    assert len(slow.core.batcher) == 2
    # What each who sends to it had been granted when the forward turned out slow, and no more.
    returned = given_back(mesh).total() + mesh.gateway.core.counts.hub_hops - hops
    assert 0 < returned <= 128 * len(stages)
    mesh.answered(first, *numbers)
    assert mesh.now - began < 1.6
    assert_quiet(mesh)


def test_what_a_slow_forward_gives_back_waits_for_a_replica_that_is_not_slow():
    mesh = SmallMesh("a", timeout=9.0)
    takes, steady = Moody(), Moody()
    slow = mesh.replica("a", takes=takes, batch=1)
    other = mesh.replica("a", takes=steady, batch=1)
    mesh.settle()
    quick_ones(mesh)
    takes.next = steady.next = 1.5  # whoever is first
    first, second = mesh.gateway.submit(), mesh.gateway.submit()
    assert mesh.run(0.1, lambda: slow.core.running and other.core.running)
    steady.next = 0.0
    other.ready_at = mesh.now + 0.2  # the other is done long before
    numbers = [mesh.gateway.submit() for _ in range(250)]
    mesh.run(1.0)
    done = set(numbers) & mesh.gateway.answers.keys()
    waiting = [task for _, _, task in slow.core.batcher.line]
    assert len(waiting) == 2
    assert len(done) == 248
    assert max(given_back(mesh).values()) == 1
    mesh.answered(first, second, *numbers)
    assert_quiet(mesh)


def test_a_replica_that_only_fails_attracts_no_traffic():
    mesh = SmallMesh("a", timeout=9.0)
    broken = mesh.replica(
        "a", takes=lambda size: 0.0002, work=lambda body: ItemOutcome(code="server_error", text="")
    )
    mesh.replica("a", takes=lambda size: 0.01)
    mesh.settle()
    numbers = []
    for _ in range(200):
        numbers += [mesh.gateway.submit(), mesh.gateway.submit()]
        mesh.run(0.01)
    failed = labels(mesh.answered(*numbers)).count("server_error")
    assert failed == len(broken.computed)
    assert failed <= 60
    broken.work = lambda body: body + b"a"
    mesh.answered(*[mesh.gateway.submit() for _ in range(800)])  # more than the other takes
    assert mesh.gateway.core.outliers.failing == {}
    assert_quiet(mesh)


def test_small_requests_and_heartbeats_pass_payloads_of_256_mb():
    mesh = SmallMesh("a", timeout=60.0)
    mesh.network.bandwidth = 100e6
    one = mesh.replica("a", work=lambda body: body[:1], batch=8, pool=512 * MIB)
    mesh.settle()
    large = [mesh.gateway.submit(bytes(64 * MIB)) for _ in range(4)]
    there, here = (
        mesh.gateway.core.links.sessions[one.me],
        one.core.links.sessions[mesh.gateway.me],
    )
    took, trips = [], []
    while not set(large) <= mesh.gateway.answers.keys():
        asked = mesh.now
        mesh.answered(mesh.gateway.submit(b"small"))
        took.append(mesh.now - asked)
        mesh.run(0.05)
        trips.append(max(there.vitals.round_trip, here.vitals.round_trip))
    assert mesh.now > 102.5  # it did take as long as the bandwidth makes it
    assert len(took) > 10
    assert max(took) < 0.3
    assert max(trips) < 0.2
    mesh.network.bandwidth = float("inf")
    assert_quiet(mesh)
