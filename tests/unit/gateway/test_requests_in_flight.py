"""The in-flight table: whatever is said of a request, in any order and any number of times, ends it
once."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.requests.in_flight import InFlightTable, Request, forwarding
from mesh.protocol.messages import Flag, HandoffNotice, Outcome, OutcomeKind

PATH = (("a", ""), ("b", ""), ("c", ""))
HOLDERS = (11, 12, 13)


def request(in_flight, deadline=9.0, **more):
    return Request(
        in_flight.owner, in_flight.next_number(), PATH, 0, 1, deadline, [b"x"], 1, **more
    )


def entered(in_flight, **more):
    made = request(in_flight, **more)
    in_flight.enter(made)
    return made


def outcome(number, kind=OutcomeKind.RESULT, attempt=1, hop=2):
    return Outcome(number, attempt, kind, hop, buffers=[b"y"])


def settled(in_flight, said):
    return in_flight.settle(said, in_flight.requests.get(said.number))


def test_numbers_are_never_given_twice():
    in_flight = InFlightTable(7, 3)
    assert [in_flight.next_number() for _ in range(3)] == [1, 2, 3]


def test_a_result_of_any_attempt_ends_a_request():
    in_flight = InFlightTable(7, 3)
    one = entered(in_flight)
    in_flight.assign([one], 11)
    in_flight.again(one, 11)
    ended = settled(in_flight, outcome(one.number, attempt=1))
    assert ended.request is one
    assert ended.outcome.attempt == 1
    assert len(in_flight) == 0
    assert settled(in_flight, outcome(one.number)) is None
    assert in_flight.late == 1


def test_a_failure_counts_only_from_the_newest_attempt():
    in_flight = InFlightTable(7, 3)
    one = entered(in_flight)
    in_flight.again(one, 11)
    assert settled(in_flight, outcome(one.number, OutcomeKind.FAILURE, attempt=1)) is None
    assert in_flight.late == 1
    assert settled(in_flight, outcome(one.number, OutcomeKind.FAILURE, attempt=2)).request is one


def test_notes_move_a_request_forward_only():
    in_flight = InFlightTable(7, 3)
    one = entered(in_flight)
    in_flight.assign([one], 11)
    assert in_flight.moved(one, HandoffNotice(one.number, 1, 2, 13))
    assert not in_flight.moved(one, HandoffNotice(one.number, 1, 1, 12))
    assert (one.holder, one.at) == (13, 2)
    assert not in_flight.moved(one, HandoffNotice(one.number, 2, 3, 12))
    assert (one.holder, one.at) == (13, 2)


def test_what_tasks_that_wait_are_still_about():
    in_flight = InFlightTable(7, 3)
    one, two, three = (entered(in_flight) for _ in range(3))
    tasks = [
        forwarding(each, outcome(each.number, OutcomeKind.HANDBACK, hop=1))
        for each in (one, two, three)
    ]
    in_flight.again(two, 11)
    in_flight.drop(three.number)
    assert in_flight.still(tasks) == [one]


def test_an_attempt_begins_where_the_last_holder_is_not():
    in_flight = InFlightTable(7, 3)
    one = entered(in_flight)
    for attempt, holder in enumerate(HOLDERS[:2], 2):
        in_flight.assign([one], holder)
        in_flight.again(one, holder)
        assert (one.attempt, one.holder, one.at) == (attempt, 0, 0)
    in_flight.returned(one, 20)
    assert (one.attempt, one.tried) == (3, (11, 12, 20))
    in_flight.assign([one], 13)
    in_flight.hedge(one)
    assert (one.attempt, one.earlier) == (4, (13,))
    assert one.flags & Flag.HEDGE
    assert one.number in in_flight.requests


def test_only_the_last_eight_replicas_tried_are_remembered():
    in_flight = InFlightTable(7, 3)
    one = entered(in_flight)
    for holder in range(20):
        in_flight.returned(one, holder)
    assert one.tried == tuple(range(12, 20))


def test_whose_holder_is_who():
    in_flight = InFlightTable(7, 3)
    one, two = entered(in_flight), entered(in_flight)
    in_flight.assign([one], 11)
    in_flight.assign([two, request(in_flight)], 12)  # of the last nothing is known
    assert in_flight.held_by(12) == [two]


def test_what_has_expired_is_found_and_the_earliest_deadline_kept():
    in_flight = InFlightTable(7, 3)
    assert in_flight.expired(1e9) == []
    late, soon, middle, last = (entered(in_flight, deadline=at) for at in (9.0, 3.0, 5.0, 9.0))
    assert in_flight.earliest == 3.0
    assert in_flight.expired(2.9) == []
    assert in_flight.expired(3.0) == [soon]
    assert in_flight.earliest == 5.0
    assert soon.number in in_flight.requests
    in_flight.drop(soon.number)
    assert in_flight.expired(9.0) == [late, middle, last]


def test_an_error_of_the_gateways_own():
    in_flight = InFlightTable(7, 3)
    one = entered(in_flight)
    in_flight.assign([one], 11)
    ended = in_flight.fail(one.number, "no_replica", "stage a has no replica")
    assert (ended.outcome.kind, ended.outcome.label) == (OutcomeKind.FAILURE, "no_replica")
    assert ended.outcome.text == "stage a has no replica"
    assert in_flight.fail(one.number, "lost", "again") is None


def test_a_dropped_request_is_forgotten():
    in_flight = InFlightTable(7, 3)
    one = entered(in_flight)
    assert in_flight.drop(one.number) is one
    assert in_flight.drop(one.number) is None


def test_the_attempt_decides_whether_an_intermediate_outcome_counts():
    in_flight = InFlightTable(7, 3)
    one = entered(in_flight)
    assert in_flight.current(outcome(one.number, OutcomeKind.HANDBACK)) is one
    assert in_flight.current(outcome(one.number, OutcomeKind.HANDBACK, attempt=2)) is None
    assert in_flight.current(outcome(99, OutcomeKind.HANDBACK)) is None
    assert in_flight.late == 2


def test_only_a_step_forward_or_its_holder_gives_a_request_back():
    in_flight = InFlightTable(7, 3)
    one = entered(in_flight)

    def may(kind, hop, sender):
        return in_flight.may_return(one, outcome(one.number, kind, hop=hop), sender)

    back, unstarted = OutcomeKind.HANDBACK, OutcomeKind.UNSTARTED
    in_flight.assign([one], 11)
    assert [may(back, hop, 99) for hop in (0, 1, 2, 3)] == [False, True, True, False]
    assert [may(unstarted, hop, 11) for hop in (0, 1)] == [True, False]
    assert not may(unstarted, 0, 12)
    assert not may(back, 0, 11)
    in_flight.moved(one, HandoffNotice(one.number, 1, 1, 12))
    assert [may(back, 1, sender) for sender in (11, 12)] == [False, True]
    assert not may(unstarted, 1, 12)
    assert in_flight.late == 7


def test_the_task_of_an_output_that_was_handed_back():
    in_flight = InFlightTable(7, 3)
    one = entered(in_flight, trace="t", tried=(11,))
    back = Outcome(one.number, 1, OutcomeKind.HANDBACK, 1, (5, 6), [b"ab", b"c"])
    task = forwarding(one, back)
    assert (task.hops, task.hop, task.nbytes) == (PATH[1:], 1, 3)
    assert (task.buffers, task.timings) == ([b"ab", b"c"], (5, 6))
    assert (task.trace, task.tried) == ("t", (11,))
    assert task.id == one.id
    assert one.hops == PATH


# --- the promise ---------------------------------------------------------------------------------

numbers = st.integers(1, 4)
attempts = st.integers(1, 4)
events = st.lists(
    st.one_of(
        st.tuples(
            st.just("outcome"),
            numbers,
            st.sampled_from([OutcomeKind.RESULT, OutcomeKind.FAILURE]),
            attempts,
        ),
        st.tuples(
            st.just("notice"), numbers, attempts, st.integers(0, 2), st.sampled_from(HOLDERS)
        ),
        st.tuples(st.just("assign"), numbers, st.sampled_from(HOLDERS)),
        st.tuples(st.just("lost"), st.sampled_from(HOLDERS)),
        st.tuples(st.just("silent"), st.sampled_from(HOLDERS)),
        st.tuples(st.just("unstarted"), numbers, attempts, st.sampled_from(HOLDERS)),
        st.tuples(st.just("handback"), numbers, attempts, st.integers(1, 2)),
        st.tuples(st.just("expire"), st.floats(0.0, 10.0)),
        st.tuples(st.just("gone"), numbers),
    ),
    max_size=60,
)


class Play:
    """Does to a book what the gateway's core does, and keeps account of how requests end."""

    def __init__(self, count):
        self.in_flight = InFlightTable(7, 3)
        self.requests = {
            r.number: r for r in (entered(self.in_flight, deadline=9.0) for _ in range(count))
        }
        self.ends = dict.fromkeys(self.requests, 0)

    def end(self, ended):
        if ended is not None:
            self.ends[ended.request.number] += 1

    def outcome(self, number, kind, attempt):
        self.end(settled(self.in_flight, outcome(number, kind, attempt)))

    def notice(self, number, attempt, hop, holder):
        request = self.in_flight.requests.get(number)
        if request is not None:
            before = request.at
            moved = self.in_flight.moved(request, HandoffNotice(number, attempt, hop, holder))
            assert request.at > before if moved else request.at == before

    def assign(self, number, holder):
        if number in self.requests:
            self.in_flight.assign([self.requests[number]], holder)

    def lost(self, holder):
        for one in self.in_flight.held_by(holder):
            if one.deaths + 1 < self.in_flight.max_attempts:
                one.deaths += 1
                self.in_flight.again(one, holder)
            else:
                self.end(self.in_flight.fail(one.number, "lost", "attempts used up"))

    def silent(self, holder):
        for one in self.in_flight.held_by(holder):
            self.in_flight.hedge(one)

    def unstarted(self, number, attempt, holder):
        one = self.in_flight.current(outcome(number, OutcomeKind.UNSTARTED, attempt))
        if one is not None:
            self.in_flight.returned(one, holder)

    def handback(self, number, attempt, hop):
        back = outcome(number, OutcomeKind.HANDBACK, attempt, hop)
        one = self.in_flight.current(back)
        if one is not None:
            one.holder, one.at = 0, hop
            self.in_flight.assign([forwarding(one, back)], HOLDERS[0])

    def expire(self, now):
        for one in self.in_flight.expired(now):
            self.end(self.in_flight.fail(one.number, "deadline_exceeded", "over"))

    def gone(self, number):
        if self.in_flight.drop(number) is not None:
            self.ends[number] += 1


@given(st.integers(1, 3), events)
def test_every_accepted_request_is_ended_exactly_once(count, history):
    play = Play(count)
    for name, *arguments in history:
        getattr(play, name)(*arguments)
        assert all(
            times == (number not in play.in_flight.requests) for number, times in play.ends.items()
        )
    play.expire(10.0)
    assert set(play.ends.values()) == {1}
    assert len(play.in_flight) == 0
