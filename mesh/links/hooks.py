"""The callbacks by which the links of a process query and inform the shell around them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mesh.links.events import Stranger
from mesh.links.session import Session
from mesh.protocol.messages import Hello, Load


def _not_computing(now: float) -> tuple[int, int, int]:
    return 0, 0, 0


def _consuming_nothing(session: Session) -> None:
    return None


def _anybody(link: int, hello: Hello) -> str:
    return ""


def _unheard(address: str, reason: str) -> None:
    pass


def _unasked(count: int) -> None:
    pass


def _nowhere(link: int) -> str:
    return ""


def _untold(session: Session | Stranger | None, reason: str, fault: Exception | None) -> None:
    pass


@dataclass(slots=True, eq=False, kw_only=True)
class Hooks:
    """Callbacks of the links. By default, queries get neutral answers and reports go nowhere.

    Args:
        load: returns for PING the number of queued tasks, the milliseconds that the running batch
            has taken, and the milliseconds that it may take.
        load_for: returns what a producer is told of our load; None where we consume no tasks.
        admits: returns why the process that said HELLO on this link may not have that role, or "".
        objected: receives an address that refuses us repeatedly, and the reason. The reason is ""
            where a gateway leaves attempts unanswered, as it does with an unknown key.
        left_out: receives, once, how many addresses that peers named exceed the limit.
        source: returns the proven origin (key and address) of the process that dialled this link,
            or "".
        expelled: receives the session that a breach ended, the reason, and the exception where the
            message broke no rule but raised here. A `Stranger` had only said HELLO; None means that
            the sender is unknown.

    Example:
        >>> Hooks().source(7)
        ''
    """

    load: Callable[[float], tuple[int, int, int]] = _not_computing
    load_for: Callable[[Session], Load | None] = _consuming_nothing
    admits: Callable[[int, Hello], str] = _anybody
    objected: Callable[[str, str], None] = _unheard
    left_out: Callable[[int], None] = _unasked
    source: Callable[[int], str] = _nowhere
    expelled: Callable[[Session | Stranger | None, str, Exception | None], None] = _untold
