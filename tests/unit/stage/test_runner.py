"""One outcome per task, whatever the user's code does."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from mesh.errors import (
    ClientError,
    DecodingError,
    ForwardTimeout,
    MeshError,
    ServerError,
    SettingsError,
    StartError,
    ValidationError,
)
from mesh.logs.failure_text import line_of
from mesh.protocol.messages import Buffer, Task
from mesh.protocol.request_names import namer
from mesh.worker.base import Worker
from mesh.worker.codec import decode, encode
from mesh.worker.request_info import Reply, RequestFacts
from stage.batching.estimates import LONG_FORWARD_S
from stage.item_outcome import ItemOutcome
from stage.runner import Runner

ONLY = (("s", ""),)
FIRST = (("s", ""), ("t", ""))


STEP = 2.0**-16  # seconds


class Clock:
    """Moves whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += STEP
        return self.now


class Scripted(Worker):
    """Does what the test says, and counts."""

    def __init__(self, forward: Callable[[Any], Any] = lambda data: data) -> None:
        self.calls = 0
        self.function = forward

    def forward(self, data: Any) -> Any:
        self.calls += 1
        return self.function(data)


def named(owner: int, number: int) -> str:
    return namer(owner)(number).decode()


def task(body: Any, *, hops: tuple[tuple[str, str], ...] = ONLY, hop: int = 0) -> Task:
    buffers: list[Buffer] = body if type(body) is list else [body]
    return Task(1, 1, hops, hop, 1, 9.0, buffers, sum(map(len, buffers)))


def jsons(*values: Any) -> list[Task]:
    return [task(json.dumps(value).encode()) for value in values]


def runner(worker: Worker, *, batching: bool = True, clock: Clock | None = None) -> Runner:
    return Runner(worker, batching=batching, log=logging.getLogger("test"), clock=clock or Clock())


def bodies(outcomes: list[ItemOutcome]) -> list[Any]:
    return [
        json.loads(b"".join(outcome.buffers)) if not outcome.code else outcome.code
        for outcome in outcomes
    ]


def test_a_batch_is_one_forward() -> None:
    worker = Scripted(lambda items: [2 * item for item in items])
    outcomes = runner(worker).run(jsons(1, 2, 3))
    assert bodies(outcomes) == [2, 4, 6]
    assert worker.calls == 1
    assert [outcome.seconds for outcome in outcomes] == [STEP] * 3


def test_without_batching_each_task_has_its_own_forward_and_time() -> None:
    worker = Scripted(lambda item: 2 * item)
    outcomes = runner(worker, batching=False).run(jsons(1, 2))
    assert bodies(outcomes) == [2, 4]
    assert worker.calls == 2
    assert [outcome.seconds for outcome in outcomes] == [STEP, STEP]


def test_when_one_by_one_turns_out_slow_the_rest_is_not_begun() -> None:
    clock = Clock()

    def forward(item: Any) -> Any:
        clock.now += LONG_FORWARD_S * (item == 2)
        return item

    one = runner(Scripted(forward), batching=False, clock=clock)
    tasks = jsons(1, 2, 3, 4)
    outcomes = one.run(tasks)
    assert bodies(outcomes) == [1, 2]
    assert (one.tasks, one.done) == (tasks, outcomes)
    assert one.give_up() == tasks[2:]
    assert one.give_up() == []
    one.clear()
    assert (one.tasks, one.done) == ((), [])


def test_after_an_interruption_the_rest_is_not_begun() -> None:
    one = runner(Scripted(raising(ForwardTimeout())), batching=False)
    tasks = jsons(1, 2)
    assert bodies(one.run(tasks)) == ["forward_timeout"]
    assert one.give_up() == tasks[1:]


def test_another_may_take_what_was_not_begun() -> None:
    taken: list[Task] = []

    def forward(item: Any) -> Any:
        if item == 2:
            assert one.tasks is tasks
            assert bodies(one.done) == [1]
            taken.extend(one.give_up())
        return item

    one = runner(Scripted(forward), batching=False)
    tasks = jsons(1, 2, 3, 4)
    assert bodies(one.run(tasks)) == [1, 2]
    assert taken == tasks[2:]


