"""``python -P -m stage``: one replica. Started by a supervisor, not by hand."""

from __future__ import annotations

import argparse
import json
import mmap
import os
import sys
from pathlib import Path

from mesh.board import SIZE, Board
from mesh.errors import MeshError
from mesh.failure_text import exc_info, is_worth_a_trace
from mesh.lifeline import Lifeline, kill_group
from mesh.log import configure, get_logger
from mesh.process_settings import ReplicaProcess
from stage.server import serve


def main() -> int:
    """Read the settings file, serve, and say honestly how it ended."""
    parser = argparse.ArgumentParser(prog="python -m stage")
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--ready-fd", type=int)
    parser.add_argument("--parent-fd", type=int)
    parser.add_argument("--board-fd", type=int)
    arguments = parser.parse_args()
    process = ReplicaProcess.from_json(json.loads(arguments.settings.read_text()))
    configure(process.log_level, f"{process.stage.name}/{process.worker_id}")
    lifeline = Lifeline(arguments.ready_fd, arguments.parent_fd, process.run_folder)
    lifeline.watch(process.grace)
    try:
        serve(process, lifeline, _board(arguments.board_fd))
    except MeshError as error:
        _tell(error, alone=arguments.ready_fd is None)
        lifeline.failed(str(error))
        return 3
    finally:
        lifeline.close()
        if lifeline.orphaned:
            kill_group()  # the worker's own children, whom nobody else would end
    return 0


def _tell(error: MeshError, *, alone: bool) -> None:
    """Say why this process cannot start: the traceback here, the reason where there is no parent
    that says it."""
    cause = error.__cause__
    if cause is not None and is_worth_a_trace(cause):
        get_logger().error("%s", error, exc_info=exc_info(cause))
    elif alone:
        get_logger().error("%s", error)


def _board(descriptor: int | None) -> Board | None:
    """The memory that the supervisor reads when this process has crashed."""
    if descriptor is None:
        return None
    memory = mmap.mmap(descriptor, SIZE)
    os.close(descriptor)
    return Board(memoryview(memory))


if __name__ == "__main__":
    sys.exit(main())
