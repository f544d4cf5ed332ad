"""Converts mesh.toml and environment variables to `MeshSettings`. Pure.

A `Draft` collects values from several sources: file, environment, flags. Later sources override
earlier ones. It keeps the origin of each value, so that an error names the file, the line, the
variable or the flag to change.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mesh.config.schema import SettingDeclaration, entries, nearest
from mesh.config.settings import (
    Fault,
    GatewaySettings,
    MeshSettings,
    StageSettings,
    fitting_timeout,
    refuse_unknown,
)
from mesh.errors import SettingsError

PREFIX = "MESH_"
TOP = entries(MeshSettings)
GATEWAY = entries(GatewaySettings)
STAGE = entries(StageSettings)
# Variables that Kubernetes sets in every container for a Service whose name begins with "mesh".
_INJECTED = re.compile(r"_(SERVICE_HOST|SERVICE_PORT\w*|PORT|PORT_\d+_(TCP|UDP|SCTP)\w*)$")
_KEY_PART = r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*"""
_KEY = re.compile(rf"{_KEY_PART}(?:\.{_KEY_PART})*")
_PARTS = re.compile(_KEY_PART)

_MOSEC = "MOSEC_"
_OURS = {
    "ADDRESS": "MESH_GATEWAY_HTTP, such as 0.0.0.0:8000",
    "CAPACITY": "MESH_GATEWAY_CAPACITY",
    "DEBUG": "MESH_LOG_LEVEL=debug",
    "DRY_RUN": "the flag --dry-run",
    "LOG_LEVEL": "MESH_LOG_LEVEL",
    "MAX_REQUEST_SIZE": "MESH_GATEWAY_MAX_BODY, such as 10MiB",
    "NAMESPACE": "MESH_GATEWAY_NAMESPACE",
    "PATH": "the flag --path",
    "PORT": "MESH_GATEWAY_HTTP, such as 0.0.0.0:8000",
    "TIMEOUT": "MESH_GATEWAY_TIMEOUT, such as 3000ms",
}

TablePath = tuple[str, ...]


@dataclass
class Draft:
    """Collects settings, and the origin of each.

    Attributes:
        file: the name of the file in errors, ``""`` if there is none.
        values: the checked values of the given settings, by table and key.
        routes: the stages of each route.
        stages: the names of the stages, in order.
        origins: the origin of each setting for errors, by table and key.
        text: the content of the file, to find lines in.
    """

    file: str = ""
    values: dict[tuple[str, str], Any] = field(default_factory=dict)
    routes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    stages: list[str] = field(default_factory=list)
    origins: dict[tuple[str, str], str] = field(default_factory=dict)
    text: str = ""

    def add_toml(self, text: str) -> None:
        """Add the settings in a mesh.toml; SettingsError names file, table, key and line."""
        self.text = text
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{self.file}: not valid TOML: {error}") from None
        try:
            self._add_document(document)
        except Fault as fault:
            raise self.located(fault) from None

    def add_environment(self, environ: Mapping[str, str]) -> list[str]:
        """Add the settings in ``MESH_`` variables; return warnings for people.

        Variables that Kubernetes injects for its Services, such as ``MESH_GATEWAY_PORT``, and
        variables that name no setting are ignored, with a warning.
        """
        known = self.variables()
        injected: list[str] = []
        warnings: list[str] = []
        for name in sorted(one for one in environ if one.startswith(PREFIX)):
            if _is_injected(name, environ[name], known):
                injected.append(name)
            elif name not in known:
                meant = nearest(name, known)
                hint = f"; did you mean {meant}?" if meant else ""
                warnings.append(f"the variable {name} names no setting and is ignored{hint}")
            else:
                table, key = known[name]
                self.add_text(table, key, environ[name], name)
        warnings += _foreign(environ)
        if injected:
            warnings.append(f"ignored, as Kubernetes put them there: {', '.join(injected)}")
        return warnings

    def add_text(self, table: str, key: str, text: str, origin: str) -> None:
        """Add one setting as a text; `origin` names the variable or flag in errors."""
        try:
            value = _schema(table)[key].kind.parse(text)
        except ValueError as error:
            raise SettingsError(f"{origin}: {error}") from None
        self.add(table, key, value, origin)

    def add(self, table: str, key: str, value: Any, origin: str) -> None:
        """Add one checked value; `origin` names its source in errors."""
        self.values[table, key] = value
        self.origins[table, key] = origin

    def add_stage(self, name: str) -> str:
        """Add a stage without settings; return its table, for `add`."""
        self.stages.append(name)
        return f"stages.{name}"

    def build(self) -> MeshSettings:
        """Return the complete, checked settings; SettingsError names the place of an error."""
        try:
            stages = {
                name: StageSettings(name=name, **self._table(f"stages.{name}"))
                for name in self.stages
            }
            plain = {"timeout": fitting_timeout(stages, self.routes)}
            return MeshSettings(
                **self._table(""),
                gateway=GatewaySettings(**plain | self._table("gateway")),
                stages=stages,
                routes=dict(self.routes),
            )
        except Fault as fault:
            raise self.located(fault) from None

    def variables(self) -> dict[str, tuple[str, str]]:
        """Return every environment variable that sets a setting, with its table and key.

        Example:
            >>> Draft().variables()["MESH_GATEWAY_HTTP"]
            ('gateway', 'http')
        """
        tables = ["", "gateway", *(f"stages.{name}" for name in self.stages)]
        return {
            PREFIX + re.sub(r"\W", "_", f"{table}.{key}".lstrip(".")).upper(): (table, key)
            for table in tables
            for key in _schema(table)
        }

    def located(self, fault: Fault) -> SettingsError:
        """Make an error whose text begins with the place where it can be corrected."""
        origin = self.origins.get((fault.table, fault.key))
        if origin is None and self.file:
            line = find_line(self.text, (*_split_table(fault.table), fault.key))
            origin = f"{self.file}, line {line}" if line else self.file
        return SettingsError(f"{origin}: {fault}" if origin else str(fault))

    def _add_document(self, document: dict[str, Any]) -> None:
        sections = ("gateway", "stages", "routes")
        top = {key: value for key, value in document.items() if key not in sections}
        gateway, stages, routes = (_subtable(document, name, "") for name in sections)
        self._add_table("", top)
        self._add_table("gateway", gateway)
        for name in stages:
            self._add_table(self.add_stage(name), _subtable(stages, name, "stages."))
        for path, names in routes.items():
            self.routes[path] = _stage_names(path, names)
        if not stages:
            raise Fault("", "", "describes no stage; add a table [stages.NAME]")
        if not routes:
            example = ", ".join(f'"{name}"' for name in stages)
            text = f'there are no [routes]; add them, such as "/inference" = [{example}]'
            raise Fault("", "", text)

    def _add_table(self, table: str, content: dict[str, Any]) -> None:
        schema = _schema(table)
        for key, value in content.items():
            if key not in schema:
                _refuse(table, key, schema)
            try:
                self.values[table, key] = schema[key].kind.read(value)
            except ValueError as error:
                raise Fault(table, key, str(error)) from None

    def _table(self, table: str) -> dict[str, Any]:
        return {key: value for (place, key), value in self.values.items() if place == table}


