"""Messages to frames and back: everything valid arrives, everything else is a ProtocolError."""

from __future__ import annotations

import dataclasses
import doctest
import math
import time
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_strategies import NOW, STRATEGIES, comparable, messages, relaxed, u64

from mesh.errors import ProtocolError
from mesh.protocol import wire
from mesh.protocol.fields import (
    HEADER_BYTES,
    INLINE_BYTES,
    MAX_BODY_BYTES,
    MAX_FRAMES,
    MAX_LIST_BYTES,
    MAX_TEXT_BYTES,
    Frame,
    Transfer,
)
from mesh.protocol.messages import (
    Answer,
    Bye,
    Cancel,
    Credit,
    Death,
    Drain,
    Err,
    Header,
    Hello,
    Load,
    Message,
    Outcome,
    OutcomeKind,
    Outcomes,
    Part,
    Peer,
    Peers,
    Ping,
    Role,
    StageFacts,
    Submit,
    Task,
    Tasks,
    Type,
    Welcome,
    Who,
)
from mesh.protocol.rows import pack_load
from mesh.protocol.wire import decode, encode, open_header, seal

PATH = (("embed", "r1"),)


def sealed(message: Message, age: int = 0) -> list[Frame]:
    encoded = encode(message, NOW)
    return seal(Header(encoded.type, 5, 6, age=age), encoded)


def framed(kind: int, body: Any, *frames: Frame) -> list[Frame]:
    """A valid header with any body behind it."""
    raw = body if isinstance(body, bytes) else msgpack.packb(body)
    return [wire.FIXED.pack(b"ML", 1, kind, 5, 6, 0, 0, 0, 0, 0) + raw, *frames]


def deadlines(message: Any) -> list[float]:
    return [task.deadline for task in message.tasks] if isinstance(message, Tasks) else []


def undated(message: Any) -> Any:
    """What is compared of a message; its deadlines are compared apart."""
    if isinstance(message, Tasks):
        return comparable([dataclasses.replace(one, deadline=0.0) for one in message.tasks])
    return comparable(message)


def outcome_of(frames: list[Frame]) -> Message | None:
    """The message, or None for a ProtocolError with a short text; any other error gets out."""
    try:
        return decode(frames, NOW)[1]
    except ProtocolError as error:
        why = str(error)
    assert 0 < len(why) < 300
    return None


# --- what is valid arrives ----------------------------------------------------------------------


@pytest.mark.parametrize("one", STRATEGIES, ids=lambda one: one.__name__)
def test_every_message_arrives_as_it_left(one: type[Any]) -> None:
    @relaxed
    @given(STRATEGIES[one])
    def arrives(message: Message) -> None:
        header, arrived = decode(sealed(message), NOW)
        assert header.type.name == one.__name__.upper()
        assert type(arrived) is one
        assert undated(arrived) == undated(message)
        for before, after in zip(deadlines(message), deadlines(arrived), strict=True):
            assert -1e-6 <= before - after <= 0.001 + 1e-6

    arrives()


@pytest.mark.parametrize("one", STRATEGIES, ids=lambda one: one.__name__)
def test_what_a_later_release_adds_to_a_message_is_skipped(one: type[Any]) -> None:
    @relaxed
    @given(STRATEGIES[one])
    def skips(message: Message) -> None:
        frames = sealed(message)
        body = msgpack.unpackb(memoryview(frames[0])[HEADER_BYTES:])
        grown = msgpack.packb([*body, "more", [1, 2]])
        _, arrived = decode([bytes(frames[0][:HEADER_BYTES]) + grown, *frames[1:]], NOW)
        assert undated(arrived) == undated(decode(frames, NOW)[1])

    skips()


def test_every_type_has_a_strategy_and_a_reader() -> None:
    assert {one.__name__.upper() for one in STRATEGIES} == {one.name for one in Type}


@relaxed
@given(st.builds(Header, st.sampled_from(Type), u64, u64, u64, u64, u64, u64, u64))
def test_every_header_arrives_as_it_left(header: Header) -> None:
    frames = seal(header, encode(Who()))
    assert len(frames[0]) == HEADER_BYTES + 1 == wire.FIXED.size + 1
    assert open_header(frames) == header._replace(age=min(header.age, 2**32 - 1))


