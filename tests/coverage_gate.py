"""Every pure module reaches 100 % branch coverage from its own unit test file, and from no other.

``python tests/coverage_gate.py [MODULE ...]`` measures the modules named, or all that
say that they are pure, two at a time, and prints those that miss a line or a branch. The exit code
is 1 if there are any, or if a test fails. The test file of ``mesh/client/core.py`` is
``tests/unit/mesh/test_client_core.py``; where that name is taken, ``test_mesh_client_core.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import laws

Branch = tuple[int, int]


@dataclass(frozen=True)
class Verdict:
    """What the tests of one module reach: its missing lines and branches, or why none were run."""

    module: str
    lines: tuple[int, ...] = ()
    branches: tuple[Branch, ...] = ()
    problem: str = ""

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return not (self.lines or self.branches or self.problem)

    def __str__(self) -> str:
        if self.problem:
            return f"{self.module}: {self.problem}"
        jumps = ", ".join(f"{start}->{end if end > 0 else 'exit'}" for start, end in self.branches)
        lines = ", ".join(map(str, self.lines))
        return f"{self.module}: lines not reached: {lines or 'none'}; branches: {jumps or 'none'}"


def candidates(module: str) -> list[str]:
    """Where the test file of `module` may be, below the root.

    Example:
        >>> candidates("mesh/client/core.py")
        ['tests/unit/mesh/test_client_core.py', 'tests/unit/mesh/test_mesh_client_core.py']
    """
    package, _, rest = module.removesuffix(".py").partition("/")
    flat = rest.replace("/", "_")
    folder = f"tests/unit/{package}"
    return [f"{folder}/test_{flat}.py", f"{folder}/test_{package}_{flat}.py"]


def measure(module: str, root: Path = laws.ROOT) -> Verdict:
    """Run the test file of `module` alone, and see what of the module it reaches."""
    files = [name for name in candidates(module) if (root / name).exists()]
    if len(files) != 1:
        return Verdict(module, problem=f"wants exactly one of {', '.join(candidates(module))}")
    if "pragma: no" in (root / module).read_text(encoding="utf-8"):
        return Verdict(module, problem="hides lines from the measurement by a pragma")
    with tempfile.TemporaryDirectory(prefix="coverage-gate-") as folder:
        report = Path(folder) / "report.json"
        text = _run(root, Path(folder), module, files[0])
        if text:
            return Verdict(module, problem=text)
        return _judge(module, json.loads(report.read_text(encoding="utf-8")))


def _run(root: Path, folder: Path, module: str, tests: str) -> str:
    """Measure into `folder`; what went wrong, or an empty text."""
    files = os.environ | {"COVERAGE_FILE": str(folder / "measured")}
    coverage = [sys.executable, "-m", "coverage"]
    pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider", tests]
    steps = [
        [*coverage, "run", "--rcfile=/dev/null", "--branch", f"--include={module}", *pytest],
        [*coverage, "json", "--rcfile=/dev/null", "-q", "-o", str(folder / "report.json")],
    ]
    for step in steps:
        run = subprocess.run(step, cwd=root, env=files, capture_output=True, text=True)
        if run.returncode:
            return f"{' '.join(step[2:])} failed\n{run.stdout}{run.stderr}"
    return ""


def _judge(module: str, report: dict[str, dict[str, dict[str, list[int]]]]) -> Verdict:
    found = report["files"][module]
    branches = [(start, end) for start, end in found["missing_branches"]]  # type: ignore[misc]
    return Verdict(module, tuple(found["missing_lines"]), tuple(branches))


def main(arguments: list[str]) -> int:
    """Measure, print what is incomplete, and return the exit code."""
    names = arguments or [
        module.path for module in laws.modules() if module.pure and module.tree.body[1:]
    ]
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        verdicts = list(pool.map(measure, names))
    incomplete = [verdict for verdict in verdicts if not verdict.complete]
    for verdict in incomplete:
        sys.stderr.write(f"{verdict}\n")
    complete = len(verdicts) - len(incomplete)
    sys.stdout.write(f"{complete} of {len(verdicts)} pure modules at 100 % from their own tests\n")
    return 1 if incomplete else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