def test_a_batch_is_all_begun() -> None:
    one = runner(Scripted(lambda items: [one.give_up() for _ in items]))
    assert bodies(one.run(jsons(1, 2))) == [[], []]
    assert one.tasks == ()


def test_an_item_that_does_not_decode_fails_alone() -> None:
    worker = Scripted()
    outcomes = runner(worker).run([*jsons(1), task(b"{"), *jsons(3)])
    assert bodies(outcomes) == [1, "decoding_error", 3]
    assert outcomes[1].text.startswith("the body is not JSON")
    assert worker.calls == 1


def test_forward_is_not_called_when_nothing_decoded() -> None:
    worker = Scripted()
    assert bodies(runner(worker).run([task(b"{"), task(b"[")])) == ["decoding_error"] * 2
    assert worker.calls == 0


def test_an_exception_among_the_results_fails_its_item_alone() -> None:
    worker = Scripted(lambda items: (items[0], ValidationError("too small"), items[2]))
    outcomes = runner(worker).run(jsons(1, 2, 3))
    assert bodies(outcomes) == [1, "validation_error", 3]
    assert outcomes[1].text == "too small"


def test_a_result_that_does_not_encode_fails_alone() -> None:
    outcomes = runner(Scripted(lambda items: [items[0], object()])).run(jsons(1, 2))
    assert bodies(outcomes) == [1, "encoding_error"]


def raising(error: BaseException) -> Callable[[Any], Any]:
    def forward(data: Any) -> Any:
        raise error

    return forward


@pytest.mark.parametrize("batching", [True, False])
@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ClientError("no such model"), "bad_request", "no such model"),
        (ClientError(), "bad_request", "bad request"),
        (DecodingError("not a PNG"), "decoding_error", "not a PNG"),
        (ServerError("out of memory"), "server_error", "out of memory"),
        (KeyError("/home/me/model.bin"), "server_error", "the worker failed"),
        (SettingsError("mesh.toml, line 3"), "server_error", "the worker failed"),
        (MeshError("internal"), "server_error", "the worker failed"),
    ],
    ids=repr,
)
def test_what_forward_raises_fails_all_that_it_ran(
    error: Exception, code: str, text: str, batching: bool
) -> None:
    outcomes = runner(Scripted(raising(error)), batching=batching).run(jsons(1, 2))
    # What was raised is for the gateway's log; what a client did wrong leaves nothing there.
    raised = [] if code != "server_error" else [line_of(error).encode()]
    assert [(one.code, one.text, one.buffers) for one in outcomes] == [(code, text, raised)] * 2
    assert outcomes[0] is not outcomes[1]
    assert outcomes[0].buffers is not outcomes[1].buffers


@pytest.mark.parametrize("batching", [True, False])
@pytest.mark.parametrize("text", ["3 s are over", ""])
def test_a_forward_that_is_interrupted_fails_all_that_it_ran(text: str, batching: bool) -> None:
    count = 2 if batching else 1
    one = runner(Scripted(raising(ForwardTimeout(*text.split("\n")))), batching=batching)
    outcomes = one.run(jsons(1, 2))
    raised = b"ForwardTimeout: 3 s are over" if text else b"ForwardTimeout"
    expected = ("forward_timeout", text or "forward took longer than its timeout", [raised])
    assert [(each.code, each.text, each.buffers) for each in outcomes] == [expected] * count
    assert len({id(each.buffers) for each in outcomes}) == count


@pytest.mark.parametrize("batching", [True, False])
def test_what_is_meant_to_end_the_process_does(batching: bool) -> None:
    with pytest.raises(SystemExit):
        runner(Scripted(raising(SystemExit(3))), batching=batching).run(jsons(1))


