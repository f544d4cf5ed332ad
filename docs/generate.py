"""Write the pages of the reference that the code itself declares: `make docs`.

`docs/settings.md` comes from the schema in `mesh/config/settings.py`, `docs/metrics.md` from what
`gateway/admin/metrics.py` shows. ``--check`` writes nothing and says which pages are stale.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client.metrics_core import Metric

from gateway.admin.metrics import Levels, Metrics
from mesh.config.schema import SettingDeclaration, entries
from mesh.config.settings import GatewaySettings, MeshSettings, StageSettings
from mesh.config.units import show_duration, show_size

HERE = Path(__file__).resolve().parent
_MADE = "<!-- Made by `make docs` from {}; edit that. -->\n"

# What a value of each kind looks like in mesh.toml.
_WRITTEN = {
    "duration": '`"10ms"`, `"3s"`, `"2min"`',
    "size": '`"64KiB"`, `"10MiB"`, `"1GiB"`',
    "number": "`4`",
    "true/false": "`true`, `false`",
    "host:port": '`"127.0.0.1:8000"`, `"[::]:80"`',
    "address": '`"tcp://10.0.0.5:7000"`, `"ipc:///run/me/mesh"`',
    "addresses": '`["tcp://gw:7000", "file:///etc/gateways"]`',
    "list": '`["one", "two"]`',
    "list of tables": '`[{CUDA_VISIBLE_DEVICES = "0"}, …]`',
}
_TABLES: tuple[tuple[str, str, type, str], ...] = (
    ("Top of the file", "", MeshSettings, "MESH_"),
    ("`[gateway]`", "gateway", GatewaySettings, "MESH_GATEWAY_"),
    ("`[stages.NAME]`", "stages", StageSettings, "MESH_STAGES_NAME_"),
)
_INTRO = """
Every setting can stand in `mesh.toml` and in an environment variable; some have a flag of scripts
that call `Server()`, and `mesh up`, `mesh gateway` and `mesh stage` have a flag for each that they
use (`--help` lists them). The later wins: file, environment, flags. An unknown key is an error that
names the nearest right one.

Durations and sizes carry a unit. A bare number stands only in the flags that mosec has, too, in
mosec's unit: the table says which. In a variable, `NAME` is the stage's name in capitals.
"""
_ROUTES = """
## `[routes]`

A table of HTTP paths; each names the stages that a request visits, in order.

```toml
[routes]
"/inference" = ["decode", "embed"]
"/embed" = ["embed"]
```
"""
_METRICS_INTRO = """
`GET /metrics` of a gateway shows these, in Prometheus' text format. The prefix is `[gateway]
namespace`, `mesh` by default. A batch's figures are counted by one gateway only, so sums over
gateways are right. With several gateway processes on one port, every metric has the label `process`
and `process_up` says which of them answered.

The names that mosec has, too (`batch_size`, `batch_duration_second`, `process_duration_second`,
`remaining_task`, `throughput`), mean what they mean there.

| metric | type | labels | what it is |
| --- | --- | --- | --- |
"""


def settings_page() -> str:
    """The page of all settings."""
    parts = ["# Settings\n", _MADE.format("`mesh/config/settings.py`"), _INTRO]
    for title, table, owner, prefix in _TABLES:
        parts.append(f"\n## {title}\n\n| setting | what it is | default | written | flag |\n")
        parts.append("| --- | --- | --- | --- | --- |\n")
        parts += [_row(one) for one in entries(owner).values()]
        parts.append(f"\nThe variable of a setting is `{prefix}` and its name in capitals")
        parts.append(f", such as `{prefix}{_example(table)}`.\n")
    return "".join([*parts, _ROUTES])


def _example(table: str) -> str:
    return {"": "LOG_LEVEL", "gateway": "TIMEOUT", "stages": "MAX_BATCH_SIZE"}[table]


def _row(one: SettingDeclaration) -> str:
    flag = f"`{one.flag}`" if one.flag else ""
    if one.unit:
        flag += f" ({one.unit})"
    return f"| `{one.name}` | {one.doc} | {_default(one)} | {_written(one)} | {flag} |\n"


def _written(one: SettingDeclaration) -> str:
    words = getattr(one.kind, "words", None)
    if words:
        return ", ".join(f'`"{word}"`' for word in words)
    return _WRITTEN.get(one.kind.noun, "a text")


def _default(one: SettingDeclaration) -> str:
    if one.default is None or one.default in ("", ()):
        return "–"
    if isinstance(one.default, bool):
        return str(one.default).lower()
    shown = {"duration": show_duration, "size": show_size}.get(one.kind.noun, str)
    return f"`{shown(one.default)}`"


def metrics_page() -> str:
    """The page of all metrics."""
    rows = [_metric_row(family) for family in _families()]
    made = _MADE.format("`gateway/admin/metrics.py`")
    return "".join(["# Metrics\n", made, _METRICS_INTRO, *rows])


def _families() -> Iterator[Metric]:
    one = {"": 1}
    levels = Levels(inflight=one, inflight_bytes=one, queue_depth=one, replica_up=one)
    yield from Metrics("mesh").families(levels)


def _metric_row(family: Metric) -> str:
    suffix = "_total" if family.type == "counter" else ""
    names = getattr(family, "_labelnames", ())
    labels = ", ".join(f"`{name}`" for name in names)
    return f"| `{family.name}{suffix}` | {family.type} | {labels} | {family.documentation} |\n"


PAGES: dict[str, Callable[[], str]] = {"settings.md": settings_page, "metrics.md": metrics_page}


def stale() -> list[str]:
    """The pages that are not what the code declares now."""
    pages = [(name, HERE / name, make()) for name, make in PAGES.items()]
    return [
        name
        for name, path, text in pages
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str]) -> int:
    """Write the pages, or with ``--check`` say which are stale."""
    if "--check" in arguments:
        found = stale()
        for name in found:
            sys.stderr.write(f"docs/{name} is stale: run `make docs`\n")
        return bool(found)
    for name, make in PAGES.items():
        (HERE / name).write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