@relaxed
@given(st.integers(0, 2**32 - 1))
def test_the_age_of_a_message_shortens_its_budgets(age: int) -> None:
    task = Task(1, 1, PATH, 0, 1, NOW + 60, [b"x"], 1)
    header, message = decode(sealed(Tasks([task]), age), NOW)
    assert header.age == age
    assert isinstance(message, Tasks)
    assert message.tasks[0].deadline == pytest.approx(NOW + 60 - age / 1000, abs=1e-6)


def test_a_message_keeps_its_body_when_it_is_sealed_again() -> None:
    encoded = encode(Submit(1, "/inference", 0, 0, None, [bytes(INLINE_BYTES + 1)]))
    first = seal(Header(encoded.type, 1, 2, 3), encoded)
    again = seal(Header(encoded.type, 1, 2, 3, ack=9, age=700), encoded)
    assert first[1:] == again[1:] == list(encoded.frames)
    assert bytes(first[0])[HEADER_BYTES:] == bytes(again[0])[HEADER_BYTES:] == encoded.body
    assert open_header(again).ack == 9


@relaxed
@given(messages)
def test_a_payload_frame_is_passed_on_uncopied(message: Message) -> None:
    encoded = encode(message, NOW)
    frames = seal(Header(encoded.type, 1, 2), encoded)
    assert all(a is b for a, b in zip(frames[1:], encoded.frames, strict=True))


@pytest.mark.parametrize("shape", [bytes, bytearray, memoryview])
def test_the_first_frame_may_be_any_buffer(shape: Callable[[bytes], Frame]) -> None:
    (first,) = sealed(Drain(7))
    assert decode([shape(bytes(first))], NOW)[1] == Drain(7)


def test_many_frames_up_to_the_limit() -> None:
    payload = [bytes(INLINE_BYTES + 1)] * 93
    tasks = [Task(1, n, PATH, 0, 1, NOW, payload, 93 * (INLINE_BYTES + 1)) for n in range(11)]
    assert len(sealed(Tasks(tasks))) == MAX_FRAMES
    assert outcome_of(sealed(Tasks(tasks)))
    with pytest.raises(ProtocolError, match="1116 payload frames, over the limit of 1023"):
        encode(Tasks([*tasks, tasks[0]]), NOW)


def test_free_words_are_cut_and_mended_rather_than_refused() -> None:
    reason = "\ud800" + "ü" * 5000
    cut = "?" + "ü" * (MAX_TEXT_BYTES - 1)
    for message in (Bye(reason), Err(3, reason)):
        assert decode(sealed(message), NOW)[1].reason == cut  # type: ignore[union-attr]
    hello = Hello(Role.REPLICA, 1, "mesh", (1,), host=reason)
    assert decode(sealed(hello), NOW)[1] == dataclasses.replace(hello, host=cut)


@pytest.mark.parametrize("timeout", [0, 60, 2.5])
def test_a_span_of_time_may_be_written_as_a_whole_number(timeout: float) -> None:
    welcome = Welcome(1, 1, Role.GATEWAY, 0, False, timeout)
    assert decode(sealed(welcome), NOW)[1] == welcome
    facts = StageFacts("embed", "r1", 8, timeout, 1000)
    hello = Hello(Role.REPLICA, 1, "mesh", (1,), stage=facts)
    assert decode(sealed(hello), NOW)[1] == hello


# --- what the other side would refuse is not sent ---------------------------------------------

