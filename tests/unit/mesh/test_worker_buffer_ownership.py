"""What may be sent uncopied, and what somebody could still change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mesh.protocol.messages import Buffer
from mesh.worker.buffer_ownership import isolate
from mesh.worker.codec import decode, encode

KEPT: list[Any] = []  # what a worker might still refer to


@pytest.fixture(autouse=True)
def forgetful() -> Any:
    yield
    KEPT.clear()


def fresh() -> np.ndarray:
    return np.arange(1000.0)


def kept() -> np.ndarray:
    KEPT.append(fresh())
    return KEPT[-1]  # type: ignore[no-any-return]


def kept_inside() -> dict[str, Any]:
    KEPT.append({"boxes": [fresh()]})
    return KEPT[-1]  # type: ignore[no-any-return]


def kept_as_a_view() -> np.ndarray:
    array = fresh()
    KEPT.append(array[:1])
    return array


def kept_as_a_memoryview() -> np.ndarray:
    array = fresh()
    KEPT.append(memoryview(array))
    return array


def another_library() -> np.ndarray:
    return np.frombuffer(bytearray(8000))


def received() -> Any:
    return decode([bytes(buffer) for buffer in encode(fresh())])


@pytest.mark.parametrize(
    "make", [fresh, lambda: {"a": [fresh(), 1]}, lambda: fresh().reshape(10, 100), received]
)
def test_what_nobody_else_can_change_is_not_copied(make: Any) -> None:
    buffers = encode(make())
    before = buffers[1]
    isolate([buffers])
    assert buffers[1] is before
    assert np.array_equal(np.frombuffer(buffers[1]), fresh())


@pytest.mark.parametrize(
    "make", [kept, kept_inside, kept_as_a_view, kept_as_a_memoryview, another_library]
)
def test_what_somebody_can_still_change_is_copied(make: Any) -> None:
    buffers = encode(make())
    before = bytes(buffers[1])
    isolate([buffers])
    assert type(buffers[1]) is bytes
    assert buffers[1] == before


def test_a_copy_does_not_follow_what_happens_to_the_original() -> None:
    buffers = encode(kept())
    isolate([buffers])
    KEPT[0][:] = -1.0
    assert np.array_equal(np.frombuffer(buffers[1]), fresh())


def rows(array: np.ndarray) -> list[list[Buffer]]:
    return [encode(row) for row in array]


def test_rows_that_leave_together_are_not_copied() -> None:
    outputs = rows(np.ones((4, 1000)))
    isolate(outputs)
    assert all(type(buffers[1]) is memoryview for buffers in outputs)


def test_rows_of_an_array_that_is_kept_are_copied() -> None:
    KEPT.append(np.ones((4, 1000)))
    outputs = rows(KEPT[0])
    isolate(outputs)
    assert all(type(buffers[1]) is bytes for buffers in outputs)


def test_a_part_does_not_keep_a_much_larger_array_alive() -> None:
    large, half = encode(np.ones((9, 1000))[2]), encode(np.ones((2, 1000))[1])
    isolate([large, half])
    assert type(large[1]) is bytes
    assert type(half[1]) is memoryview


def test_one_array_in_two_results_is_copied() -> None:
    array = fresh()
    outputs = [encode(array), encode(array)]
    del array
    isolate(outputs)
    # Each view counts as somebody else of the other's array; to tell is not worth it.
    assert [np.frombuffer(buffers[1])[5] for buffers in outputs] == [5.0, 5.0]


def test_slices_of_one_view_do_not_hide_somebody_else() -> None:
    KEPT.append(fresh())
    view = KEPT[0].view(np.uint8).data
    outputs: list[list[Buffer]] = [[view[:4000], view[4000:]]]
    del view
    isolate(outputs)
    assert [type(buffer) for buffer in outputs[0]] == [bytes, bytes]


@pytest.mark.parametrize(
    "buffer", [bytearray(b"abc"), memoryview(bytearray(b"abc")), memoryview(fresh()).cast("B")]
)
def test_other_changeable_buffers_are_copied(buffer: Buffer) -> None:
    outputs = [[b"skeleton", buffer]]
    isolate(outputs)
    assert outputs == [[b"skeleton", bytes(buffer)]]
    assert type(outputs[0][1]) is bytes
