"""The commands that run a service or a part of it, and the one that checks its file."""

from __future__ import annotations

import os

import click

from mesh import log
from mesh.cli.options import config, overlaid, overrides
from mesh.config.loader import Override, load_settings
from mesh.config.settings import MeshSettings
from mesh.process.class_loader import from_text, load, refuse_shadows
from mesh.process.worker_source import WorkerSource
from mesh.supervision.service import become_gateway, run


@click.command()
@config
@click.option("--dry-run", is_flag=True, help="start everything, run the examples, and end")
@overlaid("", "gateway")
def up(config: str, dry_run: bool, **given: str | None) -> None:
    """Run everything that the file describes on this host."""
    settings = _settings(config, overrides(given, {"": "", "gateway": "gateway"}), "mesh up")
    raise SystemExit(run(settings, _sources(settings, config), dry_run=dry_run))


@click.command()
@config
@overlaid("", "gateway")
def gateway(config: str, **given: str | None) -> None:
    """Run a gateway, of as many processes as the file says; stages dial it from anywhere."""
    wanted = overrides(given, {"": "", "gateway": "gateway"})
    settings = _settings(config, wanted, "mesh gateway")
    _warn_of_unknown_processes(settings, config, wanted)
    if settings.gateway.processes == 1:
        become_gateway(settings)
    raise SystemExit(run(settings, {}))


def _warn_of_unknown_processes(settings: MeshSettings, config: str, wanted: list[Override]) -> None:
    """Warn that stages dial only as many gateway processes as their own settings name.

    Stages find all sockets in a folder, but only their settings tell how many ports follow the
    first.
    """
    processes = settings.gateway.processes
    if not settings.gateway.bind.startswith("tcp://"):
        return
    others = [one for one in wanted if one[1] != "processes"]
    if load_settings(config, others).gateway.processes != processes:
        text = (
            "stages dial as many processes as their own settings say, and the rest answers 503: "
            "write processes = %d in [gateway] of %s, or give MESH_GATEWAY_PROCESSES to them, too"
        )
        log.get_logger().warning(text, processes, config)


@click.command()
@click.argument("name")
@config
@click.option(
    "--gateway", "dial", multiple=True, metavar="ADDRESS", help="a gateway; may be repeated"
)
@overlaid("", "stage", "exposed")
def stage(name: str, config: str, dial: tuple[str, ...], **given: str | None) -> None:
    """Run this host's replicas of the stage NAME."""
    wanted = overrides(given, {"": "", "stage": f"stages.{name}", "exposed": "gateway"})
    if dial:
        wanted.append(("", "gateways", ",".join(dial), "--gateway"))
    log.configure("info", f"mesh stage {name}")
    settings = load_settings(config, wanted, stage=name)
    log.configure(settings.log_level, f"mesh stage {name}", form=settings.log_format)
    sources = {name: _sources(settings, config)[name]}
    raise SystemExit(run(settings, sources, with_gateway=False))


@click.command()
@config
@click.option("--import", "imports", is_flag=True, help="also import every stage's class")
def check(config: str, imports: bool) -> None:
    """Check the file; report the place of an error."""
    settings = _settings(config, [], "mesh check")
    sources = _sources(settings, config)
    for source in sources.values() if imports else ():
        load(source)
    keys = _describe_keys(settings)
    print(f"{config} is right (revision {settings.revision})")
    for path, names in settings.routes.items():
        print(f"  http://{settings.gateway.http}{path}: {' -> '.join(names)}")
    for one in settings.stages.values():
        unused = "" if any(one.name in path for path in settings.routes.values()) else ", unused"
        print(f"  {one.name}: {one.worker}, replicas {one.replicas}{unused}")
    for line in keys:
        print(f"  {line}")


def _describe_keys(settings: MeshSettings) -> list[str]:
    """Describe the folder of keys, if one is set. Only then is ZeroMQ imported."""
    if not settings.gateway.keys:
        return []
    from mesh.transport.key_check import keys_told

    return keys_told(settings)


def _settings(config: str, wanted: list[Override], source: str) -> MeshSettings:
    log.configure("info", source)
    settings = load_settings(config, wanted)
    log.configure(settings.log_level, source, form=settings.log_format)
    return settings


def _sources(settings: MeshSettings, config: str) -> dict[str, WorkerSource]:
    """Return where each stage's class is found, relative to the folder of the file."""
    folder = os.path.dirname(os.path.abspath(config))
    refuse_shadows((folder,))
    return {name: from_text(one.worker, folder) for name, one in settings.stages.items()}
