"""Decides when to start, restart, give up on and stop the processes of a service. Pure.

`Supervisor.handle` takes an event and the monotonic time, and returns instructions, which
`mesh/supervision/process_loop.py` carries out. A slot is a place for one process: the n-th gateway,
or the n-th replica of a stage. Successive processes fill the same slot.

The states of a slot:

```
            Begin / Bound                Ready
  IDLE ──────────────────► STARTING ──────────────► READY
    ▲                         │                       │
    │ back-off is over        │ Exited                │ Exited
    └──────── WAITING ◄───────┴───────────────────────┘
```

A replica that gets a stop signal from another process asks before it drains (`Asked`). If the
signal went to every process of the service, the supervisor gets it, too, and stops the replica in
order. If it went to that replica alone, the replica drains after a moment.

The order of a stop:

1. The gateways are ordered to finish.
2. When no gateway accepts connections any more, the HTTP port that they share is closed.
3. When the gateways have ended, or their grace is over, the replicas are ordered to drain.
4. A process that is left after the grace is killed with its whole group.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from mesh.errors import EXIT_FORCED, EXIT_NOT_STARTED, EXIT_OK
from mesh.supervision.events import (
    Announce,
    Asked,
    Begin,
    Bound,
    Closed,
    CloseHttp,
    Computes,
    Event,
    Exit,
    Exited,
    Failed,
    Instruction,
    Kill,
    Log,
    ProcessPlan,
    Ready,
    Slot,
    Start,
    Stop,
    Terminate,
)

FIRST_RESTART_DELAY_S = 0.1
MAX_RESTART_DELAY_S = 10.0
# A process that was ready for this long was healthy: its next death resets the back-off.
HEALTHY_LIFE_S = 30.0
# How often a stage that never was ready may die without a reason before the service gives up.
QUIET_DEATHS = 3
# What replicas get to drain if the gateways have used up the grace.
TERMINATE_GRACE_S = 1.0

# A process that gets a stop signal before it handles signals dies of it, which is in order: SIGHUP,
# SIGINT, SIGTERM; 0 means no signal. (This module is pure, so it does not import `signal`.)
_STOP_SIGNALS = (0, 1, 2, 15)
# Stop signals within this time count as one: `kill` may send one to all processes of a service, or
# the same one twice.
SAME_STOP_S = 1.0
# How long a replica that got a stop signal waits for the supervisor to get the same one.
SAME_SIGNAL_S = 0.2
_SIGKILL = 9


class SlotState(Enum):
    """The state of a slot; see the diagram above."""

    IDLE = "idle"
    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"


@dataclass(slots=True)
class _Life:
    """A slot's state since `since`; STARTING and WAITING end at `until`."""

    start_timeout: float
    state: SlotState = SlotState.IDLE
    since: float = 0.0
    until: float = 0.0
    deaths: int = 0
    why: str = ""
    # When a replica that asked may drain, if the service does not stop.
    drain_at: float = float("inf")
    killed: bool = False
    closed: bool = False


