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
from mesh.lifeline import Lifeline
from mesh.log import configure, get_logger
from mesh.process.exit_watchdog import end_soon
from mesh.process.signals import prepare
from mesh.process_settings import ReplicaProcess
from stage.server import serve


def main() -> int:
    """Read the settings file, serve, and say honestly how it ended."""
    stops = prepare()
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
    code = 1  # as Python has it for an exception that nobody catches
    try:
        serve(process, lifeline, _board(arguments.board_fd), stops)
        code = 0
    except MeshError as error:
        if arguments.ready_fd is None:  # otherwise the parent says it, once
            get_logger().error("%s", error)
        lifeline.failed(str(error))
        code = 3
    except SystemExit as ended:
        code = _code(ended)
        raise
    finally:
        lifeline.end()  # it is not closed: it watches until the process is gone
        end_soon(code)
    return code


def _code(ended: SystemExit) -> int:
    """The exit code that Python makes of what was given to `sys.exit`."""
    if ended.code is None:
        return 0
    return ended.code if isinstance(ended.code, int) else 1


def _board(descriptor: int | None) -> Board | None:
    """The memory that the supervisor reads when this process has crashed."""
    if descriptor is None:
        return None
    memory = mmap.mmap(descriptor, SIZE)
    os.close(descriptor)
    return Board(memoryview(memory))


if __name__ == "__main__":
    sys.exit(main())
