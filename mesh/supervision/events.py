"""What a supervisor is told, and what it has done: a service's slots, events and instructions.

Pure.

`mesh/supervision/supervisor.py` decides with them, `mesh/supervision/process_loop.py` carries them
out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Slot(NamedTuple):
    """A place for one process. `stage` is "" for a gateway; `number` counts from 1."""

    stage: str
    number: int

    @property
    def is_gateway(self) -> bool:
        """Whether a gateway belongs here."""
        return not self.stage

    def __str__(self) -> str:
        """As in a log line: ``gateway``, ``embed/1``."""
        if self.is_gateway and self.number == 1:
            return "gateway"
        return f"{self.stage or 'gateway'}/{self.number}"


GATEWAY = Slot("", 1)


class ProcessPlan(NamedTuple):
    """What is to be kept running.

    Attributes:
        slots: every slot with the seconds its process may take until it is ready.
        grace: seconds that stopping may take before what is left is killed.
        gateway_first: start replicas only when every gateway has said where it listens.
        limits: seconds that a batch of a slot's replica may be computed before it is killed.
    """

    slots: dict[Slot, float]
    grace: float
    gateway_first: bool = False
    limits: Mapping[Slot, float] | None = None


# -- what happens ------------------------------------------------------------------------------


class Begin(NamedTuple):
    """The service is to start."""


class Bound(NamedTuple):
    """A gateway says that replicas can dial it."""

    slot: Slot


class Closed(NamedTuple):
    """A gateway says that it takes no more connections."""

    slot: Slot


class Ready(NamedTuple):
    """A process says that it serves."""

    slot: Slot


class Asked(NamedTuple):
    """A replica received a stop signal from another process: may it drain?"""

    slot: Slot


class Failed(NamedTuple):
    """A process says why it cannot start, before it exits."""

    slot: Slot
    why: str


class Exited(NamedTuple):
    """A process is gone: with this exit code, or by this signal (else 0).

    The code is None where other code waited for the process, and so knows how it ended.

    Attributes:
        doing: the requests that it computed then, or the step of its start; "" if neither is known.
    """

    slot: Slot
    code: int | None
    signal: int = 0
    doing: str = ""


class Stop(NamedTuple):
    """The service is to stop: Ctrl-C, SIGTERM or a hang-up came."""


class Computes(NamedTuple):
    """A replica was seen to compute one batch, of these requests, for so many seconds."""

    slot: Slot
    seconds: float
    requests: str = ""


class Tick(NamedTuple):
    """Time has passed; see `Supervisor.next_due`."""


Event = Begin | Bound | Closed | Ready | Asked | Failed | Exited | Stop | Computes | Tick

# -- what to do --------------------------------------------------------------------------------


class Start(NamedTuple):
    """Start a process for this slot."""

    slot: Slot


class Terminate(NamedTuple):
    """Order the process to end in order."""

    slot: Slot


class Kill(NamedTuple):
    """End the process and everything that it started (SIGKILL to its group)."""

    slot: Slot


class CloseHttp(NamedTuple):
    """No gateway takes connections any more: who connects from now on shall be refused."""


class Say(NamedTuple):
    """Log a line; `level` is debug, info, warning or error."""

    level: str
    text: str


class Announce(NamedTuple):
    """Every process is ready for the first time: say where the service is."""


class Exit(NamedTuple):
    """Everything is over: leave with this exit code."""

    code: int


Instruction = Start | Terminate | Kill | CloseHttp | Say | Announce | Exit
