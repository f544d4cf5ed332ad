"""What links ask of the shell around them."""

from __future__ import annotations

from mesh.links.hooks import Hooks
from mesh.links.session import Session
from mesh.protocol.messages import Hello, Role


def test_by_default_nobody_answers_or_listens() -> None:
    hooks = Hooks()
    assert hooks.load(1.0) == (0, 0, 0)
    assert hooks.load_for(Session(1, 2, Role.GATEWAY, 0)) is None
    assert hooks.admits(7, Hello(Role.CLIENT, 1, "mesh", (1,))) == hooks.source(7) == ""
    hooks.objected("tcp://10.0.0.7:1", "no")
    hooks.left_out(3)
    hooks.expelled(None, "no", None)