@pytest.mark.parametrize("batching", [True, False])
@pytest.mark.parametrize("error", [None, ForwardTimeout()], ids=["result", "timeout"])
def test_it_may_be_interrupted_only_while_it_can_say_of_what(
    batching: bool, error: BaseException | None
) -> None:
    seen: list[bool] = []

    def forward(data: Any) -> Any:
        seen.append(one.interruptible)
        if error:
            raise error
        return data

    one = runner(Scripted(forward), batching=batching)
    assert not one.interruptible
    one.run(jsons(1))
    assert not one.interruptible
    assert seen == [True]


class Liar(list[int]):
    """Says that it has two entries, and yields three."""

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[int]:
        return iter((1, 2, 3))


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (Liar(), "forward returned 3 results for 2 inputs"),
        ([1], "forward returned 1 results for 2 inputs"),
        ((1, 2, 3), "forward returned 3 results for 2 inputs"),
        ({"a": 1}, "forward returned a dict; with batching it must return a list"),
        (None, "forward returned a NoneType; with batching it must return a list"),
    ],
)
def test_results_that_do_not_match_the_inputs_fail_the_batch(result: Any, text: str) -> None:
    outcomes = runner(Scripted(lambda items: result)).run(jsons(1, 2))
    assert [(one.code, one.text) for one in outcomes] == [("server_error", text)] * 2


def test_results_are_counted_against_what_was_given_even_if_the_worker_empties_it() -> None:
    def forward(items: list[Any]) -> list[Any]:
        results = [2 * item for item in items]
        items.clear()
        return results

    assert bodies(runner(Scripted(forward)).run(jsons(1, 2))) == [2, 4]


def test_the_rows_of_an_array_are_results_too() -> None:
    worker = Scripted(lambda items: np.array(items) * 2)
    tasks = [task(encode(number)[0], hops=FIRST, hop=1) for number in (1, 2)]
    outcomes = runner(worker).run(tasks)
    assert [decode(one.buffers) for one in outcomes] == [np.int64(2), np.int64(4)]


# Which conversion is used where.


class Tracing(Scripted):
    def deserialize(self, payload: bytes) -> Any:
        return ("deserialize", type(payload), payload)

    def deserialize_ipc(self, payload: Any) -> Any:
        return ("deserialize_ipc", type(payload), payload)

    def serialize(self, obj: Any) -> bytes:
        self.encoded = ("serialize", obj)
        return b"body"

    def serialize_ipc(self, obj: Any) -> Any:
        self.encoded = ("serialize_ipc", obj)
        return b"payload"


@pytest.mark.parametrize(
    ("buffers", "received"),
    [
        ([b"ab"], b"ab"),
        ([memoryview(b"ab")], b"ab"),
        ([bytearray(b"ab")], b"ab"),
        ([b"a", memoryview(b"b")], b"ab"),
        ([], b""),
    ],
)
def test_the_first_stage_receives_the_body_as_bytes(buffers: list[Buffer], received: bytes) -> None:
    worker = Tracing()
    runner(worker, batching=False).run([task(buffers)])
    assert worker.encoded == ("serialize", ("deserialize", bytes, received))


def test_between_stages_payloads_are_passed_on_as_they_came() -> None:
    worker = Tracing()
    one, several = memoryview(b"ab"), [b"a", memoryview(b"b")]
    runner(worker, batching=False).run([task([one], hops=FIRST, hop=1)])
    assert worker.encoded == ("serialize_ipc", ("deserialize_ipc", memoryview, one))
    runner(worker, batching=False).run([task(several, hops=ONLY, hop=1)])
    assert worker.encoded == ("serialize", ("deserialize_ipc", list, several))


class Giving(Worker):
    def __init__(self, output: Any) -> None:
        self.output = output

    def forward(self, data: Any) -> Any:
        return data

    def serialize(self, obj: Any) -> Any:
        return self.output

    def serialize_ipc(self, obj: Any) -> Any:
        return self.output


