"""The book: whatever is said of a request, in any order and any number of times, ends it once."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.requests.in_flight import Book, Request, onward
from mesh.protocol.messages import Flag, Kind, Note, Outcome

PATH = (("a", ""), ("b", ""), ("c", ""))
HOLDERS = (11, 12, 13)


def request(book, deadline=9.0, **more):
    return Request(book.owner, book.next_number(), PATH, 0, 1, deadline, [b"x"], 1, **more)


def entered(book, **more):
    made = request(book, **more)
    book.enter(made)
    return made


def outcome(number, kind=Kind.RESULT, attempt=1, hop=2):
    return Outcome(number, attempt, kind, hop, buffers=[b"y"])


def settled(book, said):
    return book.settle(said, book.requests.get(said.number))


def test_numbers_are_never_given_twice():
    book = Book(7, 3)
    assert [book.next_number() for _ in range(3)] == [1, 2, 3]


def test_a_result_of_any_attempt_ends_a_request():
    book = Book(7, 3)
    one = entered(book)
    book.assign([one], 11)
    book.again(one, 11)
    ended = settled(book, outcome(one.number, attempt=1))
    assert ended.request is one
    assert ended.outcome.attempt == 1
    assert len(book) == 0
    assert settled(book, outcome(one.number)) is None
    assert book.late == 1


def test_a_failure_counts_only_from_the_newest_attempt():
    book = Book(7, 3)
    one = entered(book)
    book.again(one, 11)
    assert settled(book, outcome(one.number, Kind.FAILURE, attempt=1)) is None
    assert book.late == 1
    assert settled(book, outcome(one.number, Kind.FAILURE, attempt=2)).request is one


def test_notes_move_a_request_forward_only():
    book = Book(7, 3)
    one = entered(book)
    book.assign([one], 11)
    assert book.moved(Note(one.number, 1, 2, 13)) is one
    assert book.moved(Note(one.number, 1, 1, 12)) is one
    assert (one.holder, one.at) == (13, 2)
    assert book.moved(Note(one.number, 2, 3, 12)) is one
    assert (one.holder, one.at) == (13, 2)
    assert book.moved(Note(99, 1, 1, 12)) is None


def test_what_tasks_that_wait_are_still_about():
    book = Book(7, 3)
    one, two, three = (entered(book) for _ in range(3))
    tasks = [onward(each, outcome(each.number, Kind.HANDBACK, hop=1)) for each in (one, two, three)]
    book.again(two, 11)
    book.drop(three.number)
    assert book.still(tasks) == [one]


def test_an_attempt_begins_where_the_last_holder_is_not():
    book = Book(7, 3)
    one = entered(book)
    for attempt, holder in enumerate(HOLDERS[:2], 2):
        book.assign([one], holder)
        book.again(one, holder)
        assert (one.attempt, one.holder, one.at) == (attempt, 0, 0)
    book.returned(one, 20)
    assert (one.attempt, one.tried) == (3, (11, 12, 20))
    book.assign([one], 13)
    book.hedge(one)
    assert (one.attempt, one.earlier) == (4, (13,))
    assert one.flags & Flag.HEDGE
    assert one.number in book.requests


def test_only_the_last_eight_replicas_tried_are_remembered():
    book = Book(7, 3)
    one = entered(book)
    for holder in range(20):
        book.returned(one, holder)
    assert one.tried == tuple(range(12, 20))


def test_whose_holder_is_who():
    book = Book(7, 3)
    one, two = entered(book), entered(book)
    book.assign([one], 11)
    book.assign([two, request(book)], 12)  # of the last nothing is known
    assert book.held_by(12) == [two]


def test_what_has_expired_is_found_and_the_earliest_deadline_kept():
    book = Book(7, 3)
    assert book.expired(1e9) == []
    late, soon, middle, last = (entered(book, deadline=at) for at in (9.0, 3.0, 5.0, 9.0))
    assert book.earliest == 3.0
    assert book.expired(2.9) == []
    assert book.expired(3.0) == [soon]
    assert book.earliest == 5.0
    assert soon.number in book.requests
    book.drop(soon.number)
    assert book.expired(9.0) == [late, middle, last]


def test_an_error_of_the_gateways_own():
    book = Book(7, 3)
    one = entered(book)
    book.assign([one], 11)
    ended = book.fail(one.number, "no_replica", "stage a has no replica")
    assert (ended.outcome.kind, ended.outcome.label) == (Kind.FAILURE, "no_replica")
    assert ended.outcome.text == "stage a has no replica"
    assert book.fail(one.number, "lost", "again") is None


def test_a_dropped_request_is_forgotten():
    book = Book(7, 3)
    one = entered(book)
    assert book.drop(one.number) is one
    assert book.drop(one.number) is None


def test_the_attempt_decides_whether_an_intermediate_outcome_counts():
    book = Book(7, 3)
    one = entered(book)
    assert book.current(outcome(one.number, Kind.HANDBACK)) is one
    assert book.current(outcome(one.number, Kind.HANDBACK, attempt=2)) is None
    assert book.current(outcome(99, Kind.HANDBACK)) is None
    assert book.late == 2


def test_only_a_step_forward_or_its_holder_gives_a_request_back():
    book = Book(7, 3)
    one = entered(book)

    def may(kind, hop, sender):
        return book.may_return(one, outcome(one.number, kind, hop=hop), sender)

    back, unstarted = Kind.HANDBACK, Kind.UNSTARTED
    book.assign([one], 11)
    assert [may(back, hop, 99) for hop in (0, 1, 2, 3)] == [False, True, True, False]
    assert [may(unstarted, hop, 11) for hop in (0, 1)] == [True, False]
    assert not may(unstarted, 0, 12)
    assert not may(back, 0, 11)
    book.moved(Note(one.number, 1, 1, 12))
    assert [may(back, 1, sender) for sender in (11, 12)] == [False, True]
    assert not may(unstarted, 1, 12)
    assert book.late == 7


def test_the_task_of_an_output_that_was_handed_back():
    book = Book(7, 3)
    one = entered(book, trace="t", tried=(11,))
    back = Outcome(one.number, 1, Kind.HANDBACK, 1, (5, 6), [b"ab", b"c"])
    task = onward(one, back)
    assert (task.path, task.hop, task.nbytes) == (PATH[1:], 1, 3)
    assert (task.buffers, task.timings) == ([b"ab", b"c"], (5, 6))
    assert (task.trace, task.tried) == ("t", (11,))
    assert task.id == one.id
    assert one.path == PATH


# --- the promise ---------------------------------------------------------------------------------

numbers = st.integers(1, 4)
attempts = st.integers(1, 4)
events = st.lists(
    st.one_of(
        st.tuples(
            st.just("outcome"), numbers, st.sampled_from([Kind.RESULT, Kind.FAILURE]), attempts
        ),
        st.tuples(st.just("note"), numbers, attempts, st.integers(0, 2), st.sampled_from(HOLDERS)),
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
        self.book = Book(7, 3)
        self.requests = {
            r.number: r for r in (entered(self.book, deadline=9.0) for _ in range(count))
        }
        self.ends = dict.fromkeys(self.requests, 0)

    def end(self, ended):
        if ended is not None:
            self.ends[ended.request.number] += 1

    def outcome(self, number, kind, attempt):
        self.end(settled(self.book, outcome(number, kind, attempt)))

    def note(self, number, attempt, hop, holder):
        before = self.requests[number].at if number in self.requests else 0
        moved = self.book.moved(Note(number, attempt, hop, holder))
        assert moved is None or moved.at >= before

    def assign(self, number, holder):
        if number in self.requests:
            self.book.assign([self.requests[number]], holder)

    def lost(self, holder):
        for one in self.book.held_by(holder):
            if one.deaths + 1 < self.book.max_attempts:
                one.deaths += 1
                self.book.again(one, holder)
            else:
                self.end(self.book.fail(one.number, "lost", "attempts used up"))

    def silent(self, holder):
        for one in self.book.held_by(holder):
            self.book.hedge(one)

    def unstarted(self, number, attempt, holder):
        one = self.book.current(outcome(number, Kind.UNSTARTED, attempt))
        if one is not None:
            self.book.returned(one, holder)

    def handback(self, number, attempt, hop):
        back = outcome(number, Kind.HANDBACK, attempt, hop)
        one = self.book.current(back)
        if one is not None:
            one.holder, one.at = 0, hop
            self.book.assign([onward(one, back)], HOLDERS[0])

    def expire(self, now):
        for one in self.book.expired(now):
            self.end(self.book.fail(one.number, "deadline_exceeded", "over"))

    def gone(self, number):
        if self.book.drop(number) is not None:
            self.ends[number] += 1


@given(st.integers(1, 3), events)
def test_every_accepted_request_is_ended_exactly_once(count, history):
    play = Play(count)
    for name, *arguments in history:
        getattr(play, name)(*arguments)
        assert all(
            times == (number not in play.book.requests) for number, times in play.ends.items()
        )
    play.expire(10.0)
    assert set(play.ends.values()) == {1}
    assert len(play.book) == 0
