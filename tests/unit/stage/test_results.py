"""What the items of a batch become."""

from mesh.protocol.messages import Meta, OutcomeKind, Task
from stage.batching.batcher import Batch
from stage.item_outcome import ItemOutcome
from stage.results import handed_back, results_of, run_again, unsendable

META = Meta("POST", "/x", "", ())


def task(hops=(("a", ""),), hop=0):
    timings = (1, 2) * hop
    return Task(7, 3, hops, hop, 2, 9.0, [b"in"], 2, 1, 1, "trace", timings, META, "a-1", (5,), 6)


def batch(*tasks):
    return Batch(list(tasks), "size", 0.002, False)


def test_the_last_stage_gives_a_result():
    (outcome,) = results_of(batch(task(hop=1)), [ItemOutcome([b"out"], seconds=0.5)])
    assert (outcome.number, outcome.attempt, outcome.kind, outcome.hop) == (
        3,
        2,
        OutcomeKind.RESULT,
        1,
    )
    assert outcome.timings == (1, 2, 2000, 500_000)
    assert outcome.buffers == [b"out"]


def test_a_result_says_how_its_answer_shall_look():
    item = ItemOutcome([b"out"], status=201, headers=(("A", "b"),), content_type="text/plain")
    (outcome,) = results_of(batch(task()), [item])
    assert (outcome.label, outcome.status, outcome.headers) == ("text/plain", 201, (("A", "b"),))
    assert outcome.text == ""


def test_an_earlier_stage_gives_the_task_for_the_next():
    given = task((("a", ""), ("b", "")))
    (output,) = results_of(batch(given), [ItemOutcome([b"ou", b"t"], seconds=0.5)])
    assert (output.hops, output.hop, output.nbytes) == ((("b", ""),), 1, 3)
    assert (output.id, output.attempt, output.deadline) == (given.id, 2, 9.0)
    assert (output.flags, output.priority, output.trace, output.meta) == (1, 1, "trace", META)
    assert (output.buffers, output.timings) == ([b"ou", b"t"], (2000, 500_000))
    assert (output.request_id, output.tried, output.source) == ("a-1", (), 0)


def test_one_item_fails_alone():
    items = [ItemOutcome([b"out"]), ItemOutcome([b"why"], code="decoding_error", text="no JSON")]
    good, bad = results_of(batch(task(), task()), items)
    assert good.kind is OutcomeKind.RESULT
    assert (bad.kind, bad.label, bad.text) == (OutcomeKind.FAILURE, "decoding_error", "no JSON")
    assert bad.buffers == [b"why"]
    assert (bad.hop, bad.timings) == (0, (2000, 0))


def late(*tasks):
    items = [ItemOutcome(code="forward_timeout", text="late") for _ in tasks]
    return batch(*tasks), results_of(batch(*tasks), items)


def test_of_a_batch_that_was_interrupted_run_again_those_that_have_time_left():
    one, two = task(), task()
    assert run_again(*late(one, two), now=8.9) == [one, two]
    assert run_again(*late(one, two), now=9.0) == []
    assert run_again(*late(one), now=1.0) == []  # it was alone


def test_what_was_not_interrupted_does_not_run_again():
    one, two = task(), task()
    interrupted, results = late(one, two)
    singly = interrupted._replace(single=True)
    assert run_again(singly, results, now=1.0) == []
    (good,) = results_of(batch(one), [ItemOutcome([b"out"])])
    assert run_again(interrupted, [good, results[1]], now=1.0) == []
    assert run_again(interrupted, [results[0], good], now=1.0) == []


def test_what_cannot_be_sent_on_is_a_failure_and_what_goes_by_the_owner_is_no_end():
    given = task(hop=1)
    failure, back = unsendable(given, 0, "too large"), handed_back(given)
    assert (failure.kind, failure.label, failure.hop) == (OutcomeKind.FAILURE, "encoding_error", 0)
    assert (back.kind, back.hop, back.buffers) == (OutcomeKind.HANDBACK, 1, [b"in"])