@pytest.mark.parametrize(
    ("output", "sent"),
    [
        (b"ab", [b"ab"]),
        (bytearray(b"ab"), [b"ab"]),
        (memoryview(b"abcd")[::2], [b"ac"]),
        (memoryview(np.ones(2, np.uint16)), [b"\x01\x00\x01\x00"]),
    ],
)
@pytest.mark.parametrize("hops", [ONLY, FIRST], ids=["body", "ipc"])
def test_any_bytes_may_be_given_and_are_sent_flat(
    output: Any, sent: list[bytes], hops: Any
) -> None:
    (outcome,) = runner(Giving(output), batching=False).run([task(b"1", hops=hops)])
    assert outcome.buffers == sent
    assert type(outcome.buffers[0]) is bytes


def test_several_buffers_may_be_given_to_the_next_stage() -> None:
    output = [b"a", bytearray(b"b")]
    (outcome,) = runner(Giving(output), batching=False).run([task(b"1", hops=FIRST)])
    assert outcome.buffers == [b"a", b"b"]


@pytest.mark.parametrize(
    ("output", "hops", "text"),
    [
        ("ab", ONLY, "serialize returned a str where it must return bytes; call .encode() on it"),
        (None, ONLY, "serialize returned a NoneType where it must return bytes"),
        ([b"a"], ONLY, "serialize returned a list where it must return bytes"),
        (7, FIRST, "serialize_ipc returned a int where it must return bytes"),
        ([b"a", 7], FIRST, "serialize_ipc returned a int where it must return bytes"),
        ([], FIRST, "serialize_ipc returned an empty list; it must hold a buffer"),
    ],
)
def test_what_is_not_bytes_is_an_encoding_error(output: Any, hops: Any, text: str) -> None:
    (outcome,) = runner(Giving(output), batching=False).run([task(b"1", hops=hops)])
    assert (outcome.code, outcome.text) == ("encoding_error", text)


# What is copied.


def passed_on(worker: Worker, *, batching: bool, count: int = 1) -> list[Any]:
    tasks = [task(b"1", hops=FIRST) for _ in range(count)]
    return [one.buffers[1] for one in runner(worker, batching=batching).run(tasks)]


def test_an_array_made_in_forward_is_sent_from_where_it_lies() -> None:
    places: list[int] = []

    def forward(data: Any) -> Any:
        array = np.arange(1000.0)
        places.append(array.ctypes.data)
        return {"scores": array}

    (buffer,) = passed_on(Scripted(forward), batching=False)
    assert np.frombuffer(buffer).ctypes.data == places[0]


def test_the_rows_of_a_batch_are_sent_from_where_they_lie() -> None:
    places: list[int] = []

    def forward(items: list[Any]) -> Any:
        rows = np.ones((len(items), 1000))
        places.extend(row.ctypes.data for row in rows)
        return list(rows)

    buffers = passed_on(Scripted(forward), batching=True, count=4)
    assert [np.frombuffer(buffer).ctypes.data for buffer in buffers] == places


@pytest.mark.parametrize("batching", [True, False])
def test_an_array_that_the_worker_keeps_is_copied(batching: bool) -> None:
    kept: list[Any] = []

    def forward(data: Any) -> Any:
        kept.append(np.zeros(1000))
        return [kept[0]] if batching else kept[0]

    (buffer,) = passed_on(Scripted(forward), batching=batching)
    assert not np.shares_memory(np.frombuffer(buffer), kept[0])
    kept[0][:] = 1.0
    assert not np.frombuffer(buffer).any()


def test_memory_that_a_worker_uses_for_one_item_after_the_other_is_copied_between() -> None:
    memory = bytearray(1)

    class Thrifty(Scripted):
        def serialize(self, data: Any) -> Any:
            memory[:] = b"%d" % data
            return memory

    assert bodies(runner(Thrifty(), batching=False).run(jsons(1, 2, 3))) == [1, 2, 3]


@pytest.mark.parametrize("batching", [True, False])
def test_a_received_array_is_passed_on_from_where_it_lies(batching: bool) -> None:
    buffers: list[Buffer] = [bytes(buffer) for buffer in encode(np.ones(1000))]
    tasks = [task(buffers, hops=FIRST, hop=1)]
    (outcome,) = runner(Scripted(), batching=batching).run(tasks)
    assert np.shares_memory(np.frombuffer(outcome.buffers[1]), np.frombuffer(buffers[1]))


