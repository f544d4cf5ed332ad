"""The laws of DESIGN.md §16 hold, and each of them notices when it is broken."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections import Counter
from importlib.metadata import packages_distributions
from pathlib import Path

import laws
import pytest

TREE = laws.modules()


@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: law.__name__)
def test_the_tree_keeps_the_law(law: laws.Law) -> None:
    assert list(law(TREE)) == []


def test_at_least_half_of_the_lines_are_pure() -> None:
    assert laws.pure_share(TREE) >= 0.5


def test_pure_modules_bring_no_shell_along_at_run_time() -> None:
    """Also not through an `__init__.py` on the way, nor through msgpack or numpy."""
    names = [module.name for module in TREE if module.pure]
    script = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "shells = {'asyncio', 'click', 'httptools', 'prometheus_client', 'socket', 'tornado',"
        " 'uvloop', 'zmq'}\n"
        "print(*sorted(shells & sys.modules.keys()))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=laws.ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == []


@pytest.mark.parametrize("package", laws.PACKAGES)
def test_each_package_has_one_owner_and_comes_from_this_tree(package: str) -> None:
    assert set(packages_distributions()[package]) == {"meshline"}
    found = importlib.import_module(package)
    assert laws.ROOT / package in [Path(place).resolve() for place in found.__path__]


def test_no_two_test_files_share_a_name() -> None:
    """pytest imports them by their bare names."""
    names = Counter(path.name for path in (laws.ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


BROKEN = [
    (laws.floors, "mesh/protocol/wire.py", "from mesh.links import node", "is not below"),
    (laws.floors, "mesh/protocol/wire.py", "import mesh.client.core", "is not below"),
    (laws.floors, "mesh/log.py", "from mesh.worker.base import Worker", "is not below mesh.log"),
    (laws.strangers, "stage/loop.py", "import mesh.supervision.child", "must not know"),
    (laws.strangers, "gateway/web/http1.py", "from gateway.requests import core", "must not know"),
    (
        laws.direction,
        "stage/loop.py",
        "import gateway.requests.in_flight",
        "stage must not know gateway",
    ),
    (
        laws.direction,
        "gateway/admin/pages.py",
        "from stage import loop",
        "gateway must not know stage",
    ),
    (
        laws.direction,
        "mesh/links/node.py",
        "def f():\n    import stage",
        "mesh must not know stage",
    ),
    (laws.direction, "mesh/links/node.py", "from . import errors", "imports are absolute"),
    (laws.purity, "mesh/protocol/wire.py", "import asyncio", "is pure and imports asyncio"),
    (laws.purity, "mesh/protocol/wire.py", "from os import path", "is pure and imports os.path"),
    (laws.purity, "mesh/protocol/wire.py", "import time as clock", "is pure and imports time"),
    (
        laws.purity,
        "mesh/protocol/wire.py",
        "from http import client",
        "is pure and imports http.client",
    ),
    (
        laws.purity,
        "mesh/protocol/wire.py",
        "from mesh.transport import zeromq as sockets",
        "imports mesh.transport.zeromq",
    ),
    (
        laws.purity,
        "mesh/protocol/wire.py",
        "from mesh.links.node import Node",
        "imports mesh.links.node.Node",
    ),
    (laws.purity, "mesh/protocol/wire.py", "import mesh", "is pure and imports mesh"),
    (
        laws.purity,
        "mesh/protocol/wire.py",
        "from numpy.random import rand",
        "imports numpy.random.rand",
    ),
    (laws.purity, "mesh/protocol/wire.py", "import numpy as np\nnp.load('x')", "uses numpy.load"),
    (laws.purity, "mesh/protocol/wire.py", "import sys\nsys.stdout", "uses sys.stdout"),
    (laws.purity, "mesh/protocol/wire.py", "open('x')", "uses open()"),
    (laws.zmq_in_one_place, "mesh/links/node.py", "import zmq.asyncio", "imports zmq"),
    (laws.zmq_in_one_place, "stage/loop.py", "from zmq import Context", "imports zmq"),
    (
        laws.zmq_in_one_place,
        "stage/server.py",
        "from mesh.transport.zeromq import ZmqNetwork",
        "only mesh/transport/factory.py may",
    ),
    (laws.no_pickle, "mesh/worker/codec.py", "import pickle", "no pickle"),
    (laws.no_pickle, "mesh/worker/codec.py", "from pickle import loads", "no pickle"),
    (laws.no_pickle, "mesh/links/node.py", "socket.send_pyobj(1)", "it pickles"),
    (laws.no_pickle, "mesh/worker/codec.py", "load(x, allow_pickle=True)", "no pickle"),
    (laws.own_names, "gateway/http.py", "", "is a module of the standard library"),
    (laws.own_names, "mesh/queue/__init__.py", "", "is a module of the standard library"),
    (laws.unused_words, "mesh/links/helpers.py", "", "helpers"),
    (laws.unused_words, "mesh/common/node.py", "", "common"),
    (laws.unused_words, "stage/batch_util.py", "", "batch_util"),
]


@pytest.mark.parametrize(("law", "path", "text", "complaint"), BROKEN)
def test_a_broken_law_is_noticed(
    law: laws.Law, path: str, text: str, complaint: str, tmp_path: Path
) -> None:
    complaints = _complaints(law, path, text, tmp_path)
    assert len(complaints) == 1
    assert path in complaints[0]
    assert complaint in complaints[0]


KEPT = [
    (
        laws.purity,
        "mesh/protocol/wire.py",
        "import sys\nfrom mesh.errors import ProtocolError\nsys.maxsize",
    ),
    (
        laws.purity,
        "mesh/protocol/wire.py",
        "from mesh import errors\nfrom mesh.protocol import messages\nimport numpy as np\nnp.array",
    ),
    (laws.floors, "mesh/links/node.py", "from mesh.transport import network\nimport mesh.errors"),
    (laws.floors, "mesh/server.py", "from mesh.supervision import service"),
    (laws.strangers, "gateway/inference.py", "from gateway.requests import core"),
    (
        laws.direction,
        "stage/loop.py",
        "from mesh.links.node import Node\nimport stage.batching.batcher",
    ),
    (laws.zmq_in_one_place, "mesh/transport/zeromq.py", "import zmq"),
    (laws.unused_words, "mesh/worker/json_body.py", "data = 1"),
]


@pytest.mark.parametrize(("law", "path", "text"), KEPT)
def test_what_is_allowed_passes(law: laws.Law, path: str, text: str, tmp_path: Path) -> None:
    assert _complaints(law, path, text, tmp_path) == []


def _complaints(law: laws.Law, path: str, text: str, root: Path) -> list[str]:
    """What a law says of one module; that of purity is about those that say that they are pure."""
    module = root / path
    module.parent.mkdir(parents=True)
    module.write_text(f'"""Pure."""\n{text}' if law is laws.purity else text, encoding="utf-8")
    return list(law(laws.modules(root)))


def test_what_does_not_say_that_it_is_pure_may_act(tmp_path: Path) -> None:
    (tmp_path / "mesh").mkdir()
    (tmp_path / "mesh/acting.py").write_text("import asyncio, zmq, time\nopen('x')")
    assert list(laws.purity(laws.modules(tmp_path))) == []


def test_the_share_counts_lines_of_pure_modules(tmp_path: Path) -> None:
    (tmp_path / "mesh").mkdir()
    (tmp_path / "mesh/decides.py").write_text('"""Pure."""\n' + "a = 1\n" * 2, encoding="utf-8")
    (tmp_path / "mesh/acts.py").write_text("a = 1\n", encoding="utf-8")
    assert laws.pure_share(laws.modules(tmp_path)) == 0.75


def test_the_command_prints_the_share(capsys: pytest.CaptureFixture[str]) -> None:
    assert laws.main(["share"]) == 0
    assert "lines are in pure modules" in capsys.readouterr().out
    assert laws.main([]) == 2
    assert "usage" in capsys.readouterr().err
