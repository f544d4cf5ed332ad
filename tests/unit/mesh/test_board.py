"""What a replica computes, as its supervisor reads it after its death."""

from __future__ import annotations

import pytest

from mesh.board import MOST, SIZE, Board, Running
from mesh.messages import Task


def tasks(count: int) -> list[Task]:
    return [Task(2**63, number, (("a", ""),), 0, 1, 9.0, [b""], 0) for number in range(count)]


@pytest.fixture
def board() -> Board:
    return Board(bytearray(SIZE))


def test_a_new_board_is_empty(board: Board) -> None:
    assert board.read() is None


def test_a_batch_is_there_from_its_beginning_to_its_end(board: Board) -> None:
    board.begin(tasks(3), 5.5, singly=False)
    assert board.read() == Running(5.5, [(2**63, 0), (2**63, 1), (2**63, 2)])
    board.end()
    assert board.read() is None


def test_of_tasks_that_run_one_by_one_it_names_the_one_whose_turn_it_is(board: Board) -> None:
    board.begin(tasks(3), 5.5, singly=True)
    assert board.read() == Running(5.5, [(2**63, 0)])
    board.step(2)
    assert board.read() == Running(5.5, [(2**63, 2)])
    board.begin(tasks(1), 6.0, singly=False)
    assert board.read() == Running(6.0, [(2**63, 0)])


def test_of_a_batch_that_is_too_large_the_first_are_named(board: Board) -> None:
    board.begin(tasks(MOST + 5), 1.0, singly=False)
    running = board.read()
    assert running is not None
    assert len(running.ids) == MOST
    board.begin(tasks(MOST + 5), 1.0, singly=True)
    board.step(MOST + 2)
    assert board.read() == Running(1.0, [(2**63, MOST - 1)])