def _foreign(environ: Mapping[str, str]) -> Iterator[str]:
    """Warn of mosec's variables: a user who sets them expects an effect."""
    for name in sorted(one for one in environ if one.startswith(_MOSEC)):
        ours = _OURS.get(name.removeprefix(_MOSEC))
        text = f"; set {ours}" if ours else ""
        yield f"the variable {name} is mosec's and is not read here{text}"


def find_line(text: str, path: TablePath) -> int | None:
    """Return the number, from 1, of the line that sets a key, or of the nearest enclosing table.

    This is a light scan for error messages. It handles headers, dotted and quoted keys, and returns
    the first line of a value that spans several.

    Example:
        >>> find_line('[gateway]\\nhttp = "x"', ("gateway", "http"))
        2
    """
    best: tuple[int, int] | None = None
    for number, found in _assignments(text):
        depth = len(found)
        if path[:depth] == found and (best is None or depth > best[0]):
            best = (depth, number)
    return best and best[1]


def _assignments(text: str) -> Iterator[tuple[int, TablePath]]:
    """Yield every header and key of a TOML text with its line number."""
    table: TablePath = ()
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\[?(.*?)\]?\]\s*(#.*)?$", line)
        if header and _KEY.fullmatch(header[1]):
            table = _parts(header[1])
            yield number, table
        elif (key := _KEY.match(line)) and line[key.end() :].startswith("="):
            yield number, table + _parts(key[0])


def _parts(key: str) -> TablePath:
    return tuple(next(filter(None, part), "") for part in _PARTS.findall(key))


def _split_table(table: str) -> TablePath:
    return tuple(filter(None, table.split(".", 1)))


def _schema(table: str) -> dict[str, SettingDeclaration]:
    return TOP if not table else GATEWAY if table == "gateway" else STAGE


def _subtable(tables: dict[str, Any], name: str, parent: str) -> dict[str, Any]:
    found = tables.get(name, {})
    if not isinstance(found, dict):
        raise Fault(parent.rstrip("."), name, f"must be a table [{parent}{name}], not {found!r}")
    return found


def _stage_names(path: str, names: object) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Fault("routes", path, 'must be a list of stage names, such as ["embed"]')
    return tuple(names)


def _refuse(table: str, key: str, schema: dict[str, SettingDeclaration]) -> None:
    """Refuse an unknown key; if another table has it, the error says which."""
    homes = {"": "at the top of the file", "gateway": "in [gateway]", "stages.": "in [stages.NAME]"}
    for home, place in homes.items():
        if key in _schema(home):
            raise Fault(table, key, f"does not belong here but {place}")
    refuse_unknown(table, key, schema if table else (*schema, "gateway", "stages", "routes"))


def _is_injected(name: str, value: str, known: Mapping[str, tuple[str, str]]) -> bool:
    if name in known:
        table, key = known[name]
        takes_address = _schema(table)[key].kind.noun.startswith("address")
        return value.startswith("tcp://") and not takes_address
    return value.startswith("tcp://") or bool(_INJECTED.search(name))
