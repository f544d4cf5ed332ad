"""When to log that no gateway is reached, and that one is reached again. Pure.

During a start, the gateway often comes a moment after the replicas; that is not logged. After that
moment one line is logged at once, and then one every ten seconds, however often the link changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

FIRST_REPORT_S: Final = 0.6  # without a gateway, before the first line
DIAGNOSIS_S: Final = 0.3  # for the diagnosis; the line does not wait longer
REPORT_INTERVAL_S: Final = 10.0  # between two lines
REFUSED_S: Final = 60.0  # between two lines about one gateway that refuses replicas
_NEVER: Final = float("inf")


class ReachStep(Enum):
    """What the caller must do."""

    ASK = "find out why no gateway is reached"
    SAY = "say that none is reached"
    MET = "say that one is reached"


class GatewayReach:
    """Follows whether any gateway is connected.

    Args:
        greets: whether to log the first connection, too.

    Example:
        >>> reach = GatewayReach()
        >>> reach.begin(0.0)
        >>> [step and step.name for step in (reach.look(False, at) for at in (0.5, 0.6, 0.9))]
        [None, 'ASK', 'SAY']
    """

    def __init__(self, greets: bool = False) -> None:
        self.connected = False
        self._begun = self._asked = False
        self._greets = greets
        self._due = _NEVER
        self._quiet_until = -_NEVER
        self._refused_until: dict[str, float] = {}  # by the gateway's address

    def begin(self, now: float) -> None:
        """Start the clock: the addresses of the gateways are known."""
        if not self._begun:
            self._begun = True
            self._due = now + FIRST_REPORT_S

    def look(self, connected: bool, now: float) -> ReachStep | None:
        """Return what to do, given whether any gateway is connected."""
        if not self._begun:
            return None
        if connected is not self.connected:
            self.connected = connected
            self._asked = False
            self._due = _NEVER if connected else max(now + FIRST_REPORT_S, self._quiet_until)
        if connected:
            return self._greet()
        return self._complain(now) if now >= self._due else None

    def _greet(self) -> ReachStep | None:
        greets, self._greets = self._greets, False
        return ReachStep.MET if greets else None

    def _complain(self, now: float) -> ReachStep:
        self._asked = not self._asked
        if self._asked:
            self._due = now + DIAGNOSIS_S
            return ReachStep.ASK
        self._due = self._quiet_until = now + REPORT_INTERVAL_S
        self._greets = True
        return ReachStep.SAY

    def answered(self) -> None:
        """Make the line due now: the reason is known."""
        if self._asked:
            self._due = -_NEVER

    def may_say_refused(self, address: str, now: float) -> bool:
        """Return whether to log that a gateway refuses our replicas although we are connected."""
        if not self.connected or now < self._refused_until.get(address, -_NEVER):
            return False
        self._refused_until[address] = now + REFUSED_S
        return True

    def next_due(self) -> float:
        """Return when `look` must be called next, at the latest."""
        return self._due


class Unanswered:
    """Detects replicas that a gateway refuses although it accepts this host's supervisor.

    A gateway that refuses a key sends nothing, so a replica only knows that its attempts fail. If
    the supervisor does not reach the gateway either, that explains the failures. If it does, the
    second failure shows a refusal: that attempt began while the gateway was reachable.

    Example:
        >>> unanswered, reached = Unanswered(), ["tcp://10.0.0.7:7000"]
        >>> [unanswered.is_refused("embed/1", reached[0], reached) for _ in range(2)]
        [False, True]
    """

    def __init__(self) -> None:
        self._once: set[tuple[str, str]] = set()

    def is_refused(self, replica: str, address: str, reached: Iterable[str]) -> bool:
        """Record another failed attempt; return whether the gateway refuses the replica."""
        if address not in reached:
            self._once.discard((replica, address))
            return False
        if (replica, address) in self._once:
            return True
        self._once.add((replica, address))
        return False

    def keep(self, reached: Iterable[str]) -> None:
        """Keep the failures at these connected gateways, and forget all others."""
        if self._once:
            there = set(reached)
            self._once = {pair for pair in self._once if pair[1] in there}
