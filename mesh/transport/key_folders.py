"""A folder of keys for each part of a service, so that no part has the secret of another.

One for the gateway, one for each stage; all with the same list. The key of feeds is one for all, as
a consumer knows of a feed no more than its address; only stages that feed another have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mesh.errors import SettingsError
from mesh.transport.curve import LIST, KeyPair, draw_pair, table_of, write_new, write_pair


def generate_apart(folder: Path, stages: Mapping[str, bool]) -> list[Path]:
    """Write the keys of a service.

    Args:
        folder: where ``gateway`` and ``stage-NAME`` are made, if they are not there.
        stages: the names of all stages, and whether another stage follows.

    Returns:
        The files that were written.

    Raises:
        SettingsError: keys are there already, or cannot be written.
    """
    parts, tables = _drawn(stages)
    written = []
    try:
        for part, pairs in parts.items():
            (folder / part).mkdir(mode=0o700, parents=True, exist_ok=True)
            written += [
                write_pair(folder / part / f"{name}.key", pair) for name, pair in pairs.items()
            ]
        # The gateway's is the last: where it is, nothing is missing.
        for part in reversed(parts):
            written.append(write_new(folder / part / LIST, "\n".join(tables), 0o644))
    except OSError as error:
        where = error.filename or folder
        raise SettingsError(f"cannot write {where}: {error.strerror}") from None
    return written


def _drawn(stages: Mapping[str, bool]) -> tuple[dict[str, dict[str, KeyPair]], list[str]]:
    """Which pairs are in which folder, by their names; and what the list says of each."""
    gateway, feed = draw_pair(), draw_pair()
    parts = {"gateway": {"gateway": gateway}}
    tables = [table_of("gateway", gateway)]
    if any(stages.values()):
        tables.append(table_of("feed", feed))
    for name, feeds in stages.items():
        own, supervisor = draw_pair(), draw_pair()
        pairs = {f"stage-{name}": own, "supervisor": supervisor}
        parts[f"stage-{name}"] = pairs | ({"feed": feed} if feeds else {})
        tables += [table_of("stage", own, name), table_of("supervisor", supervisor)]
    return parts, tables
