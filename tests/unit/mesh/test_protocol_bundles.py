"""Bundles of tasks and outcomes: what leaves arrives, and one row at fault can be found."""

from __future__ import annotations

import dataclasses
import doctest
import math
import struct
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_strategies import NOW, comparable, length, notices, outcomes, relaxed, stats, task

from mesh.errors import ProtocolError
from mesh.protocol import bundles
from mesh.protocol.bundles import MAX_BUDGET, MAX_HOPS, refusal
from mesh.protocol.fields import (
    INLINE_BYTES,
    MAX_BODY_BYTES,
    MAX_BUFFERS,
    MAX_LIST_BYTES,
    MISFITS,
    Transfer,
    pack,
)
from mesh.protocol.messages import (
    BatchStats,
    HandoffNotice,
    Meta,
    Outcome,
    OutcomeKind,
    Outcomes,
    Task,
    Tasks,
)

PATH = (("embed", "r1"),)


def a_task(**changes: Any) -> Task:
    task = Task(1, 2, PATH, 0, 1, NOW + 5, [b"x"], 1)
    return dataclasses.replace(task, **changes)


def an_outcome(**changes: Any) -> Outcome:
    return dataclasses.replace(Outcome(2, 1, OutcomeKind.RESULT, buffers=[b"x"]), **changes)


def unpacked(body: bytes) -> Any:
    return msgpack.unpackb(body, use_list=False)


def sent_tasks(tasks: list[Task], now: float = NOW) -> list[Task]:
    body, frames = bundles.pack_tasks(Tasks(tasks), NOW)
    return bundles.read_tasks(unpacked(body), frames, now).tasks


def sent_outcomes(message: Outcomes) -> Outcomes:
    body, frames = bundles.pack_outcomes(message)
    return bundles.read_outcomes(unpacked(body), frames, NOW)


# --- tasks ------------------------------------------------------------------------------------


@relaxed
@given(st.lists(task(), max_size=5))
def test_tasks_arrive_as_they_left(tasks: list[Task]) -> None:
    arrived = sent_tasks(tasks)
    for before, after in zip(tasks, arrived, strict=True):
        assert -1e-6 <= before.deadline - after.deadline <= 0.001 + 1e-6
        assert after.nbytes == length(before.buffers)
        after.deadline = before.deadline
    assert comparable(arrived) == comparable(tasks)


def test_a_path_is_written_once() -> None:
    other = (("detect", "r1"), ("read", "r1"))
    tasks = [a_task(owner=o, hops=p) for o in (7, 8, 7) for p in (PATH, other, tuple(other))]
    body, _ = bundles.pack_tasks(Tasks(tasks), NOW)
    _, _, paths, _ = unpacked(body)
    assert paths == (pack(PATH), pack(other))
    arrived = sent_tasks(tasks)
    assert [(t.owner, t.hops) for t in arrived] == [(t.owner, t.hops) for t in tasks]


def test_the_usual_task_is_one_byte_string() -> None:
    body, frames = bundles.pack_tasks(Tasks([a_task()]), NOW)
    assert unpacked(body)[-1] == (b"x",)
    assert frames == []


@pytest.mark.parametrize(
    "changes",
    [
        {"trace": "00-ab-cd-01"},
        {"meta": Meta("POST", "/inference", "", ())},
        {"request_id": "a-1"},
        {"request_id": "~" * 128, "trace": "00-ab-cd-01"},
        {"buffers": []},
        {"buffers": [b"x", b"y"]},
        {"buffers": [bytearray(b"x")]},
        {"buffers": [memoryview(b"x")]},
        {"buffers": [bytes(INLINE_BYTES + 1)]},
        {"buffers": [Transfer(3, 2**33)]},
    ],
)
def test_every_other_form_of_task_arrives_too(changes: dict[str, Any]) -> None:
    before = a_task(**changes)
    (after,) = sent_tasks([before])
    assert comparable(after.buffers) == comparable(before.buffers)
    assert (after.trace, after.meta) == (before.trace, before.meta)
    assert after.request_id == before.request_id
    assert after.nbytes == length(before.buffers)