LONG = "x" * (MAX_TEXT_BYTES + 1)
MANY = [0] * (MAX_LIST_BYTES + 1)
TASK = Task(1, 1, PATH, 0, 1, NOW, [b"x"], 1)
UNSENDABLE: list[Message] = [
    Hello(Role.REPLICA, 2**64, "mesh", (1,)),
    Hello(Role.REPLICA, 1, LONG, (1,)),
    Hello(Role.REPLICA, 1, "\ud800", (1,)),
    Hello(Role.REPLICA, 1, "mesh", (-1,)),
    Hello(Role.REPLICA, 1, "mesh", (1,), known=-1),
    Hello(Role.REPLICA, 1, "mesh", (1,), feed=LONG),
    Hello(Role.REPLICA, 1, "mesh", (1,), owners=tuple(MANY)),
    Hello(Role.REPLICA, 1, "mesh", (1,), stage=StageFacts(LONG, "", 1, 1.0, 1)),
    Hello(Role.REPLICA, 1, "mesh", (1,), stage=StageFacts("s", "", -1, 1.0, 1)),
    Hello(Role.REPLICA, 1, "mesh", (1,), stage=StageFacts("s", "", 1, math.inf, 1)),
    Hello(Role.REPLICA, 1, "mesh", (1,), stage=StageFacts("s", "", 1, 1.0, 1, content_type=LONG)),
    Hello(Role.REPLICA, 1, "mesh", (1,), stage=StageFacts("s", "", 1, 1.0, 1, schema="x" * 2**22)),
    Welcome(1, 1, Role.GATEWAY, 0, False, math.nan),
    Welcome(1, 1, Role.GATEWAY, 0, False, -1.0),
    Welcome(1, 1, Role.GATEWAY, 0, 1, 1.0),  # type: ignore[arg-type]
    Part(1, 1, 0, b""),
    Part(1, 2, 1, b"xy"),
    Part(2**64, 2, 0, b"xy"),
    Death(1, LONG, 9, 0, []),
    Death(1, "s", -9, 0, []),
    Death(1, "s", 9, 0, [(1, -1)]),
    Death(1, "s", 9, 0, [(1, 1)] * (MAX_LIST_BYTES + 1)),
    Submit(-1, "/", 0, 0, None, []),
    Submit(1, LONG, 0, 0, None, []),
    Submit(1, "/", 0, 0, LONG, []),
    Submit(1, "/", 0, 0, None, [b""] * 257),
    Submit(1, "/", 0, 0, None, [bytes(INLINE_BYTES)] * 256),
    Submit(1, "/", 0, 0, None, [Transfer(-1, 1)]),  # type: ignore[list-item]
    Answer(Outcome(1, 2**16, OutcomeKind.RESULT)),
    Answer(Outcome(1, 1, OutcomeKind.RESULT, headers=((LONG, ""),))),
    Cancel(-1, []),
    Cancel(1, [2**64]),
    Cancel(1, MANY),
    Peers(-1, []),
    Peers(1, [Peer(LONG, 1, Role.GATEWAY, "", "")]),
    Peers(1, [Peer("a", -1, Role.GATEWAY, "", "")]),
    Peers(1, [Peer("a", 1, Role.GATEWAY, "", "")] * (MAX_LIST_BYTES + 1)),
    Ping(-1),
    Ping(1, running=2**64),
    Ping(1, held=1.5),  # type: ignore[arg-type]
    Ping(1, owners=tuple(MANY)),
    Credit(Load(2**64)),
    Credit(Load(0, -1)),
    Drain(-1),
    Err(-1, ""),
    Tasks([dataclasses.replace(TASK, attempt=2**16)]),
    Tasks([dataclasses.replace(TASK, number=2**64)]),
    Tasks([dataclasses.replace(TASK, owner=-1)]),
    Tasks([TASK] * (MAX_LIST_BYTES + 1)),
    Tasks([dataclasses.replace(TASK, buffers=[bytes(INLINE_BYTES)])] * 256),
    Outcomes([Outcome(1, 1, OutcomeKind.RESULT, status=-1)]),
    Outcomes([Outcome(1, 1, OutcomeKind.RESULT, index=2**32)]),
]


@pytest.mark.parametrize("message", UNSENDABLE, ids=lambda one: type(one).__name__)
def test_what_would_be_refused_is_not_sent(message: Message) -> None:
    with pytest.raises(ProtocolError) as caught:
        encode(message, NOW)
    assert 0 < len(str(caught.value)) < 300


@pytest.mark.parametrize("slack", [0, 1])
def test_the_first_frame_is_as_long_as_allowed_and_no_longer(slack: int) -> None:
    overhead = len(
        encode(Outcomes([Outcome(1, 1, OutcomeKind.RESULT, headers=(("", "x" * 70_000),))])).body
    )
    room = MAX_BODY_BYTES - HEADER_BYTES - (overhead - 70_000)
    message = Outcomes([Outcome(1, 1, OutcomeKind.RESULT, headers=(("", "x" * (room + slack)),))])
    if slack:
        with pytest.raises(ProtocolError, match="its first frame has"):
            encode(message)
    else:
        frames = sealed(message)
        assert len(frames[0]) == MAX_BODY_BYTES
        assert decode(frames, NOW)[1] == message or outcome_of(frames)


