"""Runs a file of tests against one mutant after the other, each in a child of this process.

Started by `mutants.py`, in a copy of the tree. What tests import that is not ours is here before
the first child is made, which saves most of the time that a run of few tests takes.

Reads JSON lines from its standard input: module, text, instead and tests of a mutant, all texts
"" to run the tests as they are. Writes for each the name of the first test that failed, or null.
"""

import compileall
import contextlib
import io
import json
import os
import re
import sys
from importlib.util import cache_from_source
from pathlib import Path
from py_compile import PycInvalidationMode

import hypothesis.strategies  # noqa: F401
import msgpack  # noqa: F401
import pytest

OPTIONS = (
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
    "-x",
    "-q",
    "--no-header",
    "--tb=no",
    "-p",
    "no:xdist",
    "-p",
    "no:cacheprovider",
)
FAILED = re.compile(r"^(?:FAILED|ERROR) [^:\n]*(?:::(\w+))?", re.MULTILINE)


def first_failed(tests):
    """Run tests in a child; returns the name of the one that failed first, or None."""
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        os.close(reading)
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = pytest.main([*OPTIONS, tests])
        failed = FAILED.search(said.getvalue())
        text = json.dumps([int(code), failed and failed[1], said.getvalue()[-2000:]])
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    if not answer:
        return "it ends the process"
    code, name, said = json.loads(answer)
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and name is None:
        if "rror" not in said:
            raise SystemExit(f"{tests}: {said}")
        return "it cannot be imported"
    return None if code == pytest.ExitCode.OK else name or "it cannot be imported"


def main():
    sys.path.insert(0, str(Path.cwd()))
    for folder in ("mesh", "gateway", "stage"):  # once, and not by each child
        compileall.compile_dir(
            folder, quiet=1, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
        )
    for line in sys.stdin:
        module, text, instead, tests = json.loads(line)
        path = Path(module)
        before = path.read_text() if module else ""
        if module:
            path.write_text(before.replace(text, instead))
            Path(cache_from_source(module)).unlink(missing_ok=True)
        print(json.dumps(first_failed(tests)), flush=True)
        if module:
            path.write_text(before)


if __name__ == "__main__":
    main()