def test_only_a_task_whose_client_chose_an_id_carries_one() -> None:
    body, _ = bundles.pack_tasks(Tasks([a_task(), a_task(request_id="a-1")]), NOW)
    plain, named = unpacked(body)[-1]
    assert plain == b"x"
    assert named[3:] == ("a-1",)
    assert [task.request_id for task in sent_tasks([a_task(), a_task(request_id="a-1")])] == [
        None,
        "a-1",
    ]


def test_what_a_later_version_adds_to_a_row_is_skipped() -> None:
    fixed, times, paths, _ = unpacked(bundles.pack_tasks(Tasks([a_task()]), NOW)[0])
    described = unpacked(pack(bundles.pack_buffers([b"x"])[0]))
    for row in ((None, None, described), (None, None, described, "a", 5, {"new": 1})):
        (task,) = bundles.read_tasks((fixed, times, paths, (row,)), [], NOW).tasks
        assert task.request_id == (row[3] if len(row) > 3 else None)
    body = unpacked(bundles.pack_outcomes(Outcomes([an_outcome(text="t")]))[0])
    grown = (*body[:2], ((*body[2][0], "new"),), *body[3:])
    assert bundles.read_outcomes(grown, [], NOW).outcomes[0].text == "t"


@pytest.mark.parametrize("request_id", ["", "a b", "é", "x" * 129, "a\n", 5, b"a"])
def test_an_id_that_no_client_can_have_is_neither_written_nor_read(request_id: Any) -> None:
    assert "1 to 128 visible ASCII" in refusal(a_task(request_id=request_id))
    fixed, times, paths, _ = unpacked(bundles.pack_tasks(Tasks([a_task()]), NOW)[0])
    row = (None, None, unpacked(pack(bundles.pack_buffers([b"x"])[0])), request_id)
    with pytest.raises(MISFITS):
        bundles.read_tasks((fixed, times, paths, (row,)), [], NOW)


@pytest.mark.parametrize(
    ("left", "budget"),
    [
        (0.0, 0),
        (-5.0, 0),
        (-math.inf, 0),
        (math.nan, 0),
        (1.5, 1500),
        (4294967.295, MAX_BUDGET),
        (4294967.5, MAX_BUDGET),
        (1e300, MAX_BUDGET),
        (math.inf, MAX_BUDGET),
    ],
)
def test_a_deadline_becomes_the_budget_left(left: float, budget: int) -> None:
    body, _ = bundles.pack_tasks(Tasks([a_task(deadline=left)]), 0.0)
    assert struct.unpack_from("!QQI", unpacked(body)[0]) == (1, 2, budget)


def test_the_receivers_clock_makes_the_budget_a_deadline_again() -> None:
    (after,) = sent_tasks([a_task(deadline=NOW + 2)], now=77.0)
    assert after.deadline == 79.0


@pytest.mark.parametrize(
    ("timings", "arrived"),
    [
        ((), ()),
        ((1, 2), (1, 2)),
        ((2**32 - 1,), (2**32 - 1,)),
        ((2**32, 5), (2**32 - 1, 5)),
        ((-3, 5), (0, 5)),
    ],
)
def test_times_outside_their_column_are_the_nearest_that_it_holds(
    timings: tuple[int, ...], arrived: tuple[int, ...]
) -> None:
    assert sent_tasks([a_task(timings=timings)])[0].timings == arrived
    outcome = an_outcome(timings=timings)
    assert sent_outcomes(Outcomes([outcome])).outcomes[0].timings == arrived


# --- what can not travel -------------------------------------------------------------------------

