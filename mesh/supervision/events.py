"""The slots of a service, and the supervisor's events and instructions.

Pure.

`mesh/supervision/supervisor.py` turns events into instructions;
`mesh/supervision/process_loop.py` carries the instructions out.
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
        """Whether this is a place for a gateway."""
        return not self.stage

    def __str__(self) -> str:
        """Return the name that log lines use: ``gateway``, ``embed/1``."""
        if self.is_gateway and self.number == 1:
            return "gateway"
        return f"{self.stage or 'gateway'}/{self.number}"


GATEWAY = Slot("", 1)


class ProcessPlan(NamedTuple):
    """The processes to keep running.

    Attributes:
        slots: every slot, with the seconds that its process has to become ready.
        grace: seconds that stopping may take; then the supervisor kills all remaining processes.
        gateway_first: start replicas only when every gateway has reported its address.
        limits: by slot, the seconds that its replica may compute one batch before it is killed.
    """

    slots: dict[Slot, float]
    grace: float
    gateway_first: bool = False
    limits: Mapping[Slot, float] | None = None


# -- what happens ------------------------------------------------------------------------------


class Begin(NamedTuple):
    """Start the service."""


class Bound(NamedTuple):
    """A gateway reports that replicas can dial it."""

    slot: Slot


class Closed(NamedTuple):
    """A gateway reports that it accepts no more connections."""

    slot: Slot


class Ready(NamedTuple):
    """A process reports that it serves."""

    slot: Slot


class Asked(NamedTuple):
    """A replica reports a stop signal, and asks whether it may drain."""

    slot: Slot


class Failed(NamedTuple):
    """A process reports why it cannot start. It exits next."""

    slot: Slot
    why: str


class Exited(NamedTuple):
    """A process ended with this exit code, or by this signal (else 0).

    The code is None if other code in this process waited for it first and took the code.

    Attributes:
        doing: the requests that it was computing, or the step of its start; "" if neither is known.
    """

    slot: Slot
    code: int | None
    signal: int = 0
    doing: str = ""


class Stop(NamedTuple):
    """Stop the service: Ctrl-C, SIGTERM or a hang-up came."""


class Computes(NamedTuple):
    """A replica has been computing one batch, of these requests, for this many seconds."""

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
    """Order the process to drain and exit."""

    slot: Slot


class Kill(NamedTuple):
    """Kill the process and everything that it started (SIGKILL to its group)."""

    slot: Slot


class CloseHttp(NamedTuple):
    """Close the HTTP port, so that new connections are refused: no gateway accepts any more."""


class Log(NamedTuple):
    """Log a line; `level` is debug, info, warning or error."""

    level: str
    text: str


class Announce(NamedTuple):
    """Announce where the service is: every process is ready for the first time."""


class Exit(NamedTuple):
    """Exit with this code: all processes have ended."""

    code: int


Instruction = Start | Terminate | Kill | CloseHttp | Log | Announce | Exit
