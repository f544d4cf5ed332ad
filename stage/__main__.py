"""``python -P -m stage``: one replica. Started by a supervisor, not by hand."""

from __future__ import annotations

import argparse
import json
import mmap
import sys
from pathlib import Path

from mesh import log
from mesh.errors import MeshError
from mesh.logs.failure_text import exc_info, is_worth_a_trace
from mesh.process.batch_record import SIZE, BatchRecord
from mesh.process.crashes import record_crashes
from mesh.process.exit_watchdog import end_soon
from mesh.process.limits import shortage_as_start_error
from mesh.process.parent_link import ParentLink
from mesh.process.settings import ReplicaProcess
from mesh.process.signals import prepare
from mesh.process.streams import open_missing_streams
from stage.server import serve


def main() -> int:
    """Read the settings file, serve, and return the exit code."""
    open_missing_streams()
    stops = prepare()
    parser = argparse.ArgumentParser(prog="python -m stage")
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--ready-fd", type=int)
    parser.add_argument("--parent-fd", type=int)
    parser.add_argument("--record-fd", type=int)
    arguments = parser.parse_args()
    process = ReplicaProcess.from_json(json.loads(arguments.settings.read_text()))
    source = f"{process.stage.name}/{process.worker_id}"
    log.configure(process.log_level, source, form=process.log_format)
    log.take_over()
    log.serve_worker()
    parent_link = ParentLink(arguments.ready_fd, arguments.parent_fd, process.run_folder)
    parent_link.watch(process.grace)
    code = 1  # as for an uncaught exception in Python
    try:
        with shortage_as_start_error():
            serve(process, parent_link, _record(arguments.record_fd), stops)
        code = 0
    except MeshError as error:
        _log_reason(error, alone=arguments.ready_fd is None)
        parent_link.failed(str(error))
        code = 3
    except SystemExit as ended:
        code = _code(ended)
        raise
    finally:
        parent_link.end()  # not closed: it watches the parent until the process has exited
        end_soon(code)
    return code


def _code(ended: SystemExit) -> int:
    """Return the exit code that Python derives from the argument of `sys.exit`."""
    if ended.code is None:
        return 0
    return ended.code if isinstance(ended.code, int) else 1


def _log_reason(error: MeshError, *, alone: bool) -> None:
    """Log why this process cannot start: the traceback or, if no parent logs it, the reason."""
    cause = error.__cause__
    if cause is not None and is_worth_a_trace(cause):
        log.get_logger().error("%s", error, exc_info=exc_info(cause))
    elif alone:
        log.get_logger().error("%s", error)


def _record(descriptor: int | None) -> BatchRecord | None:
    """Open the memory that the supervisor reads after a crash of this process."""
    if descriptor is None:
        return None
    memory = mmap.mmap(descriptor, SIZE)
    record_crashes(descriptor)
    return BatchRecord(memoryview(memory))


if __name__ == "__main__":
    sys.exit(main())