TOO_LONG = "x" * 4097
META = Meta("GET", "/", "", ())
WRONG_TASKS: list[tuple[dict[str, Any], str]] = [
    ({"number": -1}, "its number is -1, not a number within 0 to 18446744073709551615"),
    ({"number": 2**64}, "its number is 18446744073709551616, not a number within"),
    ({"owner": -1}, "its owner is -1, not a number within"),
    ({"owner": 2**64}, "its owner is 18446744073709551616, not a number within"),
    ({"hop": 2**16}, "its hop is 65536, not a number within 0 to 65535"),
    ({"attempt": 2**16}, "its attempt is 65536, not a number within 0 to 65535"),
    ({"attempt": -1}, "its attempt is -1, not a number within"),
    ({"flags": 256}, "its flags is 256, not a number within 0 to 255"),
    ({"priority": 256}, "its priority is 256, not a number within 0 to 255"),
    ({"priority": 0.5}, "its priority is 0.5, not a number within 0 to 255"),
    ({"priority": "high"}, "its priority is 'high', not a number within"),
    ({"owner": 1.5}, "its owner is 1.5, not a number within"),
    ({"timings": (0,) * 256}, "it has 256 timings, over the limit of 255"),
    ({"timings": ("x",)}, "not supported between"),
    ({"hops": ()}, "a path has 1 to 64 hops"),
    ({"hops": (("a", "b"),) * (MAX_HOPS + 1)}, "a path has 1 to 64 hops"),
    ({"hops": ((TOO_LONG, ""),)}, "a stage's name has 4097 characters"),
    ({"hops": (("a", TOO_LONG),)}, "a revision has 4097 characters"),
    ({"hops": (("a", None),)}, "a revision is needed where NoneType is given"),
    ({"hops": (("\ud800", "r"),)}, "surrogates not allowed"),
    ({"hops": [("a", "r")]}, "unhashable"),
    ({"trace": TOO_LONG}, "a trace has 4097 characters, over the limit of 4096"),
    ({"trace": b"bytes"}, "a trace is needed where bytes is given"),
    ({"trace": "\udcff"}, "surrogates not allowed"),
    ({"meta": dataclasses.replace(META, method=TOO_LONG)}, "a method has 4097 characters"),
    ({"meta": dataclasses.replace(META, path=None)}, "a path is needed where NoneType is given"),
    ({"meta": dataclasses.replace(META, query="x" * (MAX_BODY_BYTES + 1))}, "a query has 4194305"),
    ({"meta": dataclasses.replace(META, query="x" * MAX_BODY_BYTES)}, "its first frame has"),
    ({"meta": dataclasses.replace(META, headers=((TOO_LONG, ""),))}, "a header's name has 4097"),
    ({"meta": dataclasses.replace(META, headers=(("a", "b"),) * (MAX_LIST_BYTES + 1))}, "entries"),
    ({"buffers": [b"x"] * (MAX_BUFFERS + 1)}, "its payload has 257 buffers, over the limit of 256"),
    ({"buffers": [bytes(INLINE_BYTES)] * MAX_BUFFERS}, "its first frame has 41"),
    ({"buffers": [Transfer(-1, 5)]}, "-1 is no unsigned 64-bit number"),
    ({"buffers": [Transfer(1, 2**64)]}, "is no unsigned 64-bit number"),
    ({"buffers": ["text"]}, "string argument without an encoding"),
]


@pytest.mark.parametrize(("changes", "why"), WRONG_TASKS)
def test_a_task_that_can_not_travel_is_refused_and_says_why(
    changes: dict[str, Any], why: str
) -> None:
    assert why in refusal(a_task(**changes))


WRONG_OUTCOMES: list[tuple[dict[str, Any], str]] = [
    ({"number": 2**64}, "its number is 18446744073709551616, not a number within"),
    ({"number": None}, "its number is None, not a number within"),
    ({"attempt": 2**16}, "its attempt is 65536, not a number within"),
    ({"hop": -1}, "its hop is -1, not a number within"),
    ({"status": 2**16}, "its status is 65536, not a number within 0 to 65535"),
    ({"index": 2**32}, "its index is 4294967296, not a number within 0 to 4294967295"),
    ({"timings": (0,) * 256}, "it has 256 timings"),
    ({"label": b"text/plain"}, "a text is needed where bytes is given"),
    ({"text": 7}, "not subscriptable"),
    ({"headers": ((TOO_LONG, ""),)}, "a header's name has 4097 characters"),
    ({"headers": (("x", 7),)}, "a header's value is needed where int is given"),
    ({"headers": (("a", "b"),) * (MAX_LIST_BYTES + 1)}, "entries"),
    ({"headers": (("a", "x" * MAX_BODY_BYTES),)}, "its first frame has"),
    ({"buffers": [b"x"] * (MAX_BUFFERS + 1)}, "its payload has 257 buffers"),
    ({"buffers": [bytes(INLINE_BYTES)] * MAX_BUFFERS}, "its first frame has 41"),
    ({"buffers": [Transfer(-1, 5)]}, "-1 is no unsigned"),
]


