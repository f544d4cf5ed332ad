"""When to say that no gateway is reached, and that one is again. Pure.

A start in which the gateway comes a moment after the replicas is ordinary, and says nothing. After
that one line at once, and one every ten seconds, however often the link comes and goes meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

FIRST_REPORT_S: Final = 0.6  # without a gateway, before anything is said
DIAGNOSIS_S: Final = 0.3  # that finding out why may take; the line does not wait longer
REPORT_INTERVAL_S: Final = 10.0  # between two lines
REFUSED_S: Final = 60.0  # between two lines that one gateway refuses replicas
_NEVER: Final = float("inf")


class ReachStep(Enum):
    """What to do."""

    ASK = "find out why no gateway is reached"
    SAY = "say that none is reached"
    MET = "say that one is reached"


class GatewayReach:
    """Follows whether any gateway is connected.

    Args:
        greets: whether the first connection is worth a line, too.

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
        """It is known where the gateways are."""
        if not self._begun:
            self._begun = True
            self._due = now + FIRST_REPORT_S

    def look(self, connected: bool, now: float) -> ReachStep | None:
        """What to do, given whether any gateway is connected."""
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
        """It is known why: say so now."""
        if self._asked:
            self._due = -_NEVER

    def may_say_refused(self, address: str, now: float) -> bool:
        """Whether to say that a gateway refuses our replicas although we are connected."""
        if not self.connected or now < self._refused_until.get(address, -_NEVER):
            return False
        self._refused_until[address] = now + REFUSED_S
        return True

    def next_due(self) -> float:
        """When to look at the latest."""
        return self._due


class Unanswered:
    """Which replicas a gateway leaves out although it is connected with this host.

    A gateway that refuses a key says nothing, so a replica knows only that its attempts end in
    vain. One that the host itself does not reach explains that; one that it reaches is to blame
    when it happens twice: the second attempt began when the gateway was there.

    Example:
        >>> unanswered, reached = Unanswered(), ["tcp://10.0.0.7:7000"]
        >>> [unanswered.is_refused("embed/1", reached[0], reached) for _ in range(2)]
        [False, True]
    """

    def __init__(self) -> None:
        self._once: set[tuple[str, str]] = set()

    def is_refused(self, replica: str, address: str, reached: Iterable[str]) -> bool:
        """Whether a gateway refuses a replica, of which another attempt there has failed."""
        if address not in reached:
            self._once.discard((replica, address))
            return False
        if (replica, address) in self._once:
            return True
        self._once.add((replica, address))
        return False

    def keep(self, reached: Iterable[str]) -> None:
        """These gateways are connected; what was known of others counts no more."""
        if self._once:
            there = set(reached)
            self._once = {pair for pair in self._once if pair[1] in there}
