"""The laws of DESIGN.md §9, as functions of a source tree. `test_architecture.py` enforces them.

Every module of the three packages stands in exactly one of the two tables below. `PURE` modules
decide: they take time and chance as arguments and import nothing that does I/O. `SHELL` modules
act. A new module must be entered in one of them.

From the command line, ``python tests/laws.py share`` prints how much of the product is pure.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("mesh", "gateway", "stage")

PURE = frozenset(
    {
        "mesh/addresses.py",
        "mesh/backlog.py",
        "mesh/board.py",
        "mesh/bundles.py",
        "mesh/allowance.py",
        "mesh/client/core.py",
        "mesh/codec.py",
        "mesh/config/exposure.py",
        "mesh/crowd.py",
        "mesh/dialling.py",
        "mesh/dispatch.py",
        "mesh/errors.py",
        "mesh/fields.py",
        "mesh/greeting.py",
        "mesh/herald.py",
        "mesh/instructions.py",
        "mesh/json_text.py",
        "mesh/json_values.py",
        "mesh/links.py",
        "mesh/log_limit.py",
        "mesh/logs/control_characters.py",
        "mesh/logs/lines.py",
        "mesh/messages.py",
        "mesh/mixin/msgpack_worker.py",
        "mesh/outbox.py",
        "mesh/ownership.py",
        "mesh/release.py",
        "mesh/process/open_files.py",
        "mesh/process/worker_source.py",
        "mesh/request_facts.py",
        "mesh/riders.py",
        "mesh/schema.py",
        "mesh/session.py",
        "mesh/process_settings.py",
        "mesh/protocol/array_memory.py",
        "gateway/requests/departed.py",
        "gateway/requests/journal.py",
        "gateway/requests/drawn_numbers.py",
        "gateway/requests/ownership.py",
        "gateway/requests/releases.py",
        "mesh/protocol/hold_off.py",
        "mesh/protocol/permissions.py",
        "mesh/protocol/request_names.py",
        "mesh/settings.py",
        "mesh/settings_text.py",
        "mesh/supervision/reach.py",
        "mesh/supervision/events.py",
        "mesh/supervisor.py",
        "mesh/transfers.py",
        "mesh/units.py",
        "mesh/upkeep.py",
        "mesh/wire.py",
        "mesh/worker.py",
        "mesh/worker_checks.py",
        "gateway/admission.py",
        "gateway/answers.py",
        "gateway/book.py",
        "gateway/codings.py",
        "gateway/core.py",
        "gateway/exchange.py",
        "gateway/frames.py",
        "gateway/heads.py",
        "gateway/inference.py",
        "gateway/queues.py",
        "gateway/recovery.py",
        "gateway/requests/route.py",
        "gateway/roster.py",
        "gateway/trust.py",
        "gateway/web/browser_policy.py",
        "gateway/web/directions.py",
        "gateway/web/patience.py",
        "gateway/web/unread.py",
        "gateway/web/uploads.py",
        "stage/batcher.py",
        "stage/credentials.py",
        "stage/error_codes.py",
        "stage/grants.py",
        "stage/homeward.py",
        "stage/item_outcome.py",
        "stage/line.py",
        "stage/onward.py",
        "stage/pace.py",
        "stage/replica.py",
        "stage/results.py",
    }
)
SHELL = frozenset(
    {
        "mesh/__init__.py",
        "mesh/client/__init__.py",
        "mesh/client/connection.py",
        "mesh/client/over_http.py",
        "mesh/config/__init__.py",
        "mesh/discovery.py",
        "mesh/failure_text.py",
        "mesh/flags.py",
        "mesh/front.py",
        "mesh/knocking.py",
        "mesh/child.py",
        "mesh/lifeline.py",
        "mesh/loading.py",
        "mesh/log.py",
        "mesh/logs/__init__.py",
        "mesh/logs/expulsions.py",
        "mesh/logs/loggers.py",
        "mesh/logs/streams.py",
        "mesh/logs/writer.py",
        "mesh/memory.py",
        "mesh/metrics.py",
        "mesh/mixin/__init__.py",
        "mesh/node.py",
        "mesh/orphans.py",
        "mesh/process/__init__.py",
        "mesh/process/admin_door.py",
        "mesh/process/connections.py",
        "mesh/process/crashes.py",
        "mesh/process/fork.py",
        "mesh/process/limits.py",
        "mesh/process/shared_memory.py",
        "mesh/process/streams.py",
        "mesh/process/start_watch.py",
        "mesh/process/signals.py",
        "mesh/process/exit_watchdog.py",
        "mesh/process/private_folder.py",
        "mesh/process/process_group.py",
        "mesh/processes.py",
        "mesh/protocol/__init__.py",
        "mesh/reporter.py",
        "mesh/run_folder.py",
        "mesh/security.py",
        "mesh/server.py",
        "mesh/service.py",
        "mesh/settings_file.py",
        "mesh/sockets.py",
        "mesh/supervision/__init__.py",
        "mesh/supervision/diagnosis.py",
        "mesh/supervision/dry_run.py",
        "mesh/supervision/meeting.py",
        "mesh/testing.py",
        "mesh/transport/__init__.py",
        "mesh/transport/dialable.py",
        "mesh/transport/key_folders.py",
        "mesh/transport/trusted_files.py",
        "gateway/__init__.py",
        "gateway/__main__.py",
        "gateway/acceptor.py",
        "gateway/app.py",
        "gateway/coder.py",
        "gateway/doorway.py",
        "gateway/drive.py",
        "gateway/http1.py",
        "gateway/http2.py",
        "gateway/intake.py",
        "gateway/lane.py",
        "gateway/listener.py",
        "gateway/pages.py",
        "gateway/picture.py",
        "gateway/requests/__init__.py",
        "gateway/requests/failure_log.py",
        "gateway/server.py",
        "gateway/shared.py",
        "gateway/siblings.py",
        "gateway/streams.py",
        "gateway/tunnel.py",
        "gateway/union.py",
        "gateway/vetting.py",
        "gateway/web/__init__.py",
        "gateway/web/admin_listener.py",
        "gateway/web/half_close.py",
        "gateway/web/hpack.py",
        "gateway/web/access_log.py",
        "stage/__init__.py",
        "stage/__main__.py",
        "stage/failures.py",
        "stage/loop.py",
        "stage/runner.py",
        "stage/server.py",
    }
)

# What each package may import of ours.
OURS = {
    "mesh": {"mesh"},
    "gateway": {"gateway", "mesh"},
    "stage": {"stage", "mesh"},
}
ZMQ_OWNERS = frozenset({"mesh/sockets.py", "mesh/security.py"})

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

UNUSED_WORDS = _names("job broker manager handler helper util context data")
# Names that somebody else chose and that we must bear, and whose they are: in one module or, where
# no module is named, in all of them. What follows a dot is a parameter of what precedes it.
FOREIGN_NAMES = {
    "data_received": "asyncio.Protocol, tornado's HTTPMessageDelegate",
    "data_received.data": "asyncio.Protocol",
    "forward.data": "the vocabulary that workers share with mosec",
    "serialize.data": "the same",
    "deserialize.data": "the same",
    "serialize_ipc.data": "the same",
    "deserialize_ipc.data": "the same",
    "gateway/pages.py:context": "tornado's HTTPConnection",
    "mesh/sockets.py:_context": "ZeroMQ",
    "handlers": "logging.Logger",
}


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

    def imports(self) -> Iterator[str]:
        """Every imported name in full: ``from a import b`` is ``a.b``, with its own dots kept."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                prefix = "." * node.level + (node.module or "")
                yield from (f"{prefix}.{alias.name}" for alias in node.names)


