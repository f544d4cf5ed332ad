"""Hypothesis strategies for whatever crosses a socket, and a way to compare it afterwards."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from mesh.protocol.fields import INLINE_BYTES, Transfer
from mesh.protocol.messages import (
    Answer,
    BatchStats,
    Bye,
    Cancel,
    Credit,
    Death,
    Drain,
    Err,
    HandoffNotice,
    Hello,
    Load,
    Meta,
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
    Welcome,
    Who,
)

NOW = 1000.0
# A busy machine must not fail a test: what may be slow is measured apart, in its own CPU time.
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

u8 = st.integers(0, 2**8 - 1)
u16 = st.integers(0, 2**16 - 1)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
# Without lone surrogates: those are no UTF-8 and have tests of their own.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["ü" * 4096, "x" * 4096]
)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
pairs = st.lists(st.tuples(names, names), max_size=3).map(tuple)
seconds = st.floats(0, 1e9)
roles = st.sampled_from(Role)


def _sized(size: int, shape: str) -> Any:
    flat = bytes([size % 251]) * size
    return {"bytes": flat, "array": bytearray(flat), "view": memoryview(flat)}[shape]


sizes = st.integers(0, 40) | st.sampled_from(
    [INLINE_BYTES - 1, INLINE_BYTES, INLINE_BYTES + 1, 3 * INLINE_BYTES]
)
plain = st.builds(_sized, sizes, st.sampled_from(["bytes", "array", "view"]))
buffers = st.lists(plain | st.builds(Transfer, u64, u64), max_size=5)
one_small = st.binary(max_size=30).map(lambda flat: [flat])
payloads = one_small | buffers

hops = st.lists(st.tuples(names, names), min_size=1, max_size=4).map(tuple)
timings = st.lists(u32, max_size=6).map(tuple)
request_ids = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=128)
metas = st.builds(Meta, names, texts, texts, pairs)


def length(payload: list[Any]) -> int:
    """What `Task.nbytes` says of such a payload."""
    return sum(one.total if isinstance(one, Transfer) else len(one) for one in payload)


@st.composite
def task(draw: st.DrawFn) -> Task:
    payload = draw(payloads)
    return Task(
        owner=draw(u64),
        number=draw(u64),
        hops=draw(hops),
        hop=draw(u16),
        attempt=draw(u16),
        deadline=NOW + draw(st.floats(0, 4e6)),
        buffers=payload,
        nbytes=length(payload),
        flags=draw(u8),
        priority=draw(u8),
        trace=draw(st.none() | texts),
        timings=draw(timings),
        meta=draw(st.none() | metas),
        request_id=draw(st.none() | request_ids),
    )


outcomes = st.builds(
    Outcome,
    number=u64,
    attempt=u16,
    kind=st.sampled_from(OutcomeKind),
    hop=u16,
    timings=timings,
    buffers=payloads,
    label=st.just("") | texts,
    text=st.just("") | texts,
    status=u16,
    headers=pairs,
    index=u32,
)
notices = st.builds(HandoffNotice, u64, u16, u16, u64)
stats = st.builds(BatchStats, names, u32, u32, u32, names, u32, u32, u32, u32)
stages = st.builds(
    StageFacts, names, names, u64, seconds, u64, st.booleans(), st.booleans(), names, texts
)


@st.composite
def part(draw: st.DrawFn) -> Part:
    piece = _sized(draw(st.integers(1, 5000)), draw(st.sampled_from(["bytes", "view"])))
    offset = draw(st.integers(0, 2**63))
    return Part(draw(u64), offset + len(piece) + draw(st.integers(0, 2**62)), offset, piece)


loads = st.builds(Load, u64, u32, u32)
owners = st.lists(u64, max_size=4).map(tuple)
STRATEGIES: dict[type[Any], st.SearchStrategy[Any]] = {
    Hello: st.builds(
        Hello,
        roles,
        u64,
        names,
        st.lists(u64, max_size=3).map(tuple),
        u64,
        u64,
        names,
        st.none() | stages,
        texts,
        u64,
        st.lists(u64, max_size=5).map(tuple),
        u64,
    ),
    Welcome: st.builds(Welcome, u64, u64, roles, u64, st.booleans(), seconds),
    Tasks: st.builds(Tasks, st.lists(task(), min_size=1, max_size=4)),
    Part: part(),
    Credit: st.builds(Credit, loads),
    Outcomes: st.builds(
        Outcomes,
        st.lists(outcomes, max_size=4),
        st.lists(notices, max_size=3),
        st.lists(stats, max_size=2),
        load=loads,
    ),
    Death: st.builds(Death, u64, names, u64, u64, st.lists(st.tuples(u64, u64), max_size=4)),
    Submit: st.builds(Submit, u64, texts, u64, u64, st.none() | texts, payloads),
    Answer: st.builds(Answer, outcomes),
    Cancel: st.builds(Cancel, u64, st.lists(u64, max_size=6)),
    Peers: st.builds(
        Peers, u64, st.lists(st.builds(Peer, names, u64, roles, names, names), max_size=4)
    ),
    Ping: st.builds(Ping, u64, u64, u64, u64, u64, u64, owners, loads),
    Drain: st.builds(Drain, u64),
    Bye: st.builds(Bye, texts),
    Who: st.builds(Who),
    Err: st.builds(Err, u64, texts),
}
messages = st.one_of(list(STRATEGIES.values()))


def comparable(value: Any) -> Any:
    """The value with every buffer as bytes and every list as a tuple, class names kept."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if dataclasses.is_dataclass(value):
        compared = [one.name for one in dataclasses.fields(value) if one.compare]
        fields = {name: getattr(value, name) for name in compared}
        return type(value).__name__, {name: comparable(one) for name, one in fields.items()}
    if isinstance(value, list | tuple):
        return type(value).__name__, [comparable(one) for one in value]
    return value
