"""What a replica computes, as its supervisor reads it after its death."""

from __future__ import annotations

import pytest

from mesh.process.batch_record import MAX_IDS, SIZE, BatchRecord, RunningBatch
from mesh.protocol.messages import Task
from mesh.worker.request_info import name_of_id


def named(number: int) -> str:
    return name_of_id((2**63, number))


def tasks(count: int) -> list[Task]:
    return [Task(2**63, number, (("a", ""),), 0, 1, 9.0, [b""], 0) for number in range(count)]


@pytest.fixture
def batch_record() -> BatchRecord:
    return BatchRecord(bytearray(SIZE))


def test_a_new_record_is_empty(batch_record: BatchRecord) -> None:
    assert batch_record.read() is None


def test_a_batch_is_there_from_its_beginning_to_its_end(batch_record: BatchRecord) -> None:
    batch_record.begin(tasks(3), 5.5, singly=False)
    names = [named(0), named(1), named(2)]
    assert batch_record.read() == RunningBatch(5.5, [(2**63, 0), (2**63, 1), (2**63, 2)], names)
    batch_record.end()
    assert batch_record.read() is None


def test_of_tasks_that_run_one_by_one_it_names_the_one_whose_turn_it_is(
    batch_record: BatchRecord,
) -> None:
    batch_record.begin(tasks(3), 5.5, singly=True)
    assert batch_record.read() == RunningBatch(5.5, [(2**63, 0)], [named(0)])
    batch_record.step(2)
    assert batch_record.read() == RunningBatch(5.5, [(2**63, 2)], [named(2)])
    batch_record.begin(tasks(1), 6.0, singly=False)
    assert batch_record.read() == RunningBatch(6.0, [(2**63, 0)], [named(0)])


def test_of_a_batch_that_is_too_large_the_first_are_named(batch_record: BatchRecord) -> None:
    batch_record.begin(tasks(MAX_IDS + 5), 1.0, singly=False)
    running = batch_record.read()
    assert running is not None
    assert len(running.ids) == MAX_IDS
    batch_record.begin(tasks(MAX_IDS + 5), 1.0, singly=True)
    batch_record.step(MAX_IDS + 2)
    assert batch_record.read() == RunningBatch(1.0, [(2**63, MAX_IDS - 1)], [named(8191)])


def test_requests_are_named_as_their_clients_know_them(batch_record: BatchRecord) -> None:
    batch = tasks(3)
    batch[0].request_id, batch[2].request_id = "a-7", "c"
    batch_record.begin(batch, 1.0, singly=False)
    running = batch_record.read()
    assert running is not None
    assert running.names == ["a-7", named(1), "c"]
    batch_record.begin(batch, 1.0, singly=True)
    batch_record.step(2)
    running = batch_record.read()
    assert running is not None
    assert running.names == ["c"]


def test_names_for_which_there_is_no_room_are_those_of_the_mesh(batch_record: BatchRecord) -> None:
    batch = tasks(1000)
    for number, task in enumerate(batch):
        task.request_id = f"{number}-{'x' * 120}"
    batch_record.begin(batch, 1.0, singly=False)
    running = batch_record.read()
    assert running is not None
    assert running.names[500] == batch[500].request_id
    assert running.names[999] == named(999)
    assert 500 < len([name for name in running.names if "x" in name]) < 550


def test_a_step_of_the_start_is_there_until_the_next(batch_record: BatchRecord) -> None:
    assert batch_record.step_of_start() == ""
    batch_record.starts("in example 1 of 2")
    assert (batch_record.step_of_start(), batch_record.read()) == ("in example 1 of 2", None)
    batch_record.begin(tasks(1), 1.0, singly=False)
    assert batch_record.step_of_start() == ""
    batch_record.end()
    assert batch_record.step_of_start() == ""
