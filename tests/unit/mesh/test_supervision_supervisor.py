"""What the supervisor decides, without a process in sight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.supervision.events import (
    GATEWAY,
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
    Tick,
)
from mesh.supervision.supervisor import SlotState, Supervisor

ONE, TWO = Slot("embed", 1), Slot("embed", 2)
SIBLING = Slot("", 2)
ALL = {GATEWAY: 10.0, ONE: 60.0, TWO: 60.0}


def acts(supervisor: Supervisor, event: Event, now: float = 0.0) -> list[Instruction]:
    """What is to be done, without what is only to be said."""
    return [one for one in supervisor.handle(event, now) if not isinstance(one, Log)]


def said(supervisor: Supervisor, event: Event, now: float = 0.0) -> str:
    lines = supervisor.handle(event, now)
    return "\n".join(one.text for one in lines if isinstance(one, Log))


def running(slots: dict[Slot, float] = ALL) -> Supervisor:
    """Everything is up since 0.0."""
    supervisor = Supervisor(ProcessPlan(slots, grace=8.0))
    acts(supervisor, Begin())
    for slot in slots:
        acts(supervisor, Ready(slot))
    return supervisor


def test_everything_starts_at_once() -> None:
    supervisor = Supervisor(ProcessPlan(ALL, grace=8.0))
    assert acts(supervisor, Begin()) == [Start(GATEWAY), Start(ONE), Start(TWO)]
    assert supervisor.next_due() == 10.0
    assert acts(supervisor, Bound(GATEWAY)) == []


def test_replicas_wait_for_a_gateway_whose_port_is_not_known() -> None:
    supervisor = Supervisor(ProcessPlan(ALL, grace=8.0, gateway_first=True))
    assert acts(supervisor, Begin()) == [Start(GATEWAY)]
    assert acts(supervisor, Bound(GATEWAY), 1.0) == [Start(ONE), Start(TWO)]
    assert acts(supervisor, Bound(GATEWAY), 2.0) == []


def test_replicas_wait_until_every_gateway_has_its_port() -> None:
    supervisor = Supervisor(ProcessPlan({GATEWAY: 10.0, SIBLING: 10.0, ONE: 60.0}, 8.0, True))
    assert acts(supervisor, Begin()) == [Start(GATEWAY), Start(SIBLING)]
    assert acts(supervisor, Bound(GATEWAY), 1.0) == []
    acts(supervisor, Exited(GATEWAY, 1), 1.1)
    assert acts(supervisor, Tick(), 1.25) == [Start(GATEWAY)]
    assert acts(supervisor, Bound(GATEWAY), 1.3) == []
    assert acts(supervisor, Bound(SIBLING), 2.0) == [Start(ONE)]


def test_a_gateway_whose_port_is_taken_ends_the_start_although_its_sibling_is_ready() -> None:
    supervisor = Supervisor(ProcessPlan({GATEWAY: 10.0, SIBLING: 10.0}, 8.0))
    acts(supervisor, Begin())
    acts(supervisor, Ready(GATEWAY), 1.0)
    acts(supervisor, Failed(SIBLING, "cannot listen at tcp://127.0.0.1:7001"), 1.1)
    assert acts(supervisor, Exited(SIBLING, 3), 1.2) == [Terminate(GATEWAY)]
    assert acts(supervisor, Exited(GATEWAY, 0), 1.3) == [CloseHttp(), Exit(3)]


def test_the_port_is_closed_when_no_gateway_takes_connections_any_more() -> None:
    supervisor = running({GATEWAY: 10.0, SIBLING: 10.0, ONE: 60.0})
    assert acts(supervisor, Stop(), 1.0) == [Terminate(GATEWAY), Terminate(SIBLING)]
    assert acts(supervisor, Closed(SIBLING), 1.1) == []
    assert acts(supervisor, Closed(GATEWAY), 1.2) == [CloseHttp()]
    assert acts(supervisor, Exited(SIBLING, 0), 1.3) == []
    assert acts(supervisor, Exited(GATEWAY, 0), 1.4) == [Terminate(ONE)]


def test_the_port_stays_open_for_the_successor_of_a_gateway_that_closed_by_itself() -> None:
    supervisor = running({GATEWAY: 10.0})
    assert acts(supervisor, Closed(GATEWAY), 1.0) == []
    acts(supervisor, Exited(GATEWAY, 0), 1.1)
    acts(supervisor, Tick(), 1.3)
    acts(supervisor, Ready(GATEWAY), 1.4)
    assert acts(supervisor, Stop(), 2.0) == [Terminate(GATEWAY)]
    assert acts(supervisor, Closed(GATEWAY), 2.1) == [CloseHttp()]


def test_the_port_is_closed_at_once_where_no_gateway_runs() -> None:
    supervisor = running({GATEWAY: 10.0, ONE: 60.0})
    acts(supervisor, Exited(GATEWAY, 0, 9), 1.0)
    assert acts(supervisor, Stop(), 1.01) == [CloseHttp(), Terminate(ONE)]


def test_names() -> None:
    assert [str(GATEWAY), str(Slot("", 2)), str(TWO)] == ["gateway", "gateway/2", "embed/2"]


def test_it_is_announced_once_that_all_are_ready() -> None:
    supervisor = Supervisor(ProcessPlan({GATEWAY: 10.0, ONE: 60.0}, grace=8.0))
    acts(supervisor, Begin())
    assert "embed/1 is ready after 1.5 s" in said(supervisor, Ready(ONE), 1.5)
    assert acts(supervisor, Ready(GATEWAY), 2.0) == [Announce()]
    assert acts(supervisor, Ready(GATEWAY), 2.0) == []
    acts(supervisor, Exited(ONE, 1), 3.0)
    acts(supervisor, Tick(), 4.0)
    assert acts(supervisor, Ready(ONE), 5.0) == []
    assert set(supervisor.states().values()) == {SlotState.READY}


def test_a_crash_is_followed_by_a_restart_that_comes_later_each_time() -> None:
    supervisor, now, waits = running(), 0.0, []
    for _ in range(9):
        assert acts(supervisor, Exited(ONE, 0, signal=9), now) == []
        waits.append(round(supervisor.next_due() - now, 3))
        assert acts(supervisor, Tick(), now) == []
        now = supervisor.next_due()
        assert acts(supervisor, Tick(), now) == [Start(ONE)]
        acts(supervisor, Ready(ONE), now)
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_a_long_life_ends_the_back_off() -> None:
    supervisor = running()
    for now in (1.0, 2.0, 3.0):
        acts(supervisor, Exited(ONE, 1), now)
        acts(supervisor, Tick(), supervisor.next_due())
        acts(supervisor, Ready(ONE), supervisor.next_due())
    acts(supervisor, Exited(ONE, 1), 100.0)
    assert supervisor.next_due() == pytest.approx(100.1)


def test_years_of_crashes_are_no_trouble() -> None:
    supervisor, now = running(), 0.0
    for _ in range(2000):
        acts(supervisor, Exited(ONE, 1), now)
        now = supervisor.next_due()
        acts(supervisor, Tick(), now)
    assert acts(supervisor, Ready(ONE), now) == []


def test_what_is_said_of_a_death() -> None:
    supervisor = running()
    assert (
        said(supervisor, Exited(ONE, 0, 11)) == "embed/1 was killed by signal 11; restart in 0.1 s"
    )
    assert said(supervisor, Exited(GATEWAY, 1)) == "gateway exited with code 1; restart in 0.1 s"


def test_a_worker_that_cannot_be_made_ends_the_service() -> None:
    supervisor = Supervisor(ProcessPlan(ALL, grace=8.0))
    acts(supervisor, Begin())
    acts(supervisor, Ready(GATEWAY))
    assert acts(supervisor, Failed(ONE, "no module torch")) == []
    done = supervisor.handle(Exited(ONE, 3), 1.0)
    assert done == [
        Log("error", "the service could not be started: embed/1: no module torch"),
        Terminate(GATEWAY),
    ]
    assert supervisor.stopping
    # Its sibling has the same to say, but once is enough.
    assert acts(supervisor, Failed(TWO, "no module torch")) == []
    assert supervisor.handle(Exited(TWO, 3), 1.1) == []
    assert acts(supervisor, Exited(GATEWAY, 0), 1.2) == [CloseHttp(), Exit(3)]


def test_whoever_is_killed_while_it_loads_may_have_run_out_of_memory() -> None:
    supervisor = Supervisor(ProcessPlan(ALL, grace=8.0))
    acts(supervisor, Begin())
    assert said(supervisor, Exited(ONE, 0, 9), 1.0) == (
        "embed/1 was killed by signal 9 while starting; "
        "out of memory? the kernel's log (dmesg) tells; restart in 0.1 s"
    )


def test_a_stage_that_was_ready_once_is_tried_again() -> None:
    supervisor = running()
    acts(supervisor, Exited(TWO, 1), 1.0)
    acts(supervisor, Tick(), 2.0)
    acts(supervisor, Failed(TWO, "no gpu"))
    assert said(supervisor, Exited(TWO, 3), 3.0) == "embed/2: no gpu; restart in 0.2 s"
    assert not supervisor.stopping


def test_silent_deaths_while_starting_are_tried_thrice() -> None:
    supervisor = Supervisor(ProcessPlan({ONE: 60.0}, grace=8.0))
    acts(supervisor, Begin())
    assert "exited with code 1 while starting; restart" in said(supervisor, Exited(ONE, 1))
    acts(supervisor, Tick(), 1.0)
    acts(supervisor, Exited(ONE, 1), 1.0)
    acts(supervisor, Tick(), 2.0)
    assert acts(supervisor, Exited(ONE, 1), 2.0) == [Exit(3)]


def test_a_start_that_takes_too_long_is_ended() -> None:
    supervisor = Supervisor(ProcessPlan({ONE: 60.0}, grace=8.0))
    acts(supervisor, Begin())
    assert acts(supervisor, Tick(), 59.0) == []
    assert acts(supervisor, Tick(), 60.0) == [Kill(ONE)]
    assert acts(supervisor, Tick(), 61.0) == []
    assert "not ready within 60 s" in said(supervisor, Exited(ONE, 0, 9), 61.0)


def test_a_gateway_that_waits_for_replicas_is_not_late() -> None:
    supervisor = Supervisor(ProcessPlan(ALL, grace=8.0))
    acts(supervisor, Begin())
    acts(supervisor, Bound(GATEWAY), 1.0)
    assert acts(supervisor, Tick(), 11.0) == []
    assert supervisor.next_due() == 60.0
    acts(supervisor, Ready(GATEWAY), 12.0)
    acts(supervisor, Bound(GATEWAY), 13.0)
    assert supervisor.states()[GATEWAY] is SlotState.READY


def test_an_orderly_end_is_the_gateway_first() -> None:
    supervisor = running()
    assert acts(supervisor, Stop(), 10.0) == [Terminate(GATEWAY)]
    assert supervisor.next_due() == 18.0
    assert acts(supervisor, Tick(), 11.0) == []
    ended = acts(supervisor, Exited(GATEWAY, 0), 12.0)
    assert ended == [CloseHttp(), Terminate(ONE), Terminate(TWO)]
    assert acts(supervisor, Exited(ONE, 0), 13.0) == []
    assert acts(supervisor, Exited(TWO, 0, 15), 13.0) == [Exit(0)]


def test_a_replica_that_ends_before_the_gateway_changes_nothing() -> None:
    supervisor = running()
    acts(supervisor, Stop(), 10.0)
    assert (
        said(supervisor, Exited(ONE, 1), 11.0) == "embed/1 exited with code 1 while it was stopping"
    )
    assert acts(supervisor, Exited(GATEWAY, 0), 12.0) == [CloseHttp(), Terminate(TWO)]


def test_replicas_alone_are_drained_at_once() -> None:
    supervisor = running({ONE: 60.0})
    assert acts(supervisor, Stop(), 10.0) == [Terminate(ONE)]
    assert acts(supervisor, Exited(ONE, 0), 11.0) == [Exit(0)]


def test_whoever_does_not_stop_is_killed() -> None:
    supervisor = running()
    acts(supervisor, Stop(), 10.0)
    assert acts(supervisor, Tick(), 18.0) == [Kill(GATEWAY)]
    assert supervisor.next_due() == float("inf")
    assert acts(supervisor, Exited(GATEWAY, 0, 9), 18.1) == [CloseHttp()]
    assert supervisor.next_due() == pytest.approx(19.1)
    assert acts(supervisor, Tick(), 19.2) == [Kill(ONE), Kill(TWO)]
    acts(supervisor, Exited(ONE, 0, 9), 19.3)
    assert acts(supervisor, Exited(TWO, 0, 9), 19.3) == [Exit(1)]


def test_a_second_signal_ends_all_at_once() -> None:
    supervisor = running()
    acts(supervisor, Stop(), 10.0)
    assert acts(supervisor, Stop(), 11.0) == [Kill(GATEWAY), Kill(ONE), Kill(TWO)]
    assert acts(supervisor, Stop(), 11.2) == []
    acts(supervisor, Exited(ONE, 0, 9), 11.3)
    acts(supervisor, Exited(GATEWAY, 0, 9), 11.3)
    assert acts(supervisor, Exited(TWO, 0, 9), 11.3) == [Exit(1)]


def test_signals_that_come_together_are_one() -> None:
    supervisor = running()
    acts(supervisor, Stop(), 10.0)
    assert supervisor.handle(Stop(), 10.9) == []
    assert acts(supervisor, Exited(GATEWAY, 0), 12.0) == [
        CloseHttp(),
        Terminate(ONE),
        Terminate(TWO),
    ]


def test_a_replica_that_was_sent_a_signal_alone_drains_after_a_moment() -> None:
    supervisor = running()
    assert acts(supervisor, Asked(ONE), 10.0) == []
    assert supervisor.next_due() == 10.2
    assert acts(supervisor, Asked(ONE), 10.1) == []
    assert acts(supervisor, Tick(), 10.1) == []
    assert acts(supervisor, Tick(), 10.2) == [Terminate(ONE)]
    assert supervisor.next_due() == float("inf")
    assert said(supervisor, Exited(ONE, 0), 11.0) == "embed/1 exited with code 0; restart in 0.1 s"


def test_a_replica_that_was_sent_a_signal_and_ends_by_itself_is_started_again() -> None:
    supervisor = running()
    acts(supervisor, Asked(ONE), 10.0)
    assert acts(supervisor, Exited(ONE, 0, 15), 10.05) == []
    assert acts(supervisor, Tick(), 10.2) == [Start(ONE)]
    assert acts(supervisor, Asked(ONE), 10.3) == []  # it is not ready: the signal itself ends it
    assert supervisor.next_due() == 70.2


def test_a_signal_to_all_is_one_stop_in_order_whoever_has_it_first() -> None:
    supervisor = running()
    acts(supervisor, Asked(ONE), 10.0)
    assert acts(supervisor, Stop(), 10.1) == [Terminate(GATEWAY)]
    assert acts(supervisor, Asked(TWO), 10.1) == []
    assert acts(supervisor, Tick(), 10.4) == []
    assert acts(supervisor, Exited(GATEWAY, 0), 11.0) == [
        CloseHttp(),
        Terminate(ONE),
        Terminate(TWO),
    ]


def test_a_death_without_a_code() -> None:
    supervisor = running()
    gone = "embed/1 is gone, its exit code is unknown; restart in 0.1 s"
    assert said(supervisor, Exited(ONE, None), 1.0) == gone
    acts(supervisor, Stop(), 2.0)
    assert said(supervisor, Exited(TWO, None), 2.5) == ""  # in order, for all that is known


def test_what_waits_for_its_restart_is_not_started_any_more() -> None:
    supervisor = running({ONE: 60.0, TWO: 60.0})
    acts(supervisor, Exited(ONE, 1), 1.0)
    assert acts(supervisor, Stop(), 1.01) == [Terminate(TWO)]
    assert acts(supervisor, Tick(), 5.0) == []
    assert acts(supervisor, Exited(TWO, 0), 5.0) == [Exit(0)]


def test_the_end_before_the_gateway_was_bound() -> None:
    supervisor = Supervisor(ProcessPlan(ALL, grace=8.0, gateway_first=True))
    acts(supervisor, Begin())
    assert acts(supervisor, Stop()) == [Terminate(GATEWAY)]
    assert acts(supervisor, Bound(GATEWAY)) == []
    assert acts(supervisor, Exited(GATEWAY, 0)) == [CloseHttp(), Exit(0)]


def test_nothing_to_run_ends_at_once() -> None:
    assert acts(Supervisor(ProcessPlan({}, grace=8.0)), Stop()) == [Exit(0)]
    assert Supervisor(ProcessPlan({}, grace=8.0)).next_due() == float("inf")


class MadeUp:
    """A shell without processes: follows every order and checks that it makes sense."""

    def __init__(self) -> None:
        self.supervisor = Supervisor(ProcessPlan(ALL, grace=8.0))
        self.alive: set[Slot] = set()
        self.exits: list[int] = []
        self.now = 0.0

    def feed(self, event: Event) -> None:
        for one in self.supervisor.handle(event, self.now):
            match one:
                case Start(slot):
                    assert slot not in self.alive
                    self.alive.add(slot)
                case Kill(slot) | Terminate(slot):
                    assert slot in self.alive
                case Exit(code):
                    assert not self.alive
                    self.exits.append(code)

    def die(self, slot: Slot, code: int, signal: int = 0) -> None:
        if slot in self.alive:
            self.alive.discard(slot)
            self.feed(Exited(slot, code, signal))

    def happen(self, what: str, slot: Slot) -> None:
        if what == "crash":
            self.die(slot, 1)
        elif what == "kill":
            self.die(slot, 0, 9)
        elif what in ("stop", "tick"):
            self.feed(Stop() if what == "stop" else Tick())
        elif slot in self.alive:
            self.feed(TOLD[what](slot))


TOLD = {"ready": Ready, "asked": Asked, "failed": lambda slot: Failed(slot, "why")}
HAPPENINGS = st.sampled_from([*TOLD, "crash", "kill", "stop", "tick"])


@given(st.lists(st.tuples(st.sampled_from(list(ALL)), HAPPENINGS, st.floats(0, 30))))
def test_whatever_happens_the_end_comes_once_and_leaves_nothing(
    story: list[tuple[Slot, str, float]],
) -> None:
    shell = MadeUp()
    shell.feed(Begin())
    for slot, what, pause in story:
        shell.now += pause
        if not shell.exits:
            shell.happen(what, slot)
    if not shell.exits:
        shell.feed(Stop())
    for slot in ALL:
        shell.die(slot, 0, 15)
    assert len(shell.exits) == 1


def test_a_batch_that_is_computed_for_too_long_is_the_end_of_its_replica() -> None:
    supervisor = Supervisor(ProcessPlan(ALL, grace=8.0, limits={ONE: 5.0}))
    acts(supervisor, Begin())
    assert acts(supervisor, Computes(ONE, 8.0), 9.0) == []  # not ready: an old record
    acts(supervisor, Ready(ONE))
    acts(supervisor, Ready(TWO))
    assert acts(supervisor, Computes(ONE, 5.0), 9.0) == []
    assert acts(supervisor, Computes(TWO, 9.0), 9.0) == []  # it has no limit
    assert acts(supervisor, Computes(ONE, 5.1), 9.0) == [Kill(ONE)]
    assert acts(supervisor, Computes(ONE, 6.1), 10.0) == []


def test_what_a_process_did_when_it_died_is_told() -> None:
    supervisor = Supervisor(ProcessPlan(ALL, grace=8.0, limits={ONE: 5.0}))
    said = lambda event: [one.text for one in supervisor.handle(event, 1.0) if type(one) is Log]  # noqa: E731
    acts(supervisor, Begin())
    (text,) = said(Exited(ONE, 0, 11, "in example 1 of 2"))
    assert text.startswith("embed/1 was killed by signal 11 while starting, in example 1 of 2; res")
    acts(supervisor, Tick(), 99.0)
    acts(supervisor, Ready(ONE), 99.0)
    (text,) = said(Computes(ONE, 5.1, "request a-7"))
    assert text == "embed/1 computes one batch for 5.1 s and is killed (request a-7)"
    (text,) = said(Exited(ONE, 0, 9, "request a-7"))
    assert text.startswith("embed/1 was killed by signal 9 while computing request a-7; restart")
