"""``python -P -m gateway``: one gateway process. Started by `mesh`, not by hand."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

import uvloop

from gateway.server import Gateway
from mesh import log
from mesh.errors import MeshError
from mesh.process.limits import shortage_as_start_error
from mesh.process.parent_link import ParentLink
from mesh.process.reaper import INIT_PID
from mesh.process.settings import GatewayProcess
from mesh.process.signals import log_ignored, prepare
from mesh.process.streams import open_missing_streams


def main() -> int:
    """Read the settings file, serve, and return the exit code."""
    open_missing_streams()
    wanted = prepare()
    parser = argparse.ArgumentParser(prog="python -m gateway")
    parser.add_argument("--settings", type=Path, required=True)
    parser.add_argument("--ready-fd", type=int)
    parser.add_argument("--parent-fd", type=int)
    arguments = parser.parse_args()
    process = GatewayProcess.from_json(json.loads(arguments.settings.read_text()))
    several = process.gateway.processes > 1
    source = f"gateway/{process.number}" if several else "gateway"
    log.configure(process.log_level, source, form=process.log_format)
    log.take_over()
    if arguments.parent_fd is None:  # otherwise the parent logs it, once
        log_ignored(wanted)
    if os.getpid() == INIT_PID:  # it starts no children, so the kernel may reap the orphans
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    parent_link = ParentLink(arguments.ready_fd, arguments.parent_fd, process.run_folder)
    parent_link.watch(process.gateway.grace)
    try:
        with shortage_as_start_error():
            uvloop.run(_serve(process, parent_link))
    except MeshError as error:
        if arguments.ready_fd is None:  # otherwise the parent logs it, once
            log.get_logger().error("%s", error)
        parent_link.failed(str(error))
        return 3
    finally:
        parent_link.close()
    return 0


async def _serve(process: GatewayProcess, parent_link: ParentLink) -> None:
    await Gateway(process, parent_link).serve()


if __name__ == "__main__":
    sys.exit(main())
