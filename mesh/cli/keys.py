"""The command that makes keys."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", default="keys")
@click.option(
    "--stage",
    "stages",
    multiple=True,
    metavar="NAME",
    help="a stage whose replicas get a key of their own; may be repeated [one key for all stages]",
)
def keygen(folder: str, stages: tuple[str, ...]) -> None:
    """Make the keys of a mesh in FOLDER, which must not have any yet.

    Each host gets allowed.toml and the .key files of what runs there: gateway.key where a gateway
    does; supervisor.key, feed.key and its stages' own where replicas do. Processes find them by
    keys = "FOLDER" in [gateway], or --keys FOLDER.
    """
    from mesh.security import generate

    for path in generate(Path(folder), stages):
        click.echo(path)