Law = Callable[[list[Module]], Iterator[str]]


def modules(root: Path = ROOT, packages: tuple[str, ...] = PACKAGES) -> list[Module]:
    """Read all modules of `packages` below `root`, in the order of their paths."""
    found = sorted(path for name in packages for path in (root / name).rglob("*.py"))
    return [_module(path, root) for path in found]


def _module(path: Path, root: Path) -> Module:
    text = path.read_text(encoding="utf-8")
    return Module(path.relative_to(root).as_posix(), text, ast.parse(text, str(path)))


def classified(tree: list[Module]) -> Iterator[str]:
    """Every module is either pure or shell; `mesh/cli` is shell as a whole."""
    for module in tree:
        places = [module.path in PURE, _is_shell(module.path)]
        if places.count(True) != 1:
            yield f"{module.path} must stand in PURE or in SHELL of tests/laws.py"


def _is_shell(path: str) -> bool:
    return path in SHELL or path.startswith("mesh/cli/")


def direction(tree: list[Module]) -> Iterator[str]:
    """Law 1: mesh imports neither gateway nor stage, and these two never each other."""
    for module in tree:
        for name in module.imports():
            top = name.split(".", 1)[0]
            if not top:
                yield f"{module.path} imports {name}: imports are absolute here"
            elif top in PACKAGES and top not in OURS[module.package]:
                yield f"{module.path} imports {name}: {module.package} must not know {top}"


