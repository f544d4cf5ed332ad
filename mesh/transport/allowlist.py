"""Which key may be what in the mesh: the list of those that are allowed, read and asked. Pure.

Every process has the key pair of its role, and a list of the public keys that may take part. A key
that connects is looked up there by ZAP (`mesh/transport/curve.py`); what it then claims to be, in
HELLO, must be what the list says of it. To change a key, the new one is added beside the old one on
every host, the processes are given the new pair, and the old one is taken out.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Final, NamedTuple

from mesh.errors import SettingsError
from mesh.protocol.messages import Hello, Role

# What a key may be for. A feed is where replicas of the next stage dial: all replicas share one
# pair for it, and dial others as what they are.
ROLES: Final = ("gateway", "feed", "stage", "supervisor", "client")
_ROLE_OF: Final = {
    Role.GATEWAY: "gateway",
    Role.REPLICA: "stage",
    Role.SUPERVISOR: "supervisor",
    Role.CLIENT: "client",
}
_KEY: Final = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


class Permit(NamedTuple):
    """What the owner of a key may be.

    Attributes:
        role: one of `ROLES`.
        stage: the only stage that its replicas may be of, "" for any.
    """

    role: str
    stage: str = ""


class AllowList:
    """The keys that may take part.

    Args:
        permits: by public key, in Z85.

    Example:
        >>> allowance = AllowList({"k" * 40: Permit("stage", "detect")})
        >>> allowance.keys_for("stage")
        ['kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk']
    """

    def __init__(self, permits: Mapping[str, Permit]) -> None:
        self._permits = dict(permits)

    def __contains__(self, key: str) -> bool:
        """Whether the owner of this key may take part at all."""
        return key in self._permits

    def keys_for(self, role: str) -> list[str]:
        """All keys of a role, in the order of the list."""
        return [key for key, permit in self._permits.items() if permit.role == role]

    def objection(self, key: str, hello: Hello) -> str:
        """Why the owner of this key may not be what it says it is, or ""."""
        permit = self._permits.get(key)
        if permit is None:
            return "your key is not allowed here"
        if permit.role != _ROLE_OF[hello.role]:
            return f"your key is for a {permit.role}, not for a {_ROLE_OF[hello.role]}"
        stage = hello.stage.name if hello.stage is not None else ""
        if permit.stage and permit.stage != stage:
            return f"your key is for the stage {permit.stage!r}, not for {stage!r}"
        return ""


def read_allowance(text: str, where: str) -> AllowList:
    """Read a list as `mesh keygen` writes it.

    Args:
        text: TOML: tables ``[[allowed]]`` with ``role``, ``public`` and perhaps ``stage``.
        where: the file, for errors.

    Raises:
        SettingsError: naming what is wrong.

    Example:
        >>> text = '[[allowed]]\\nrole = "gateway"\\npublic = "' + "k" * 40 + '"'
        >>> read_allowance(text, "allowed.toml").keys_for("gateway") == ["k" * 40]
        True
    """
    try:
        tables = tomllib.loads(text).get("allowed", [])
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{where}: {error}") from None
    if not isinstance(tables, list):
        raise SettingsError(f"{where}: write [[allowed]], in two brackets, above each key")
    permits = {}
    for number, table in enumerate(tables, 1):
        key, permit = _permit(table, f"{where}: number {number} of [[allowed]]")
        permits[key] = permit
    return AllowList(permits)


def _permit(table: object, where: str) -> tuple[str, Permit]:
    if not isinstance(table, dict) or set(table) - {"role", "public", "stage"}:
        raise SettingsError(f"{where} has other members than role, public and stage")
    role, key, stage = table.get("role"), table.get("public"), table.get("stage", "")
    if role not in ROLES:
        raise SettingsError(f"{where}: role is one of {', '.join(ROLES)}, not {role!r}")
    if not isinstance(stage, str) or (stage and role != "stage"):
        raise SettingsError(f"{where}: only a key whose role is 'stage' has the name of a stage")
    return check_key(key, f"{where}: public"), Permit(role, stage)


def check_key(key: object, where: str) -> str:
    """This key, if it is one: 40 characters of Z85.

    Raises:
        SettingsError: it is not.
    """
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise SettingsError(f"{where} is not a key: 40 characters, as `mesh keygen` writes them")
    return key
