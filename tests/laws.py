"""The laws of DESIGN.md §16, as functions of a source tree. `test_architecture.py` enforces them.

A module says itself what it is: one whose docstring has the sentence "Pure." decides, takes time
and chance as arguments and imports nothing that does I/O. All others act. `FLOORS` says which
package may import which.

From the command line, ``python tests/laws.py share`` prints how much of the product is pure.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("mesh", "gateway", "stage")

_MARK = re.compile(r"\bPure[.:]")

# The floors of `mesh`, lowest first: a module imports from its own package and from lower floors.
# What stands in none of them is on the top floor, which may import everything.
FLOORS: tuple[frozenset[str], ...] = (
    _names("mesh.errors mesh.release"),
    _names("mesh.logs"),
    _names("mesh.log"),
    _names("mesh.protocol mesh.config mesh.client"),
    _names("mesh.worker"),
    _names("mesh.process"),
    _names("mesh.transport"),
    _names("mesh.links"),
    _names("mesh.supervision"),
)
# Packages that know nothing of each other although no floor parts them.
STRANGERS: tuple[tuple[str, str], ...] = (
    ("gateway", "mesh.supervision"),
    ("stage", "mesh.supervision"),
    ("gateway.web", "gateway.requests"),
    ("gateway.requests", "gateway.web"),
    ("mesh.protocol", "mesh.config"),
    ("mesh.config", "mesh.protocol"),
    ("mesh.client", "mesh.config"),
)

# What each package may import of ours.
OURS = {
    "mesh": {"mesh"},
    "gateway": {"gateway", "mesh"},
    "stage": {"stage", "mesh"},
}
TRANSPORT, OPENED_BY = "mesh.transport.zeromq", "mesh/transport/factory.py"
ZMQ_OWNERS = frozenset({"mesh/transport/zeromq.py", "mesh/transport/curve.py"})

# The standard library's pure parts: no I/O, no clock, no chance, no process-wide state.
PURE_IMPORTS = _names(
    """
    __future__ abc array base64 binascii bisect cmath collections contextlib copy dataclasses
    decimal difflib enum fractions functools hashlib heapq html http.HTTPStatus inspect ipaddress
    itertools json keyword math numbers operator re shlex.quote statistics string struct
    sys.byteorder sys.getrefcount sys.intern sys.maxsize textwrap tomllib types typing unicodedata
    urllib.parse zlib msgpack msgspec numpy
    """
)
IMPURE_PARTS = _names(
    """
    numpy.fromfile numpy.load numpy.loadtxt numpy.memmap numpy.random numpy.save numpy.savetxt
    numpy.savez
    """
)
IMPURE_CALLS = frozenset({"__import__", "breakpoint", "eval", "exec", "input", "open", "print"})

PICKLES = frozenset({"_pickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"})
PICKLE_CALLS = frozenset({"recv_pyobj", "send_pyobj"})

# They say nothing of what a module is for.
UNUSED_WORDS = _names("common helper util")


@dataclass(frozen=True)
class Module:
    """One source file: its path below the root, its lines and its syntax tree."""

    path: str
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """The top-level package it belongs to."""
        return self.path.split("/", 1)[0]

    @property
    def name(self) -> str:
        """What Python calls it: ``mesh.protocol.wire``, and a package without ``__init__``."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @cached_property
    def pure(self) -> bool:
        """Whether it says that it is."""
        return _MARK.search(ast.get_docstring(self.tree) or "") is not None

    @cached_property
    def imports(self) -> list[str]:
        """Every imported name in full: ``from a import b`` is ``a.b``, with its own dots kept."""
        names = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                prefix = "." * node.level + (node.module or "")
                names += [f"{prefix}.{alias.name}" for alias in node.names]
        return names


Tree = Sequence[Module]
Law = Callable[[Tree], Iterator[str]]


@cache
def modules(root: Path = ROOT, packages: tuple[str, ...] = PACKAGES) -> Tree:
    """Read all modules of `packages` below `root`, in the order of their paths."""
    found = sorted(path for name in packages for path in (root / name).rglob("*.py"))
    return tuple(_module(path, root) for path in found)


def _module(path: Path, root: Path) -> Module:
    text = path.read_text(encoding="utf-8")
    return Module(path.relative_to(root).as_posix(), text, ast.parse(text, str(path)))


def direction(tree: Tree) -> Iterator[str]:
    """Law 1: mesh imports neither gateway nor stage, and these two never each other."""
    for module in tree:
        for name in module.imports:
            top = name.split(".", 1)[0]
            if not top:
                yield f"{module.path} imports {name}: imports are absolute here"
            elif top in PACKAGES and top not in OURS[module.package]:
                yield f"{module.path} imports {name}: {module.package} must not know {top}"


