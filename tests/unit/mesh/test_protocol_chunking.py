"""Large buffers in slices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import ProtocolError
from mesh.protocol import chunking as transfers
from mesh.protocol.chunking import Chunk, Incoming, Outgoing, is_large
from mesh.protocol.fields import Transfer
from mesh.protocol.messages import (
    Answer,
    BatchStats,
    Cancel,
    HandoffNotice,
    Message,
    Outcome,
    OutcomeKind,
    Outcomes,
    Part,
    Submit,
    Task,
    Tasks,
)

SIZE = 64


@pytest.fixture(scope="module", autouse=True)
def _small_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfers, "PART_BYTES", SIZE)
        patch.setattr(transfers, "INLINE_BYTES", SIZE // 4)
        patch.setattr(transfers, "MAX_CHUNK_BYTES", 3 * SIZE)
        yield


def a_task(*buffers: bytes | bytearray | memoryview) -> Task:
    return Task(1, 2, (("embed", "1"),), 0, 1, 9.0, list(buffers), sum(map(len, buffers)))


def an_outcome(*buffers: bytes) -> Outcome:
    return Outcome(2, 1, OutcomeKind.RESULT, buffers=list(buffers))


def all_steps(outgoing: Outgoing) -> list[Chunk]:
    return list(iter(outgoing.step, None))


def payload(message: Message) -> list[list[bytes]]:
    return [[bytes(b) for b in buffers] for buffers in transfers._buffer_lists(message)]


def carried(message: Message, incoming: Incoming, first: int = 0) -> Message:
    """What the other side makes of the steps; slices as bytes, as the wire has them."""
    for message, _ in all_steps(Outgoing(message, first)):  # noqa: B020
        if isinstance(message, Part):
            message.slice = bytes(message.slice)
            incoming.add(message)
        else:
            incoming.claim(message)
    return message


sizes = st.sampled_from([0, 1, SIZE // 4, SIZE // 4 + 1, SIZE, SIZE + 1, 2 * SIZE, 5 * SIZE + 3])
buffers = st.lists(
    st.tuples(sizes, st.sampled_from([bytes, bytearray, memoryview])).map(
        lambda made: made[1](bytes(i % 251 for i in range(made[0])))
    ),
    max_size=6,
)
messages = st.one_of(
    st.lists(buffers, min_size=1, max_size=3).map(lambda rows: Tasks([a_task(*r) for r in rows])),
    st.lists(buffers, min_size=1, max_size=3).map(
        lambda rows: Outcomes([an_outcome(*r) for r in rows], [HandoffNotice(1, 1, 1, 1)])
    ),
    buffers.map(lambda row: Answer(an_outcome(*row))),
    buffers.map(lambda row: Submit(1, "/x", 0, 0, None, row)),
)


@given(messages)
def test_what_goes_out_comes_in(message: Message) -> None:
    before = payload(message)
    incoming = Incoming(10**6)
    arrived = carried(message, incoming, first=7)
    assert type(arrived) is type(message)
    assert payload(arrived) == before
    assert payload(message) == before  # kept for a retry
    assert incoming.held == 0


@given(messages)
def test_no_multipart_is_too_large(message: Message) -> None:
    for step in all_steps(Outgoing(message, 0)):
        if isinstance(step.message, Part):
            assert 0 < len(step.message.slice) <= SIZE
        else:
            rest = [b for row in transfers._buffer_lists(step.message) for b in row]
            lengths = [len(b) for b in rest if not isinstance(b, Transfer)]
            inline = [length for length in lengths if length <= SIZE // 4]
            assert sum(lengths) <= 3 * SIZE or lengths == inline


def test_large_is_what_holds_a_large_buffer_or_too_many_middling_ones() -> None:
    assert not is_large(Tasks([a_task(bytes(SIZE), bytes(SIZE), bytes(SIZE))]))
    assert is_large(Tasks([a_task(bytes(SIZE + 1))]))
    assert is_large(Tasks([a_task(*[bytes(SIZE)] * 4)]))
    assert not is_large(Cancel(1, [2]))


def test_the_last_step_names_the_slices_and_remembers_the_whole() -> None:
    whole = Outcomes(
        [an_outcome(b"small", bytes(2 * SIZE))], [], [BatchStats("a", 1, 1, 1, "idle")]
    )
    outgoing = Outgoing(whole, 5)
    assert (outgoing.transfers, outgoing.left, outgoing.whole) == (1, True, whole)
    one, two, last = all_steps(outgoing)
    assert one.message is one.whole
    assert isinstance(two.message, Part)
    assert (two.message.transfer, two.message.offset, two.message.total) == (5, SIZE, 2 * SIZE)
    assert last.whole is whole
    assert isinstance(last.message, Outcomes)
    assert last.message.outcomes[0].buffers == [b"small", Transfer(5, 2 * SIZE)]
    assert last.message.stats == whole.stats
    assert not outgoing.left


def test_slices_are_views_and_not_copies() -> None:
    payload = bytes(2 * SIZE)
    step = Outgoing(Tasks([a_task(payload)]), 0).step()
    assert step is not None
    assert isinstance(step.message, Part)
    assert isinstance(step.message.slice, memoryview)
    assert step.message.slice.obj is payload


def test_more_than_was_granted_is_refused() -> None:
    incoming = Incoming(100)
    incoming.add(Part(0, 60, 0, b"x" * 30))
    with pytest.raises(ProtocolError, match="a transfer of 41 bytes is over what was granted"):
        incoming.add(Part(1, 41, 0, b"x"))
    assert incoming.held == 60
    incoming.add(Part(2, 40, 0, b"x"))
    assert incoming.held == 100


MIB = 1 << 20


def accept_balance(
    limit: int, *sources: str, memory: Any = transfers.GrowingBuffer
) -> list[Incoming]:
    """A session of each source, in one process that may have `limit` bytes unfinished."""
    unfinished = transfers.Unfinished(limit, memory)
    return [Incoming(1 << 30, unfinished, source) for source in sources]


def come(incoming: Incoming, transfer: int, slices: int, now: float = 0.0) -> None:
    """So many more MiB come of a transfer of 100 MiB."""
    known = incoming._open.get(transfer)
    for _ in range(slices):
        filled = known.filled if known is not None else 0
        incoming.add(Part(transfer, 100 * MIB, filled, bytes(MIB)), now)
        known = incoming._open.get(transfer)


def naming(number: int, total: int = 100 * MIB) -> Any:
    """A message with that transfer."""
    message: Any = Tasks([a_task(b"")])
    message.tasks[0].buffers = [Transfer(number, total)]
    return message


def test_what_comes_counts_for_all_sessions_together() -> None:
    one, other = accept_balance(10 * MIB, "one", "other")
    come(one, 0, 2)
    come(other, 0, 3)
    assert (one.arrived, other.arrived) == (2 * MIB, 3 * MIB)
    assert one._unfinished.nbytes == 5 * MIB
    one.give_up()
    assert (one.arrived, one.held, one._unfinished.nbytes) == (0, 0, 3 * MIB)


def test_whoever_has_most_gives_way_to_one_who_has_less() -> None:
    most, much, little = accept_balance(10 * MIB, "most", "much", "little")
    come(most, 0, 6)
    come(much, 0, 4)
    come(little, 0, 1)
    assert (most.arrived, much.arrived, little.arrived) == (0, 4 * MIB, MIB)
    come(little, 0, 4)
    assert (much.arrived, little.arrived) == (4 * MIB, 5 * MIB)


def test_of_those_who_have_as_much_none_gives_way_and_the_newcomer_is_refused() -> None:
    one, other = accept_balance(10 * MIB, "one", "other")
    come(one, 0, 5)
    come(other, 0, 5)
    with pytest.raises(ProtocolError, match="unfinished transfers are all that there is memory"):
        come(one, 0, 1)
    assert (one.arrived, other.arrived) == (0, 5 * MIB)  # what it had can never be whole
    come(one, 0, 3)  # nor is more of it kept
    assert one.arrived == 0
    come(one, 1, 5)
    assert one.arrived == 5 * MIB


def test_all_sessions_of_one_source_have_one_share() -> None:
    *many, other = accept_balance(10 * MIB, *["many"] * 9, "other")
    for at, one in enumerate(many):
        come(one, 0, 1, now=float(at))
    come(other, 0, 5)
    assert [one.arrived // MIB for one in many] == [0] * 4 + [1] * 5  # the oldest first
    assert other.arrived == 5 * MIB
    with pytest.raises(ProtocolError, match="all that there is memory"):
        come(many[0], 1, 1)


def test_what_is_given_up_is_refused_where_it_is_named_and_nowhere_before() -> None:
    one, other = accept_balance(3 * MIB, "one", "other")
    come(one, 4, 3)
    come(other, 0, 1)
    come(one, 4, 90)  # the sender has not heard of it
    assert (one.arrived, one.held) == (0, 0)
    with pytest.raises(ProtocolError, match="transfer 4 was given up: it came too slowly, or"):
        one.claim(naming(4))
    come(one, 5, 2)
    assert one.arrived == 2 * MIB


def test_what_has_been_coming_for_too_long_is_given_up() -> None:
    (one,) = accept_balance(10 * MIB, "one")
    come(one, 0, 1, now=1.0)
    come(one, 1, 1, now=2.0)
    come(one, 0, 1, now=9.0)
    one.give_up(begun_before=1.0)
    assert one.arrived == 3 * MIB
    one.give_up(begun_before=1.5)
    assert (one.arrived, one.held) == (MIB, 100 * MIB)
    with pytest.raises(ProtocolError, match="transfer 0 was given up"):
        one.claim(naming(0))
    assert one.arrived == MIB


def test_each_unfinished_transfer_costs_something_however_little_came_of_it() -> None:
    (incoming,) = accept_balance(10 * transfers.LEAST_CHARGED_BYTES, "one")
    for number in range(10):
        incoming.add(Part(number, 1000, 0, b"x"))
    assert incoming.arrived == 10 * transfers.LEAST_CHARGED_BYTES
    with pytest.raises(ProtocolError, match="unfinished"):
        incoming.add(Part(10, 1000, 0, b"x"))


def test_a_transfer_for_which_there_is_no_memory_is_refused() -> None:
    def memory(total: int) -> transfers.GrowingBuffer:
        raise MemoryError

    (incoming,) = accept_balance(1 << 20, "one", memory=memory)
    with pytest.raises(ProtocolError, match="there is no memory for a transfer of 100 bytes"):
        incoming.add(Part(0, 100, 0, b"x"))
    assert (incoming.held, incoming.arrived, incoming._unfinished.nbytes) == (0, 0, 0)
    incoming.add(Part(0, 100, 1, b"x"))  # its sender has not heard of it
    with pytest.raises(ProtocolError, match="transfer 0 was given up"):
        incoming.claim(naming(0, 100))


@pytest.mark.parametrize("part", [Part(0, 60, 10, b"x"), Part(0, 61, 30, b"x"), Part(9, 5, 1, b"")])
def test_a_slice_out_of_its_place_is_refused_and_costs_no_room(part: Part) -> None:
    incoming = Incoming(1000)
    incoming.add(Part(0, 60, 0, b"x" * 30))
    with pytest.raises(ProtocolError, match=r"a slice at \d+ of \d+ where \d+ is next"):
        incoming.add(part)
    assert incoming.held == 60


def test_a_transfer_that_is_not_complete_cannot_be_claimed() -> None:
    incoming = Incoming(1000)
    incoming.add(Part(3, 60, 0, b"x" * 30))
    message: Any = Tasks([a_task(b"")])
    message.tasks[0].buffers = [Transfer(3, 60)]
    with pytest.raises(ProtocolError, match="transfer 3 is named but is not complete"):
        incoming.claim(message)
    assert incoming.held == 0  # what it had is of no use any more


def test_a_transfer_that_never_came_cannot_be_claimed() -> None:
    message: Any = Tasks([a_task(b"")])
    message.tasks[0].buffers = [b"x", Transfer(3, 60)]
    with pytest.raises(ProtocolError, match="transfer 3"):
        Incoming(1000).claim(message)


def test_slices_of_a_message_that_could_not_be_read_are_dropped_at_the_next() -> None:
    incoming = Incoming(200)
    for number in 0, 1:
        incoming.add(Part(number, 60, 0, b"x" * 60))
    assert incoming.held == 120
    arrived = carried(Tasks([a_task(b"y" * 80)]), incoming, first=2)
    assert payload(arrived) == [[b"y" * 80]]
    assert incoming.held == 0


def test_what_is_said_is_settled_when_it_is_posted() -> None:
    """An owner may begin a request again while its slices are still on their way."""
    task = a_task(bytes(2 * SIZE))
    outgoing = Outgoing(Tasks([task]), 0)
    steps = [outgoing.step(), outgoing.step()]
    task.attempt = 2
    last = outgoing.step()
    assert all(steps)
    assert last is not None
    assert isinstance(last.message, Tasks)
    assert (last.message.tasks[0].attempt, last.whole) == (1, outgoing.whole)