@pytest.mark.parametrize(("changes", "why"), WRONG_OUTCOMES)
def test_an_outcome_that_can_not_travel_is_refused_and_says_why(
    changes: dict[str, Any], why: str
) -> None:
    assert why in refusal(an_outcome(**changes))


@relaxed
@given(task() | outcomes)
def test_whatever_can_travel_is_not_refused(row: Task | Outcome) -> None:
    assert refusal(row) == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"trace": "x" * 4096},
        {"hops": (("a", "b"),) * MAX_HOPS},
        {"buffers": [b"x"] * MAX_BUFFERS},
        {"buffers": [bytes(INLINE_BYTES + 1)] * MAX_BUFFERS},
        {"buffers": [bytes(8 * MAX_BODY_BYTES)]},
        {"timings": (0,) * 255},
        {"deadline": math.inf},
        {"meta": Meta("x" * 4096, "/", "x" * 100_000, (("a", "b"),) * 1000)},
    ],
)
def test_a_task_at_a_limit_is_not_refused(changes: dict[str, Any]) -> None:
    assert refusal(a_task(**changes)) == ""
    sent_tasks([a_task(**changes)])


def test_a_refusal_leaves_the_packer_as_it_was() -> None:
    assert refusal(a_task(trace="\ud800"))
    assert sent_tasks([a_task()])[0].buffers == [b"x"]


@pytest.mark.parametrize("changes", [changes for changes, _ in WRONG_TASKS[:22]])
def test_one_wrong_task_fails_its_bundle_so_that_it_is_found(changes: dict[str, Any]) -> None:
    tasks = [a_task(), a_task(**changes), a_task()]
    with pytest.raises(MISFITS):
        bundles.pack_tasks(Tasks(tasks), NOW)
    assert [bool(refusal(one)) for one in tasks] == [False, True, False]


@pytest.mark.parametrize(
    ("rows", "accepted"), [(MAX_LIST_BYTES, True), (MAX_LIST_BYTES + 1, False)]
)
def test_a_bundle_has_a_limited_number_of_rows(rows: int, accepted: bool) -> None:
    packs: list[tuple[Any, Any]] = [
        (bundles.pack_tasks, (Tasks([a_task()] * rows), NOW)),
        (bundles.pack_outcomes, (Outcomes([an_outcome()] * rows),)),
    ]
    for one, arguments in packs:
        if accepted:
            assert one(*arguments)[1] == []
        else:
            with pytest.raises(ValueError, match="65537 entries, over the limit of 65536"):
                one(*arguments)


# --- outcomes -----------------------------------------------------------------------------------


@relaxed
@given(st.lists(outcomes, max_size=5), st.lists(notices, max_size=3), st.lists(stats, max_size=2))
def test_outcomes_arrive_as_they_left(
    rows: list[Outcome], told: list[HandoffNotice], measured: list[BatchStats]
) -> None:
    message = Outcomes(rows, told, measured)
    assert comparable(sent_outcomes(message)) == comparable(message)


def test_the_usual_outcome_is_one_byte_string() -> None:
    body, frames = bundles.pack_outcomes(Outcomes([an_outcome()]))
    assert unpacked(body)[2] == (b"x",)
    assert frames == []


def test_a_workers_long_or_broken_message_is_cut_and_mended_not_lost() -> None:
    told = an_outcome(kind=OutcomeKind.FAILURE, label="l" * 9000, text="ü\ud800" * 5000)
    (arrived,) = sent_outcomes(Outcomes([told])).outcomes
    assert arrived.label == "l" * 4096
    assert arrived.text == "ü?" * 2048
    assert refusal(told) == ""