def floors(tree: Tree) -> Iterator[str]:
    """Law 1: no import within `mesh` runs upward, nor from one room of a floor into another."""
    for module in tree:
        here = _room(module.name)
        for name in module.imports:
            there = _room(name)
            if here and there and here != there and _height(there) >= _height(here):
                yield f"{module.path} imports {name}: {there} is not below {here}"


def _room(name: str) -> str:
    """The package of `mesh` that a module stands in, "" if it is on the top floor or not there."""
    return next((room for floor in FLOORS for room in floor if _within(name, room)), "")


def _height(room: str) -> int:
    return next(height for height, floor in enumerate(FLOORS) if room in floor) or -1


def strangers(tree: Tree) -> Iterator[str]:
    """Law 2: who decides about requests knows nothing of HTTP, and so on: see `STRANGERS`."""
    for module in tree:
        for one, other in STRANGERS:
            if _within(module.name, one):
                for name in module.imports:
                    if _within(name, other):
                        yield f"{module.path} imports {name}: {one} must not know {other}"


def purity(tree: Tree) -> Iterator[str]:
    """Law 3: pure modules import only pure things, and so, step by step, nothing else."""
    known = {module.name: module.pure for module in (*modules(), *tree)}
    for module in tree:
        if module.pure:
            for name in module.imports:
                if not _pure_import(name, known):
                    yield f"{module.path} is pure and imports {name}"
            for name in _impure_uses(module.tree):
                yield f"{module.path} is pure and uses {name}"


def _pure_import(name: str, known: Mapping[str, bool]) -> bool:
    if name.split(".", 1)[0] in PACKAGES:
        return known.get(name, known.get(name.rpartition(".")[0], False))
    if any(_within(name, part) for part in IMPURE_PARTS):
        return False
    return any(_within(name, part) for part in PURE_IMPORTS) or name == "sys"


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(part + ".")


def _impure_uses(tree: ast.Module) -> Iterator[str]:
    """Built-in I/O, and the impure corners of `sys` and numpy, which may be imported whole."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in IMPURE_CALLS:
                yield f"{node.func.id}()"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            top = "numpy" if node.value.id == "np" else node.value.id
            name = f"{top}.{node.attr}"
            if name in IMPURE_PARTS or (top == "sys" and name not in PURE_IMPORTS):
                yield name


def zmq_in_one_place(tree: Tree) -> Iterator[str]:
    """Law 4: only the modules that own sockets and keys import zmq, and one names the transport."""
    for module in tree:
        if module.path not in ZMQ_OWNERS and any(_within(name, "zmq") for name in module.imports):
            yield f"{module.path} imports zmq: only {' and '.join(sorted(ZMQ_OWNERS))} may"
        named = any(_within(name, TRANSPORT) for name in module.imports)
        if named and module.path != OPENED_BY:
            yield f"{module.path} imports {TRANSPORT}: only {OPENED_BY} may"


def no_pickle(tree: Tree) -> Iterator[str]:
    """Law 5: nothing executable is ever written to or read from bytes."""
    for module in tree:
        for name in module.imports:
            if name.split(".", 1)[0] in PICKLES:
                yield f"{module.path} imports {name}: no pickle"
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and node.attr in PICKLE_CALLS:
                yield f"{module.path}:{node.lineno} calls {node.attr}: it pickles"
            elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                yield f"{module.path}:{node.value.lineno} mentions allow_pickle: no pickle"


def own_names(tree: Tree) -> Iterator[str]:
    """Law 5: no module bears a standard library name, which a script beside it would import."""
    for module in tree:
        for step in module.path.removesuffix(".py").split("/"):
            if step in sys.stdlib_module_names and not step.startswith("__"):
                yield f"{module.path}: {step} is a module of the standard library"


def unused_words(tree: Tree) -> Iterator[str]:
    """Law 5: no module is called util, helper or common."""
    for module in tree:
        for step in module.path.removesuffix(".py").split("/"):
            if {word.removesuffix("s") for word in step.split("_")} & UNUSED_WORDS:
                yield f"{module.path}: {step} does not say what it is for"


def pure_share(tree: Tree) -> float:
    """Share of the lines in pure modules, from 0 to 1; the second half of law 3 wants 0.5."""
    lines = [(module.pure, module.text.count("\n")) for module in tree]
    return sum(count for pure, count in lines if pure) / (sum(count for _, count in lines) or 1)


LAWS: tuple[Law, ...] = (
    direction,
    floors,
    strangers,
    purity,
    zmq_in_one_place,
    no_pickle,
    own_names,
    unused_words,
)


def main(arguments: list[str]) -> int:
    """Print the share of pure lines: ``python tests/laws.py share``."""
    if arguments != ["share"]:
        sys.stderr.write("usage: python tests/laws.py share\n")
        return 2
    tree = modules()
    lines = sum(module.text.count("\n") for module in tree)
    sys.stdout.write(f"{pure_share(tree):.0%} of {lines} lines are in pure modules\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