@dataclass
class Supervisor:
    """Keeps the slots of a plan filled, and stops their processes in order.

    Example:
        >>> supervisor = Supervisor(ProcessPlan({Slot("embed", 1): 60.0}, grace=8.0))
        >>> supervisor.handle(Begin(), now=0.0)
        [Start(slot=Slot(stage='embed', number=1))]
        >>> supervisor.handle(Exited(Slot("embed", 1), code=1), now=1.0)
        [Log(level='warning', text='embed/1 exited with code 1 while starting; restart in 0.1 s')]
        >>> supervisor.next_due()
        1.1
    """

    plan: ProcessPlan
    _lives: dict[Slot, _Life] = field(init=False)
    _proven: set[str | Slot] = field(default_factory=set)
    _unbound: set[Slot] = field(default_factory=set)
    _http_open: bool = field(init=False)
    _announced: bool = False
    _exit_code: int | None = None
    _draining: bool = False
    _forced: bool = False
    _stop_began: float = float("inf")
    _grace_end: float = float("inf")
    _deadline: float = float("inf")

    def __post_init__(self) -> None:
        """Begin with every slot empty."""
        self._lives = {slot: _Life(timeout) for slot, timeout in self.plan.slots.items()}
        self._http_open = any(slot.is_gateway for slot in self._lives)

    @property
    def stopping(self) -> bool:
        """Whether the service is stopping."""
        return self._exit_code is not None

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """Return the instructions for an event at this monotonic time in seconds."""
        match event:
            case Begin():
                return self._begin(now)
            case Bound(slot):
                return self._bound_at(slot, now)
            case Closed(slot):
                self._lives[slot].closed = True
                return self._close_http()
            case Ready(slot):
                return self._ready(slot, now)
            case Asked(slot):
                return self._asked(slot, now)
            case Failed(slot, why):
                self._lives[slot].why = why
                return []
            case Exited():
                return self._exited(event, now)
            case Stop():
                return self._stop_asked(now)
            case Computes(slot, seconds, requests):
                return self._judge(slot, seconds, requests)
            case _:
                return self._tick(now)

    def next_due(self) -> float:
        """Return when `Tick` is due: monotonic seconds, infinity if nothing is due."""
        timed = (SlotState.STARTING, SlotState.WAITING)
        if self.stopping:
            return self._deadline
        dues = [life.until for life in self._lives.values() if life.state in timed]
        return min(dues + [life.drain_at for life in self._lives.values()], default=float("inf"))

    def states(self) -> dict[Slot, SlotState]:
        """Return the state of each slot."""
        return {slot: life.state for slot, life in self._lives.items()}

    # -- starting ------------------------------------------------------------------------------

    def _begin(self, now: float) -> list[Instruction]:
        gateways = {slot for slot in self._lives if slot.is_gateway}
        self._unbound = gateways if self.plan.gateway_first else set()
        waits = bool(self._unbound)
        return self._start([slot for slot in self._lives if slot.is_gateway or not waits], now)

    def _bound_at(self, slot: Slot, now: float) -> list[Instruction]:
        if self._lives[slot].state is SlotState.STARTING:
            # The gateway is healthy. It may open HTTP only once the replicas are ready, and their
            # start has its own limit.
            self._lives[slot].until = float("inf")
        if slot not in self._unbound:
            return []
        self._unbound.remove(slot)
        if self._unbound or self.stopping:
            return []
        return self._start([one for one, _ in self._idle()], now)

    def _idle(self) -> list[tuple[Slot, _Life]]:
        return [(slot, life) for slot, life in self._lives.items() if life.state is SlotState.IDLE]

    def _start(self, slots: list[Slot], now: float) -> list[Instruction]:
        for slot in slots:
            life = self._lives[slot]
            life.state, life.since, life.until = SlotState.STARTING, now, now + life.start_timeout
            life.why, life.killed, life.closed = "", False, False
        return [Start(slot) for slot in slots]

    def _ready(self, slot: Slot, now: float) -> list[Instruction]:
        life = self._lives[slot]
        if life.state is not SlotState.STARTING:
            return []
        life.state, seconds = SlotState.READY, now - life.since
        life.since = now
        self._proven.add(_code_of(slot))
        # The process logs the same; this line is for readers of the supervisor's log alone.
        said: list[Instruction] = [Log("debug", f"{slot} is ready after {seconds:.1f} s")]
        if not self._announced and all(
            one.state is SlotState.READY for one in self._lives.values()
        ):
            self._announced = True
            said.append(Announce())
        return said

    # -- deaths --------------------------------------------------------------------------------

    def _exited(self, exited: Exited, now: float) -> list[Instruction]:
        slot, code, signal, _ = exited
        life = self._lives[slot]
        was_ready = life.state is SlotState.READY
        if was_ready and now - life.since >= HEALTHY_LIFE_S:
            life.deaths = 0
        life.state, life.drain_at = SlotState.IDLE, float("inf")
        if self.stopping:
            return self._ended(slot, code, signal, now)
        how = _how(code, signal) + _meanwhile(exited, was_ready=was_ready)
        reason = f"{slot}: {life.why}" if life.why else f"{slot} {how}"
        life.deaths += 1
        if _code_of(slot) not in self._proven and (life.why or life.deaths >= QUIET_DEATHS):
            return self._give_up(reason, now)
        return self._restart_later(slot, reason, now)

    def _restart_later(self, slot: Slot, reason: str, now: float) -> list[Instruction]:
        life = self._lives[slot]
        delay = min(FIRST_RESTART_DELAY_S * 2.0 ** min(life.deaths - 1, 30), MAX_RESTART_DELAY_S)
        life.state, life.until = SlotState.WAITING, now + delay
        return [Log("warning", f"{reason}; restart in {delay:g} s")]

    def _give_up(self, reason: str, now: float) -> list[Instruction]:
        text = f"the service could not be started: {reason}"
        return [Log("error", text), *self._stop(EXIT_NOT_STARTED, now)]

    def _tick(self, now: float) -> list[Instruction]:
        if self.stopping:
            return self._press_on(now) if now >= self._deadline else []
        done: list[Instruction] = []
        for slot, life in self._lives.items():
            if life.state is SlotState.WAITING and now >= life.until:
                done += self._start([slot], now)
            elif life.state is SlotState.STARTING and now >= life.until:
                life.until = float("inf")
                life.why = f"was not ready within {life.start_timeout:g} s (start_timeout)"
                done.append(Kill(slot))
            elif now >= life.drain_at:
                life.drain_at = float("inf")
                done.append(Terminate(slot))
        return done

    def _judge(self, slot: Slot, seconds: float, requests: str) -> list[Instruction]:
        """Kill a replica that computes a batch for too long.

        Usually the replica itself ends a forward at its limit; it cannot while its worker holds the
        interpreter's lock.
        """
        life, limit = self._lives[slot], (self.plan.limits or {}).get(slot, float("inf"))
        if seconds <= limit or life.state is not SlotState.READY or life.killed:
            return []
        whose = f" ({requests})" if requests else ""
        said = Log("error", f"{slot} computes one batch for {seconds:.1f} s and is killed{whose}")
        return [said, *self._kill([slot])]

    # -- stopping ------------------------------------------------------------------------------

    def _asked(self, slot: Slot, now: float) -> list[Instruction]:
        life = self._lives[slot]
        if life.state is SlotState.READY and life.drain_at == float("inf"):
            life.drain_at = now + SAME_SIGNAL_S
        return []  # while the service stops, it is ordered to drain anyway

    def _stop_asked(self, now: float) -> list[Instruction]:
        if not self.stopping:
            return [Log("info", "stopping; once more to stop at once"), *self._stop(EXIT_OK, now)]
        if now < self._stop_began + SAME_STOP_S:
            return []
        self._forced = True
        left = [slot for slot in self._running() if not self._lives[slot].killed]
        return [Log("warning", "stopping at once"), *self._kill(left)]

    def _stop(self, code: int, now: float) -> list[Instruction]:
        """Start stopping. Gateways first: they need the replicas to finish accepted requests."""
        self._exit_code, self._stop_began = code, now
        self._grace_end = self._deadline = now + self.plan.grace
        for life in self._lives.values():
            if life.state is SlotState.WAITING:
                life.state = SlotState.IDLE
        gateways = [slot for slot in self._running() if slot.is_gateway]
        asked: list[Instruction] = [Terminate(slot) for slot in gateways]
        return asked + self._close_http() + ([] if gateways else self._drain(now))

    def _ended(self, slot: Slot, code: int | None, signal: int, now: float) -> list[Instruction]:
        """Handle the end of a process while the service stops, and take the next step."""
        said: list[Instruction] = []
        expected = self._lives[slot].killed or self._lives[slot].why
        if (code or signal not in _STOP_SIGNALS) and not expected:
            said.append(Log("warning", f"{slot} {_how(code, signal)} while it was stopping"))
        said += self._close_http()
        if any(one.is_gateway for one in self._running()) or (self._draining and self._running()):
            return said
        return said + self._drain(now)

    def _close_http(self) -> list[Instruction]:
        """Close the port that the gateways share, once none of them accepts connections."""
        taking = [s for s in self._running() if s.is_gateway and not self._lives[s].closed]
        if not self._http_open or not self.stopping or taking:
            return []
        self._http_open = False
        return [CloseHttp()]

    def _drain(self, now: float) -> list[Instruction]:
        """Order every replica to drain; exit when none is left."""
        left = self._running()
        self._draining = True
        if not left:
            code = self._exit_code or (EXIT_FORCED if self._forced else EXIT_OK)
            return [Log("info", "stopped"), Exit(code)]
        self._deadline = max(self._grace_end, now + min(TERMINATE_GRACE_S, self.plan.grace))
        return [] if self._forced else [Terminate(slot) for slot in left]

    def _press_on(self, now: float) -> list[Instruction]:
        """Kill the processes whose grace is over, the gateways first."""
        gateways = [slot for slot in self._running() if slot.is_gateway]
        late = [slot for slot in gateways or self._running() if not self._lives[slot].killed]
        self._forced = self._forced or bool(late)
        self._deadline = float("inf")
        said = [Log("warning", f"{slot} did not stop in time and is killed") for slot in late]
        return [*said, *self._kill(late)]

    def _kill(self, slots: list[Slot]) -> list[Instruction]:
        for slot in slots:
            self._lives[slot].killed = True
        return [Kill(slot) for slot in slots]

    def _running(self) -> list[Slot]:
        alive = (SlotState.STARTING, SlotState.READY)
        return [slot for slot, life in self._lives.items() if life.state in alive]


def _how(code: int | None, signal: int) -> str:
    if code is None:
        return "is gone, its exit code is unknown"
    return f"was killed by signal {signal}" if signal else f"exited with code {code}"


def _meanwhile(exited: Exited, *, was_ready: bool) -> str:
    doing = exited.doing
    if was_ready:
        return f" while computing {doing}" if doing else ""
    return f" while starting{f', {doing}' if doing else ''}{_hint(exited.signal)}"


def _hint(signal: int) -> str:
    """Hint at the likely cause: if a starting process is killed, the kernel did it."""
    return "; out of memory? the kernel's log (dmesg) tells" if signal == _SIGKILL else ""


def _code_of(slot: Slot) -> str | Slot:
    """Return what a ready process proves to work: its stage's class, or a gateway's ports."""
    return slot if slot.is_gateway else slot.stage
