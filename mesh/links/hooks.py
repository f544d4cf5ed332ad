"""What the links of a process ask of the shell around them, and what they tell it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mesh.links.events import Stranger
from mesh.links.session import Session
from mesh.protocol.messages import Hello


def _not_computing(now: float) -> tuple[int, int, int]:
    return 0, 0, 0


def _anybody(link: int, hello: Hello) -> str:
    return ""


def _unheard(address: str, reason: str) -> None:
    """Nobody asks who refuses us."""


def _unasked(count: int) -> None:
    """Nobody asks how many addresses are not dialled."""


def _nowhere(link: int) -> str:
    return ""


def _untold(session: Session | Stranger | None, reason: str, fault: Exception | None) -> None:
    """Nobody asks who was expelled."""


@dataclass(slots=True, eq=False, kw_only=True)
class Hooks:
    """Questions and reports; by default nobody answers or listens.

    Args:
        load: tells the tasks queued, the milliseconds that the running batch took so far and
            may take, for PING.
        admits: tells why who says HELLO on a link may not be what it says, or "".
        objected: told the address and the reason where we are refused again and again; "" is the
            reason of a gateway that leaves attempts unanswered, as it does if it refuses a key.
        left_out: told once how many addresses that peers named are not dialled, being too many.
        source: tells where who dialled us comes from, as far as that is proven, or "".
        expelled: told whose session a breach has cost, why, and the exception if it was no breach
            of a rule but something that we could not handle. A `Stranger` had only said HELLO;
            of None nothing is known.

    Example:
        >>> Hooks().source(7)
        ''
    """

    load: Callable[[float], tuple[int, int, int]] = _not_computing
    admits: Callable[[int, Hello], str] = _anybody
    objected: Callable[[str, str], None] = _unheard
    left_out: Callable[[int], None] = _unasked
    source: Callable[[int], str] = _nowhere
    expelled: Callable[[Session | Stranger | None, str, Exception | None], None] = _untold