wild_numbers = st.sampled_from(
    [-1, 255, 256, 2**16 - 1, 2**16, 2**32 - 1, 2**32, 2**64 - 1, 2**64, 10**400]
)
wild_seconds = st.sampled_from([-1.0, -math.inf, math.inf, math.nan, 1e308])
wild_texts = st.sampled_from(["", "\ud800", "x" * MAX_TEXT_BYTES, LONG, "ü" * 5000])


@st.composite
def spoilt(draw: st.DrawFn, value: Any) -> Any:
    """The same value with one of its leaves replaced by an extreme one of its kind."""
    if isinstance(value, bool | Role | OutcomeKind) or value is None:
        return value
    if isinstance(value, int):
        return draw(wild_numbers)
    if isinstance(value, float):
        return draw(wild_seconds)
    if isinstance(value, str):
        return draw(wild_texts)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [one.name for one in dataclasses.fields(value)]
        if not names:
            return value
        name = draw(st.sampled_from(names))
        return dataclasses.replace(value, **{name: draw(spoilt(getattr(value, name)))})
    if isinstance(value, list | tuple) and value:
        at = draw(st.integers(0, len(value) - 1))
        items = [*value]
        items[at] = draw(spoilt(items[at]))
        return type(value)._make(items) if hasattr(value, "_make") else type(value)(items)
    return value


@settings(relaxed)
@given(st.data())
def test_whatever_encode_accepts_decode_accepts(data: st.DataObject) -> None:
    message = data.draw(messages)
    for _ in range(data.draw(st.integers(1, 3))):
        message = data.draw(spoilt(message))
    try:
        frames = sealed(message)
    except ProtocolError:
        return
    assert type(decode(frames, NOW)[1]) is type(message)


# --- whatever arrives, a message or a ProtocolError -------------------------------------------


@relaxed
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_arbitrary_frames(frames: list[Frame]) -> None:
    assert outcome_of(frames) is None or bytes(frames[0][:3]) == b"ML\x01"


@settings(relaxed)
@given(st.integers(0, 20), st.binary(max_size=300), st.lists(st.binary(max_size=50), max_size=3))
def test_random_bytes_behind_a_valid_header(kind: int, body: bytes, frames: list[bytes]) -> None:
    outcome_of(framed(kind, body, *frames))


anything = st.recursive(
    st.none()
    | st.booleans()
    | u64
    | st.integers(-(2**63), -1)
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=25,
)


@settings(relaxed)
@given(st.sampled_from(Type), anything | st.lists(anything, min_size=1, max_size=11))
def test_any_structure_behind_a_valid_header(kind: Type, body: Any) -> None:
    outcome_of(framed(kind, body))


@st.composite
def grafted(draw: st.DrawFn, value: Any) -> Any:
    """The same structure with one of its nodes replaced by anything."""
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], draw(grafted(value[at])), *value[at + 1 :]]
    return draw(anything)


@settings(relaxed)
@given(st.data())
def test_a_valid_body_with_one_node_replaced_by_anything(data: st.DataObject) -> None:
    frames = sealed(data.draw(messages))
    body = msgpack.unpackb(bytes(frames[0])[HEADER_BYTES:])
    kind = open_header(frames).type
    outcome_of(framed(kind, data.draw(grafted(body)), *frames[1:]))


@st.composite
def damaged(draw: st.DrawFn, raw: bytes) -> bytes:
    at = draw(st.integers(0, len(raw)))
    way = draw(st.sampled_from(["flip", "cut", "insert", "drop"]))
    if way == "flip" and at < len(raw):
        return raw[:at] + bytes([raw[at] ^ (1 << draw(st.integers(0, 7)))]) + raw[at + 1 :]
    if way == "insert":
        return raw[:at] + draw(st.binary(min_size=1, max_size=5)) + raw[at:]
    return raw[:at] if way == "cut" else raw[:at] + raw[at + 1 :]


@settings(relaxed)
@given(st.data())
def test_a_valid_message_damaged_on_the_way(data: st.DataObject) -> None:
    frames = [bytes(one) for one in sealed(data.draw(messages))]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(frames) - 1))
        frames[at] = data.draw(damaged(frames[at]))
    outcome_of([*frames])


