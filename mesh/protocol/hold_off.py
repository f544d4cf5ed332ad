"""How long a peer that broke a rule is refused before it may connect again. Pure.

A process that misbehaves by a fault of its own would otherwise return at once, break the same rule
again, and keep others busy with its coming and going. The pause doubles with each time. Numbers
are chosen by those who bear them; so whoever can say where a peer comes from (its key and its
address) has that held off, too, but only when it happens again and again: others may share it. And
a number is held off as it comes from there: who says that it bears another's harms only itself.
"""

from __future__ import annotations

from typing import Final

FIRST_PAUSE_S: Final = 1.0  # the first pause
MAX_PAUSE_S: Final = 60.0
FORGIVEN_AFTER_S: Final = (
    600.0  # time without a breach after which the next pause is the first again
)
SPARED_BREACHES: Final = 3  # breaches from one source that are held against the numbers alone
MAX_REMEMBERED: Final = 1024  # numbers and sources that are remembered

Name = tuple[int, str] | str  # an incarnation and where it comes from, or a source alone


class HoldOff:
    """Remembers who was expelled lately.

    Example:
        >>> held_off = HoldOff()
        >>> held_off.expelled(7, "", now=10.0)
        1.0
        >>> held_off.left(7, "", now=10.5)
        0.5
        >>> held_off.left(7, "", now=11.0)
        0.0
    """

    __slots__ = ("_terms",)

    def __init__(self) -> None:
        self._terms: dict[Name, tuple[int, float]] = {}  # breaches so far, end of the pause

    def __len__(self) -> int:
        """Count the numbers and sources that are remembered."""
        return len(self._terms)

    def expelled(self, peer: int, source: str, now: float) -> float:
        """A peer broke a rule.

        Args:
            peer: its incarnation, 0 where it may be another process's.
            source: where it comes from, "" where that is unknown.
            now: local monotonic time in seconds.

        Returns:
            The seconds for which it is refused.
        """
        pause = self._extend((peer, source), 0, now) if peer else 0.0
        if source:
            pause = max(pause, self._extend(source, SPARED_BREACHES, now))
        return pause

    def left(self, peer: int, source: str, now: float) -> float:
        """Seconds for which who bears this number, or comes from there, is refused still."""
        if not self._terms:
            return 0.0
        names: tuple[Name, ...] = (peer, source), source
        ends = [self._terms[name][1] for name in names if name in self._terms]
        return max(0.0, max(ends, default=now) - now)

    def _extend(self, name: Name, spared: int, now: float) -> float:
        breaches, until = self._terms.pop(name, (0, now))
        if now >= until + FORGIVEN_AFTER_S:
            breaches = 0
        breaches += 1
        counted = breaches - spared
        pause = (
            min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(counted - 1, 16)) if counted > 0 else 0.0
        )
        self._terms[name] = breaches, now + pause
        if len(self._terms) > MAX_REMEMBERED:  # the one whose last breach lies furthest back
            del self._terms[next(iter(self._terms))]
        return pause
