"""The command that makes keys."""

from __future__ import annotations

from pathlib import Path

import click

from mesh.cli.options import config as config_option
from mesh.config.loader import load_settings


@click.command()
@click.argument("folder", default="keys")
@click.option(
    "--stage",
    "stages",
    multiple=True,
    metavar="NAME",
    help="a stage whose replicas get a key of their own; may be repeated [one key for all stages]",
)
@click.option(
    "--apart", is_flag=True, help="a folder for the gateway and one for each stage that FILE has"
)
@config_option
def keygen(folder: str, stages: tuple[str, ...], apart: bool, config: str) -> None:
    """Make the keys of a mesh in FOLDER, which must not have any yet.

    Each host gets allowed.toml and the .key files of what runs there: gateway.key where a gateway
    does; supervisor.key, feed.key and its stages' own where replicas do. Processes find them by
    keys = "FOLDER" in [gateway], or --keys FOLDER.

    With --apart there is a folder for each part of the service, FOLDER/gateway and
    FOLDER/stage-NAME, with what that part needs and nothing else.
    """
    from mesh.transport.curve import generate
    from mesh.transport.key_folders import generate_apart

    if apart and stages:
        raise click.UsageError("--apart takes all stages of FILE; leave --stage out")
    if apart:
        settings = load_settings(config)
        made = generate_apart(
            Path(folder), {name: settings.feeds(name) for name in settings.stages}
        )
    else:
        made = generate(Path(folder), stages)
    for path in made:
        click.echo(path)