@relaxed
@given(st.data())
def test_a_valid_message_with_its_frames_shuffled_doubled_or_lost(data: st.DataObject) -> None:
    frames = sealed(data.draw(messages))
    order = data.draw(st.lists(st.integers(0, len(frames) - 1), max_size=2 * len(frames)))
    outcome_of([frames[at] for at in order])


# --- how it is called ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        ([], "1 to 1024 frames, not 0"),
        ([b""] * 1025, "1 to 1024 frames, not 1025"),
        ([b"GET / HTTP/1.1\r\n"], "16 bytes is shorter than the header"),
        ([b"XY" + bytes(60)], "begins with b'XY'"),
        ([b"ML\x02" + bytes(60)], "not a message of version 1"),
        ([framed(0, [])[0]], "there is no message type 0"),
        ([framed(17, [])[0]], "there is no message type 17"),
        ([framed(Type.PING, bytes(MAX_BODY_BYTES))[0]], "over 4194304"),
        ([framed(Type.PING, b"")[0]], "the body is not msgpack"),
        ([framed(Type.PING, b"\xc1")[0]], "the body is not msgpack: FormatError"),
        ([framed(Type.PING, b"\x90\x90")[0]], "the body is not msgpack: ExtraData"),
        ([framed(Type.PING, b"\x91\x80")[0]], "the body is not msgpack"),
        ([framed(Type.PING, b"\x91\xc7\x00\x05")[0]], "the body is not msgpack"),
        ([framed(Type.PING, 5)[0]], "the body is a int, not a list"),
        ([framed(Type.PING, [1, 2, 3])[0]], "PING: "),
        ([framed(Type.WELCOME, [1, 1, 9, 0, True, 1.0])[0]], "WELCOME: 9 is not a valid Role"),
        ([framed(Type.WELCOME, [1, 1, 0, 0, 1, 1.0])[0]], "WELCOME: resumed is true or false"),
        ([framed(Type.WELCOME, [1, 1, 0, 0, True, None])[0]], "WELCOME: a number of seconds"),
        (
            [
                framed(
                    Type.HELLO,
                    [
                        1,
                        1,
                        "",
                        [],
                        0,
                        0,
                        "",
                        ["s", "", 1, 1.0, 1, 1, 0, "", "", "", ""],
                        "",
                        0,
                        [],
                        0,
                    ],
                )[0]
            ],
            "HELLO: the stage's facts have wrong types",
        ),
        ([*framed(Type.SUBMIT, [1, "/", 0, 0, None, [b"x"]]), b"more"], "more payload frames"),
        ([*framed(Type.PART, [1, 5, 3]), b"xyz"], "PART: 3 bytes at 3 do not fit into 5"),
        ([*framed(Type.PART, [1, 5, 3])], "PART: "),
        ([framed(Type.ANSWER, [b"", b"", [], b"", []])[0]], "ANSWER: "),
    ],
)
def test_an_error_says_what_was_wrong(frames: list[Frame], why: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(frames, NOW)
    assert why in str(caught.value)


LOAD = Load(2**63, 7, 2**32 - 1)


@pytest.mark.parametrize(
    ("kind", "body", "same"),
    [
        (Type.CREDIT, [pack_load(LOAD)[0] + b"of", "a", "later", "version"], Credit(LOAD)),
        (Type.WHO, ["of", "a", "later", "version"], Who()),
    ],
)
def test_a_message_of_nothing_but_its_header_may_grow(
    kind: Type, body: list[Any], same: Message
) -> None:
    assert decode(framed(kind, body), NOW)[1] == same


@pytest.mark.parametrize("message", [Credit(LOAD), Outcomes(load=LOAD), Ping(1, load=LOAD)])
def test_a_load_arrives_and_an_older_release_sends_none(message: Any) -> None:
    assert decode(sealed(message), NOW)[1].load == LOAD  # type: ignore[union-attr]
    message.load = None
    assert decode(sealed(message), NOW)[1].load is None  # type: ignore[union-attr]


def nested(value: bytes, depth: int) -> bytes:
    return b"\x91" * depth + value


def long_list(item: bytes) -> bytes:
    """A list of full lists, just under the limit of a first frame."""
    row = b"\xdd\x00\x01\x00\x00" + item * MAX_LIST_BYTES
    count = (MAX_BODY_BYTES - 100) // len(row)
    return b"\xdc" + count.to_bytes(2, "big") + row * count


BOMBS = {
    "a deep nest": nested(b"\x90", 1000),
    "a nest too deep": nested(b"\x90", 4_000_000),
    "a nest of maps": b"\x81\xa1x" * 300_000,
    "a huge list announced": b"\xdd\xff\xff\xff\xff",
    "huge lists announced in each other": b"\xdc\xff\xff" * 1_300_000,
    "some huge lists announced in each other": b"\xdc\xff\xff" * 900,
    "a huge map announced": b"\xdf\xff\xff\xff\xff",
    "huge bytes announced": b"\x91\xc6\xff\xff\xff\xff",
    "a huge text announced": b"\x91\xdb\xff\xff\xff\xff",
    "a huge extension announced": b"\x91\xc9\xff\xff\xff\xff\x05",
    "empty lists": long_list(b"\x90"),
    "lists of one": long_list(b"\x91\x90"),
    "empty maps": long_list(b"\x80"),
    "empty extensions": long_list(b"\xc7\x00\x05"),
    "numbers": long_list(b"\xcd\xff\xff"),
    "texts": long_list(b"\xa1x"),
    "a long text": b"\x91\xdb\x00\x3f\xff\x00" + b"x" * 0x3FFF00,
    "a million timings": msgpack.packb([b"", b"\xff" * 4_000_000, [], [], []]),
    "empty tasks": msgpack.packb(
        [bytes(27 * MAX_LIST_BYTES), b"", [1], [[["a", "b"]]], [b""] * MAX_LIST_BYTES]
    ),
    "eleven long texts": b"\x9b" + (b"\xdb\x00\x05\x00\x00" + b"x" * 0x50000) * 11,
}


@pytest.mark.parametrize("kind", [Type.TASKS, Type.DEATH, Type.CREDIT])
def test_bombs_do_not_go_off(kind: Type) -> None:
    for name, body in BOMBS.items():
        began = time.thread_time()
        outcome_of(framed(kind, body))
        assert time.thread_time() - began < 2.0, name


@pytest.mark.parametrize("kind", Type)
@pytest.mark.parametrize("depth", [10, 200, 990, 1020])
def test_a_nest_in_place_of_any_field_is_refused_whatever_the_stack_has_left(
    kind: Type, depth: int
) -> None:
    # Python's own limit of recursion must not show through: not in comparing, nor in printing.
    for width in range(1, 12):
        body = b"".join([bytes([0x90 + width]), nested(b"\x90", depth) * width])
        message = outcome_of(framed(kind, body))
        assert message is None or kind in (Type.CREDIT, Type.WHO)
    for good, at in [(GOOD[kind], at) for at in range(len(GOOD[kind]))]:
        pieces = [msgpack.packb(one) for one in good]
        pieces[at] = nested(b"\x90", depth)
        outcome_of(framed(kind, bytes([0x90 + len(good)]) + b"".join(pieces)))


def _good_bodies() -> dict[Type, list[Any]]:
    facts = StageFacts("s", "r", 1, 1.0, 1)
    some: list[Message] = [
        Hello(Role.REPLICA, 1, "mesh", (1,), stage=facts),
        Welcome(1, 1, Role.GATEWAY, 0, False, 1.0),
        Tasks([TASK]),
        Part(1, 1, 0, b"x"),
        Credit(),
        Outcomes([Outcome(1, 1, OutcomeKind.RESULT, label="x")]),
        Death(1, "s", 9, 0, [(1, 1)]),
        Submit(1, "/", 0, 0, None, [b"x"]),
        Answer(Outcome(1, 1, OutcomeKind.RESULT, label="x")),
        Cancel(1, [1]),
        Peers(1, [Peer("a", 1, Role.GATEWAY, "", "")]),
        Ping(1),
        Drain(1),
        Bye(""),
        Who(),
        Err(1, ""),
    ]
    return {open_header(sealed(one)).type: msgpack.unpackb(encode(one, NOW).body) for one in some}


GOOD = _good_bodies()


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(wire) == (0, 2)
