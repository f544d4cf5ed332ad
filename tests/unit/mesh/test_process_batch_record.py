"""What a replica computes, as its supervisor reads it after its death."""

from __future__ import annotations

import pytest

from mesh.process.batch_record import MOST, SIZE, Board, Running
from mesh.protocol.messages import Task
from mesh.worker.request_info import name_of_id


def named(number: int) -> str:
    return name_of_id((2**63, number))


def tasks(count: int) -> list[Task]:
    return [Task(2**63, number, (("a", ""),), 0, 1, 9.0, [b""], 0) for number in range(count)]


@pytest.fixture
def board() -> Board:
    return Board(bytearray(SIZE))


def test_a_new_board_is_empty(board: Board) -> None:
    assert board.read() is None


def test_a_batch_is_there_from_its_beginning_to_its_end(board: Board) -> None:
    board.begin(tasks(3), 5.5, singly=False)
    names = [named(0), named(1), named(2)]
    assert board.read() == Running(5.5, [(2**63, 0), (2**63, 1), (2**63, 2)], names)
    board.end()
    assert board.read() is None


def test_of_tasks_that_run_one_by_one_it_names_the_one_whose_turn_it_is(board: Board) -> None:
    board.begin(tasks(3), 5.5, singly=True)
    assert board.read() == Running(5.5, [(2**63, 0)], [named(0)])
    board.step(2)
    assert board.read() == Running(5.5, [(2**63, 2)], [named(2)])
    board.begin(tasks(1), 6.0, singly=False)
    assert board.read() == Running(6.0, [(2**63, 0)], [named(0)])


def test_of_a_batch_that_is_too_large_the_first_are_named(board: Board) -> None:
    board.begin(tasks(MOST + 5), 1.0, singly=False)
    running = board.read()
    assert running is not None
    assert len(running.ids) == MOST
    board.begin(tasks(MOST + 5), 1.0, singly=True)
    board.step(MOST + 2)
    assert board.read() == Running(1.0, [(2**63, MOST - 1)], [named(8191)])


def test_requests_are_named_as_their_clients_know_them(board: Board) -> None:
    batch = tasks(3)
    batch[0].request_id, batch[2].request_id = "a-7", "c"
    board.begin(batch, 1.0, singly=False)
    running = board.read()
    assert running is not None
    assert running.names == ["a-7", named(1), "c"]
    board.begin(batch, 1.0, singly=True)
    board.step(2)
    running = board.read()
    assert running is not None
    assert running.names == ["c"]


def test_names_for_which_there_is_no_room_are_those_of_the_mesh(board: Board) -> None:
    batch = tasks(1000)
    for number, task in enumerate(batch):
        task.request_id = f"{number}-{'x' * 120}"
    board.begin(batch, 1.0, singly=False)
    running = board.read()
    assert running is not None
    assert running.names[500] == batch[500].request_id
    assert running.names[999] == named(999)
    assert 500 < len([name for name in running.names if "x" in name]) < 550


def test_a_step_of_the_start_is_there_until_the_next(board: Board) -> None:
    assert board.step_of_start() == ""
    board.starts("in example 1 of 2")
    assert (board.step_of_start(), board.read()) == ("in example 1 of 2", None)
    board.begin(tasks(1), 1.0, singly=False)
    assert board.step_of_start() == ""
    board.end()
    assert board.step_of_start() == ""
