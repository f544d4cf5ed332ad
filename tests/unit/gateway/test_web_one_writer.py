"""HTTP connections are composed: no attribute has two writers, and no class is cut into several."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import laws
import pytest

# What whoever reads a request completes of it, before anybody else has it.
COMPLETED = {"body", "connection", "headers", "lines", "allow"}
MODULES = sorted(
    path.name
    for path in (laws.ROOT / "gateway/web").glob("*.py")
    if path.name.startswith(("http1", "http2", "front_protocols", "protocol_detection"))
    and path.name != "http2_wire.py"  # it sets up an object of h2's
)


def foreign_writes(tree: ast.AST) -> Iterator[str]:
    """Assignments to an attribute of anything but ``self``, but for those of a new request."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            is_own = isinstance(node.value, ast.Name) and node.value.id == "self"
            if not is_own and node.attr not in COMPLETED:
                yield f"line {node.lineno}: {ast.unparse(node)}"


def bases(tree: ast.AST) -> set[str]:
    return {
        ast.unparse(base)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for base in node.bases
    }


@pytest.mark.parametrize("name", MODULES)
def test_attributes_of_a_connection_are_written_by_their_owner_alone(name: str) -> None:
    tree = ast.parse((laws.ROOT / "gateway/web" / name).read_text("utf-8"))
    assert list(foreign_writes(tree)) == []
    assert bases(tree) <= {"Protocol", "Exception", "asyncio.Protocol", "asyncio.BaseProtocol"}


def test_what_the_rule_forbids_is_seen() -> None:
    tree = ast.parse("self.a = 1\nturn.body = b''\nstream.owed += 1\nfor x.y in z: pass")
    assert list(foreign_writes(tree)) == ["line 3: stream.owed", "line 4: x.y"]
    assert bases(ast.parse("class Vetting(Lane): ...")) == {"Lane"}