@pytest.mark.parametrize(
    "message",
    [
        Outcomes([], [HandoffNotice(2**64, 1, 1, 1)]),
        Outcomes([], [HandoffNotice(1, 2**16, 1, 1)]),
        Outcomes([], [], [BatchStats("x" * 5000, 1, 1, 1, "idle")]),
        Outcomes([], [], [BatchStats("s", -1, 1, 1, "idle")]),
        Outcomes([], [], [BatchStats("s", 1, 1.5, 1, "idle")]),  # type: ignore[arg-type]
        Outcomes([], [], [BatchStats("s", 1, 1, 1, "\ud800")]),
    ],
)
def test_notes_and_stats_that_would_not_be_read_are_not_written(message: Outcomes) -> None:
    with pytest.raises(MISFITS):
        bundles.pack_outcomes(message)


# --- bodies that are none -------------------------------------------------------------------------

ROW = bundles.TASK_ROW.packing.pack(1, 2, 5000, 0, 0, 1, 0, 0, 0, 0)
TIMED = bundles.TASK_ROW.packing.pack(1, 2, 5000, 0, 0, 1, 2, 0, 0, 0)
GOOD_TASKS: tuple[Any, ...] = (ROW, b"", (pack(PATH),), (b"x",))


def changed(good: tuple[Any, ...], **changes: Any) -> Any:
    body = list(good)
    for name, value in changes.items():
        body[int(name[1:])] = value
    return tuple(body)


def test_the_model_of_a_body_is_read() -> None:
    assert comparable(bundles.read_tasks(GOOD_TASKS, [], NOW)) == comparable(Tasks([a_task()]))


@pytest.mark.parametrize(
    "body",
    [
        (),
        GOOD_TASKS[:-1],
        changed(GOOD_TASKS, _0=ROW[: bundles.TASK_ROW.least - 1]),
        changed(GOOD_TASKS, _0="text"),
        changed(GOOD_TASKS, _0=None),
        changed(GOOD_TASKS, _1=None),
        changed(GOOD_TASKS, _1=b"odd"),
        changed(GOOD_TASKS, _0=TIMED),
        changed(GOOD_TASKS, _0=TIMED, _1=b"1234567"),
        changed(GOOD_TASKS, _0=TIMED, _1=b"1234"),
        changed(GOOD_TASKS, _2=7),
        changed(GOOD_TASKS, _2=()),
        changed(GOOD_TASKS, _2=(pack(()),)),
        changed(GOOD_TASKS, _2=(pack(PATH * 65),)),
        changed(GOOD_TASKS, _2=("ab",)),
        changed(GOOD_TASKS, _2=(pack((("a", 1),)),)),
        changed(GOOD_TASKS, _2=(pack((("a",),)),)),
        changed(GOOD_TASKS, _3=()),
        changed(GOOD_TASKS, _3=(b"x", b"y")),
        changed(GOOD_TASKS, _3=("x",)),
        changed(GOOD_TASKS, _3=((None, None),)),
        changed(GOOD_TASKS, _3=((1, None, ()),)),
        changed(GOOD_TASKS, _3=((None, 1, ()),)),
        changed(GOOD_TASKS, _3=((None, ("GET", "/", ""), ()),)),
        changed(GOOD_TASKS, _3=((None, ("GET", "/", "", ((1, 2),)), ()),)),
        changed(GOOD_TASKS, _3=((None, None, (5,)),)),
    ],
)
def test_a_body_that_is_no_bundle_of_tasks_is_a_misfit(body: Any) -> None:
    with pytest.raises(MISFITS):
        bundles.read_tasks(body, [], NOW)


def test_what_a_later_release_adds_is_skipped() -> None:
    grown = changed((*GOOD_TASKS, "more"), _0=ROW + b"more", _2=(pack(((*PATH[0], "more"),)),))
    assert comparable(bundles.read_tasks(grown, [], NOW)) == comparable(Tasks([a_task()]))
    grown = changed((*GOOD_OUTCOMES, bytes(16) + b"more", "more"), _0=OUTCOME + b"more")
    assert comparable(bundles.read_outcomes(grown, [], NOW)) == comparable(Outcomes([an_outcome()]))