# Warm-up, logging, the end.


def test_warm_up_runs_the_example_as_it_is() -> None:
    seen: list[Any] = []
    worker = Scripted(seen.append)
    runner(worker).warm_up()
    assert seen == []
    worker.example = ["a"] * 8
    runner(worker).warm_up()
    assert seen == [["a"] * 8]


def test_several_examples_come_before_the_one() -> None:
    seen: list[Any] = []
    worker = Scripted(seen.append)
    worker.example, worker.multi_examples = 1, [2, np.zeros(2)]
    runner(worker).warm_up()
    assert seen[0] == 2
    assert len(seen) == 2


def test_a_failed_warm_up_says_what_was_raised() -> None:
    worker = Scripted(lambda data: 1 // data)
    worker.multi_examples = [1, 0, 1]
    with pytest.raises(StartError) as caught:
        runner(worker).warm_up()
    assert str(caught.value).startswith(
        "Scripted failed on example 2 of 3: ZeroDivisionError: integer division or modulo by zero "
        "(test_runner.py:"
    )
    assert worker.calls == 2


def test_the_same_failure_is_logged_ten_times_a_minute_and_then_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def forward(data: Any) -> Any:
        raise ValueError(data)

    clock = Clock()
    one = runner(Scripted(forward), batching=False, clock=clock)
    for number in range(845):
        one.run(jsons(f"row {number} is empty"))
    one.run(jsons("another message of the same line"))
    assert len(caplog.records) == 11
    assert all(record.exc_info for record in caplog.records)
    assert caplog.records[-1].getMessage() == (
        f"the worker failed: ValueError: another message of the same line (request {named(1, 1)})"
    )
    assert one.failures.limit.due < clock.now + 60.0
    clock.now += 60.0
    one.run(jsons("row 846 is empty"))
    told, again = caplog.records[11:]
    assert told.getMessage().startswith(
        "and 835 more: the worker failed: ValueError: row N is empty"
    )
    assert again.exc_info
    one.close()
    assert len(caplog.records) == 13


def test_a_traceback_names_the_requests_of_its_batch_and_begins_in_the_users_code(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = jsons(*range(10))
    for number, each in enumerate(tasks):
        each.number = number
    tasks[1].request_id = "mine"
    names = ["mine" if number == 1 else named(1, number) for number in range(10)]
    runner(Scripted(raising(KeyError("x")))).run(tasks)
    assert caplog.records[0].getMessage() == (
        f"the worker failed: KeyError: 'x' (requests {', '.join(names)})"
    )
    assert "stage/runner.py" not in caplog.text


def test_what_a_worker_says_itself_needs_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    runner(Scripted(raising(ServerError("the GPU is gone")))).run(jsons(1))
    runner(Scripted(raising(ClientError("no such model")))).run(jsons(1))
    (record,) = caplog.records
    assert (
        record.getMessage()
        == f"the worker failed: ServerError: the GPU is gone (request {named(1, 1)})"
    )
    assert not record.exc_info


def test_where_a_forward_was_interrupted_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    runner(Scripted(raising(ForwardTimeout("3 s are over")))).run(jsons(1))
    assert "forward was interrupted: ForwardTimeout: 3 s are over" in caplog.text
    assert "in forward" in caplog.text


def test_with_debug_a_failure_carries_what_was_raised(caplog: pytest.LogCaptureFixture) -> None:
    for error in (ValueError("boom"), ServerError("mine"), ForwardTimeout("late")):
        one = Runner(
            Scripted(raising(error)), batching=True, log=logging.getLogger("test"), debug=True
        )
        outcomes = one.run(jsons(1, 2))
        for outcome in outcomes:
            line, trace = (bytes(buffer).decode() for buffer in outcome.buffers)
            assert line == f"{type(error).__name__}: {error}"
            assert trace.startswith("Traceback")
        assert outcomes[0].buffers is not outcomes[1].buffers


def test_an_exception_that_was_never_raised_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    runner(Scripted(lambda items: [ValueError("a"), ValueError("b")])).run(jsons(1, 2))
    assert [record.getMessage() for record in caplog.records] == [
        f"the worker failed: ValueError: a (request {named(1, 1)})",
        f"the worker failed: ValueError: b (request {named(1, 1)})",
    ]


def test_what_was_logged_is_not_remembered_without_bound(caplog: pytest.LogCaptureFixture) -> None:
    def forward(name: str) -> Any:
        raise type(name, (Exception,), {})

    one = runner(Scripted(forward), batching=False)
    one.run(jsons(*map(str, range(300))))
    assert len(caplog.records) == 266
    one.close()
    assert caplog.records[-1].getMessage() == "and 34 more: failures of other kinds"


def test_an_unload_that_leaves_is_logged_and_the_replica_ends_in_order(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Leaver(Scripted):
        def unload(self) -> None:
            sys.exit(4)

    runner(Leaver(lambda data: data)).close()
    assert "unload failed: it called sys.exit(4)" in caplog.text


def test_a_traceback_of_more_requests_than_fit_says_where_all_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = jsons(*range(100))
    for number, each in enumerate(tasks):
        each.request_id = f"{number:02}-{'x' * 100}"
    runner(Scripted(raising(KeyError("x")))).run(tasks)
    message = caplog.records[0].getMessage()
    assert "30-xxx" in message
    assert message.endswith(" more; a log in JSON has all of them in `ids`)")
    assert len(message) < 5000


def test_a_value_that_a_status_has_no_room_for_is_dropped_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = runner(Scripted(lambda data: Reply({"a": 1}, status=data)), batching=False)
    outcomes = [one.run([each])[0] for each in jsons(204, 204, 304)]
    assert [outcome.buffers for outcome in outcomes] == [[b""]] * 3
    assert [record.getMessage() for record in caplog.records] == [
        f"a Reply with status {status} has no body: its value, a dict, is dropped "
        f"(request {named(1, 1)})"
        for status in (204, 304)
    ]


def test_closing_lets_the_worker_unload(caplog: pytest.LogCaptureFixture) -> None:
    class Closing(Scripted):
        def unload(self) -> None:
            self.function(None)

    closed = Closing(lambda _: None)
    runner(closed).close()
    runner(Closing(raising(OSError("still busy")))).close()
    assert [record.getMessage() for record in caplog.records] == [
        "unload failed: OSError: still busy"
    ]


class Curious(Worker):
    """Remembers the facts that it was shown with its last forward."""

    seen: tuple[RequestFacts, ...] = ()

    def forward(self, data: Any) -> Any:
        self.seen = tuple(self.requests)
        return data


def traced(body: bytes, number: int) -> Task:
    hops = (("s", ""),)
    return Task(0xFE, number, hops, 0, 1, 9.0, [body], len(body), trace=f"trace {number}")


def test_a_worker_knows_whose_input_each_is() -> None:
    worker = Curious()
    runner(worker).run([traced(b"1", 1), traced(b"no json", 2), traced(b"3", 3)])
    assert [(facts.id, facts.trace) for facts in worker.seen] == [
        (named(0xFE, 1), "trace 1"),
        (named(0xFE, 3), "trace 3"),
    ]
    assert worker.requests == ()  # what it held of the payloads is let go
    runner(worker, batching=False).run([traced(b"4", 4), traced(b"5", 5)])
    assert [facts.id for facts in worker.seen] == [named(0xFE, 5)]


def test_examples_have_facts_too() -> None:
    worker = Curious()
    worker.example = [1, 2]
    runner(worker).warm_up()
    assert worker.seen == (RequestFacts(), RequestFacts())
    assert worker.requests == ()


def test_a_reply_of_the_last_stage_sets_the_answers_head() -> None:
    reply = Reply("text", 201, {"Location": "/5"}, "text/plain")
    (item,) = runner(Scripted(lambda items: [reply])).run(jsons(1))
    assert (item.buffers, item.status, item.content_type) == ([b"text"], 201, "text/plain")
    assert item.headers == (("Location", "/5"),)
    (plain,) = runner(Scripted(lambda items: [Reply(5)])).run(jsons(1))
    assert (plain.buffers, plain.status, plain.content_type) == ([b"5"], 200, "")


class Shouting(Scripted):
    """Has a `serialize` of its own, which cannot write None."""

    def serialize(self, obj: Any) -> bytes:
        result: bytes = obj.upper().encode()
        return result


def one_reply(worker: type[Scripted], reply: Reply) -> ItemOutcome:
    (item,) = runner(worker(lambda items: [reply])).run(jsons(1))
    return item


def test_what_a_reply_names_the_type_of_is_the_body() -> None:
    for value in (b"\x00", bytearray(b"\x00"), memoryview(b"\x00")):
        item = one_reply(Scripted, Reply(value, content_type="application/json"))
        assert [bytes(buffer) for buffer in item.buffers] == [b"\x00"]
    assert one_reply(Scripted, Reply("a", content_type="text/html")).buffers == [b"a"]
    assert one_reply(Scripted, Reply("a", content_type="application/json")).buffers == [b'"a"']
    assert one_reply(Scripted, Reply({"a": 1}, content_type="text/html")).buffers == [b'{"a":1}']
    assert one_reply(Scripted, Reply(b"a")).code == "encoding_error"


def test_a_workers_own_serialize_has_the_last_word() -> None:
    assert one_reply(Shouting, Reply("a", content_type="text/html")).buffers == [b"A"]
    assert one_reply(Shouting, Reply(None, status=204)).buffers == [b""]
    assert one_reply(Shouting, Reply(None)).code == "server_error"


def test_a_header_that_would_break_the_answer_fails_its_own_request() -> None:
    replies = [Reply(1, headers={"A": "b\r\nC: d"}), Reply(2)]
    items = runner(Scripted(lambda given: replies)).run(jsons(1, 2))
    assert bodies(items) == ["encoding_error", 2]


def test_an_error_may_have_a_code_and_status_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    class Quota(ClientError):
        code, status, retry_after = "quota_exceeded", 429, 60

    class Loud(ClientError):
        code = "NO WORD"

    items = runner(Scripted(lambda given: [Quota("no"), Quota(), Loud("a"), Loud("b")])).run(
        jsons(1, 2, 3, 4)
    )
    told = [(item.code, item.status, item.text) for item in items]
    assert told[:2] == [("quota_exceeded", 429, "no"), ("quota_exceeded", 429, "quota exceeded")]
    assert told[2:] == [("bad_request", 0, "a"), ("bad_request", 0, "b")]
    assert items[0].headers == (("Retry-After", "60"),)
    assert caplog.text.count("its code must be a word") == 1


async def waits() -> None:
    return None


async def streams() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (waits, "forward returned a coroutine; await it inside of forward"),
        (lambda: (one for one in ()), "forward returned a generator; make a list of it inside"),
        (streams, "forward returned an async generator; make a list of it inside of forward"),
    ],
)
def test_what_has_not_begun_is_no_result(made: Any, said: str) -> None:
    worker = Scripted(lambda given: made())
    for batching in (True, False):
        (item,) = runner(worker, batching=batching).run(jsons(1))
        assert item.text.startswith(said)
    worker.example = [1]
    with pytest.raises(StartError, match=said):
        runner(worker).warm_up()


def test_examples_are_counted() -> None:
    worker = Scripted()
    assert runner(worker).warm_up() == 0
    worker.multi_examples = [[1], [2]]
    assert runner(worker).warm_up() == 2


def test_a_reply_of_an_inner_stage_is_an_error() -> None:
    (item,) = runner(Scripted(lambda items: [Reply(5)])).run([task(b"1", hops=FIRST)])
    assert item.code == "encoding_error"
    assert "only the last stage" in item.text