def purity(tree: list[Module]) -> Iterator[str]:
    """Law 2: pure modules import only pure things, and so, step by step, nothing else."""
    for module in tree:
        if module.path in PURE:
            for name in module.imports():
                if not _pure_import(name):
                    yield f"{module.path} is pure and imports {name}"
            for name in _impure_uses(module.tree):
                yield f"{module.path} is pure and uses {name}"


def _pure_import(name: str) -> bool:
    if name.split(".", 1)[0] in PACKAGES:
        return _own_file(name) in PURE
    if any(_within(name, part) for part in IMPURE_PARTS):
        return False
    return any(_within(name, part) for part in PURE_IMPORTS) or name == "sys"


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(part + ".")


def _own_file(name: str) -> str:
    """The module that ``from mesh.wire import Reader`` or ``import mesh.wire`` speaks of."""
    steps = name.split(".")
    whole, outer = "/".join(steps) + ".py", "/".join(steps[:-1]) + ".py"
    return whole if whole in PURE or whole in SHELL else outer


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


def zmq_in_one_place(tree: list[Module]) -> Iterator[str]:
    """Law 3: only the modules that own sockets and keys import zmq."""
    for module in tree:
        if module.path not in ZMQ_OWNERS and any(_within(name, "zmq") for name in module.imports()):
            yield f"{module.path} imports zmq: only {' and '.join(sorted(ZMQ_OWNERS))} may"


def no_pickle(tree: list[Module]) -> Iterator[str]:
    """Law 4: nothing executable is ever written to or read from bytes."""
    for module in tree:
        for name in module.imports():
            if name.split(".", 1)[0] in PICKLES:
                yield f"{module.path} imports {name}: no pickle"
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and node.attr in PICKLE_CALLS:
                yield f"{module.path}:{node.lineno} calls {node.attr}: it pickles"
            elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                yield f"{module.path}:{node.value.lineno} mentions allow_pickle: no pickle"


def own_names(tree: list[Module]) -> Iterator[str]:
    """Law 5: no module bears a standard library name, which a script beside it would import."""
    for module in tree:
        for step in module.path.removesuffix(".py").split("/"):
            if step in sys.stdlib_module_names and not step.startswith("__"):
                yield f"{module.path}: {step} is a module of the standard library"


def unused_words(tree: list[Module]) -> Iterator[str]:
    """The words that DESIGN §1 does not use name no class, function, parameter or variable."""
    for module in tree:
        for line, name in _defined(module.tree):
            words = set(_words(name.rsplit(".", 1)[-1]))
            foreign = {name, f"{module.path}:{name}"} & FOREIGN_NAMES.keys()
            if words & UNUSED_WORDS and not foreign:
                yield f"{module.path}:{line} calls something {name}: see DESIGN §1"


def _defined(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of all that a module names; a parameter comes as ``function.parameter``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
            for inner in ast.walk(node.args):
                if isinstance(inner, ast.arg):
                    yield inner.lineno, f"{node.name}.{inner.arg}"
        elif isinstance(node, ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def _words(name: str) -> Iterator[str]:
    """The words of ``snake_case`` and ``CamelCase``, lower case, without a plural's s."""
    for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name):
        lower = word.lower()
        yield lower.removesuffix("s") if lower.removesuffix("s") in UNUSED_WORDS else lower


def pure_share(tree: list[Module]) -> float:
    """Share of the lines in pure modules, from 0 to 1; the second half of law 2 wants 0.5."""
    lines = {module.path: module.text.count("\n") for module in tree}
    return sum(count for path, count in lines.items() if path in PURE) / (sum(lines.values()) or 1)


def planned(page: str) -> dict[str, bool]:
    """The modules that the page's layout names, and whether it marks them as pure."""
    layout = page.split("## 9. Layout", 1)[1].split("```")[1]
    found: dict[str, bool] = {}
    package = ""
    for line in layout.splitlines():
        if head := re.match(r"(mesh|gateway|stage|\w+)/", line):
            package = head[1]
        elif package in PACKAGES and (row := re.match(r" {2}((?:\w+\.py,?\s+)+)(P )?", line + " ")):
            found |= {f"{package}/{name}": bool(row[2]) for name in re.findall(r"\w+\.py", row[1])}
    return found


LAWS: tuple[Law, ...] = (
    classified,
    direction,
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
