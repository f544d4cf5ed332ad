"""Are the versions of requirements.lock known to be vulnerable? What `make audit` runs.

pip-audit says of a version that it finds nothing about "could not be audited", and that all is
well. Here that counts as what it is: where nothing at all is known of any version, as behind an
index that holds packages only, nothing was audited, and the last line says so.

    python tests/audit.py pip-audit requirements.lock
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

NO_DATA = "nothing was audited: no data on vulnerabilities can be had here"


def verdict(text: str) -> tuple[int, list[str]]:
    """What a report of pip-audit, in JSON, comes to: an exit code and lines for people.

    A version without data fails the audit only where others have some.
    """
    try:
        found: list[Mapping[str, Any]] = json.loads(text)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return 0, [NO_DATA]
    unknown = [one["name"] for one in found if "skip_reason" in one]
    if len(unknown) == len(found):
        return 0, [NO_DATA]
    lines = [
        f"{one['name']} {one['version']}: {vulnerability['id']}, mended in {_mended(vulnerability)}"
        for one in found
        for vulnerability in one.get("vulns", ())
    ]
    lines += [f"{name}: could not be audited" for name in unknown]
    counted = (
        f"{len(found) - len(unknown)} of {len(found)} versions audited, {len(lines)} to see to"
    )
    return bool(lines), [*lines, counted]


def _mended(vulnerability: Mapping[str, Any]) -> str:
    return ", ".join(vulnerability.get("fix_versions", ())) or "no version yet"


def main(program: str, lock: str) -> int:
    """Have pip-audit look at a lock file, and say what it found."""
    flags = ["--disable-pip", "--require-hashes", "--progress-spinner=off", "--format=json"]
    done = subprocess.run(
        [program, *flags, "--requirement", lock], check=False, stdout=subprocess.PIPE, text=True
    )
    code, lines = verdict(done.stdout)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
