"""The command ``mesh``: runs a service or parts of it, checks its file, and queries it.

Exit codes: 0 success, 1 failure, 2 wrong usage or settings, 3 the service could not be started.
"""

from __future__ import annotations

import sys

import click

from mesh.cli.keygen import keygen
from mesh.cli.query import call, status
from mesh.cli.run import check, gateway, stage, up
from mesh.errors import EXIT_NOT_STARTED, EXIT_SETTINGS, MeshError, SettingsError, StartError
from mesh.logs.control_characters import in_lines, in_one_line
from mesh.logs.failure_text import is_worth_a_trace, trace_text
from mesh.process.streams import open_missing_streams
from mesh.release import VERSION


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="mesh")
def commands() -> None:
    """Serve machine-learning models as pipelines of processes."""


for _command in (up, gateway, stage, check, status, call, keygen):
    commands.add_command(_command)


def main() -> None:
    """Run the console script; an error becomes one line and an exit code."""
    open_missing_streams()
    try:
        commands(prog_name="mesh")
    except MeshError as error:
        cause = error.__cause__
        if isinstance(error, StartError) and cause is not None and is_worth_a_trace(cause):
            print(in_lines(trace_text(cause)), end="", file=sys.stderr)
        print(in_one_line(f"mesh: {error}"), file=sys.stderr)
        raise SystemExit(_exit_code(error)) from None


def _exit_code(error: MeshError) -> int:
    if isinstance(error, SettingsError):
        return EXIT_SETTINGS
    return EXIT_NOT_STARTED if isinstance(error, StartError) else 1