OUTCOME = bundles.OUTCOME_ROW.packing.pack(2, 0, 1, 0, 0, 0, 0)
UNKNOWN = bundles.OUTCOME_ROW.packing.pack(2, 0, 1, 0, 0, 0, 5)
LATE = bundles.OUTCOME_ROW.packing.pack(2, 0, 1, 0, 0, 1, 0)
GOOD_OUTCOMES: tuple[Any, ...] = (OUTCOME, b"", (b"x",), (), ())


def test_the_model_of_outcomes_is_read() -> None:
    arrived = bundles.read_outcomes(GOOD_OUTCOMES, [], NOW)
    assert comparable(arrived) == comparable(Outcomes([an_outcome()]))


@pytest.mark.parametrize(
    "body",
    [
        (),
        changed(GOOD_OUTCOMES, _0=UNKNOWN),
        changed(GOOD_OUTCOMES, _0=LATE),
        GOOD_OUTCOMES[:-1],
        changed(GOOD_OUTCOMES, _0=OUTCOME[1:]),
        changed(GOOD_OUTCOMES, _2=None),
        changed(GOOD_OUTCOMES, _2=(1,)),
        changed(GOOD_OUTCOMES, _2=(("", "", ()),)),
        changed(GOOD_OUTCOMES, _2=((b"", "", (), ()),)),
        changed(GOOD_OUTCOMES, _2=(("", None, (), ()),)),
        changed(GOOD_OUTCOMES, _2=(("", "", (("a", None),), ()),)),
        changed(GOOD_OUTCOMES, _2=(("", "", 7, ()),)),
        changed(GOOD_OUTCOMES, _2=(("", "", (), None),)),
        changed(GOOD_OUTCOMES, _3=b"123"),
        changed(GOOD_OUTCOMES, _3=(b"123", 1)),
        changed(GOOD_OUTCOMES, _4=1),
        changed(GOOD_OUTCOMES, _4=(1,)),
        changed(GOOD_OUTCOMES, _4=(("s", 1, 1, 1, "idle"),)),
        changed(GOOD_OUTCOMES, _4=(("s", 1, 1, 1, "idle", 0, None),)),
        changed(GOOD_OUTCOMES, _4=(("s", 1, 1, 1, "idle", 0, 0, 0),)),
    ],
)
def test_a_body_that_is_no_bundle_of_outcomes_is_a_misfit(body: Any) -> None:
    with pytest.raises(MISFITS):
        bundles.read_outcomes(body, [], NOW)


def test_frames_and_rows_must_agree() -> None:
    large = bytes(INLINE_BYTES + 1)
    body, frames = bundles.pack_tasks(Tasks([a_task(buffers=[large])]), NOW)
    assert len(frames) == 1
    for wrong in ([], [b"short"], [large, large]):
        with pytest.raises(ValueError, match="payload frame"):
            bundles.read_tasks(unpacked(body), wrong, NOW)
    body, _ = bundles.pack_outcomes(Outcomes([an_outcome(buffers=[large])]))
    for wrong in ([], [b"short"], [large, large]):
        with pytest.raises(ValueError, match="payload frame"):
            bundles.read_outcomes(unpacked(body), wrong, NOW)


def test_the_body_is_as_compact_as_it_claims() -> None:
    body, _ = bundles.pack_tasks(Tasks([a_task(buffers=[b""])] * 100), NOW)
    rows = bundles.TASK_ROW.packing.size * 100
    assert len(body) == len(pack([bytes(rows), b"", (pack(PATH),), [b""] * 100]))


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(bundles) == (0, 2)


def test_paths_are_remembered_but_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "_known_hops", {})
    monkeypatch.setattr(bundles, "_written_hops", {})
    for number in range(bundles._MAX_KNOWN_PATHS + 1):
        hops = ((f"stage-{number}", "1"),)
        assert sent_tasks([a_task(hops=hops)])[0].hops == hops
    assert len(bundles._known_hops) == len(bundles._written_hops) == 1


@pytest.mark.parametrize("hops", [b"\xc1", pack(7), b""])
def test_bytes_that_are_no_path_are_refused(hops: bytes) -> None:
    with pytest.raises(ProtocolError):
        bundles.read_tasks(changed(GOOD_TASKS, _2=(hops,)), [], NOW)
