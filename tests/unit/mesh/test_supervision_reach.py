"""When people are told that no gateway is reached."""

from __future__ import annotations

from mesh.supervision.reach import (
    DIAGNOSIS_S,
    FIRST_REPORT_S,
    REFUSED_S,
    REPORT_INTERVAL_S,
    GatewayReach,
    ReachStep,
    Unanswered,
)


def told(
    reach: GatewayReach, connected: bool, start: float, end: float, known: bool = True
) -> list[str]:
    """What is to be done in these seconds, looked at every tenth; who asks is answered at once."""
    found = []
    for tenth in range(round(start * 10), round(end * 10)):
        while (step := reach.look(connected, tenth / 10)) is not None:
            found.append(f"{step.name} {tenth / 10:g}")
            if step is ReachStep.ASK and known:
                reach.answered()
    return found


def begun(greets: bool = False) -> GatewayReach:
    reach = GatewayReach(greets)
    reach.begin(0.0)
    return reach


def test_nothing_is_said_before_it_is_known_where_gateways_are() -> None:
    reach = GatewayReach()
    assert told(reach, False, 0.0, 30.0) == []
    assert reach.next_due() == float("inf")


def test_it_is_said_at_once_and_every_ten_seconds() -> None:
    reach = begun()
    assert reach.next_due() == FIRST_REPORT_S
    assert told(reach, False, 0.0, 25.0) == [
        *("ASK 0.6", "SAY 0.6"),
        *("ASK 10.6", "SAY 10.6"),
        *("ASK 20.6", "SAY 20.6"),
    ]
    assert FIRST_REPORT_S + DIAGNOSIS_S < 1.0
    reach.begin(25.0)
    assert reach.next_due() == 20.6 + REPORT_INTERVAL_S


def test_it_does_not_wait_long_for_the_reason() -> None:
    assert told(begun(), False, 0.0, 2.0, known=False) == ["ASK 0.6", "SAY 0.9"]


def test_an_answer_that_nobody_awaits_changes_nothing() -> None:
    reach = begun()
    reach.answered()
    assert reach.next_due() == FIRST_REPORT_S


def test_a_gateway_that_comes_soon_is_ordinary() -> None:
    reach = begun()
    assert told(reach, False, 0.0, 0.5) == []
    assert told(reach, True, 0.5, 30.0) == []
    assert reach.next_due() == float("inf")


def test_where_it_is_far_the_first_connection_is_said() -> None:
    reach = begun(greets=True)
    assert told(reach, True, 0.0, 5.0) == ["MET 0"]
    assert told(reach, False, 5.0, 5.5) == []
    assert told(reach, True, 5.5, 9.0) == []


def test_after_it_was_said_the_connection_is_said_as_well() -> None:
    reach = begun()
    told(reach, False, 0.0, 3.0)
    assert told(reach, True, 3.0, 20.0) == ["MET 3"]
    assert told(reach, False, 20.0, 22.0) == ["ASK 20.6", "SAY 20.6"]
    assert told(reach, True, 22.0, 23.0) == ["MET 22"]


def test_one_that_comes_and_goes_makes_no_more_lines() -> None:
    reach = begun()
    assert told(reach, False, 0.0, 1.0) == ["ASK 0.6", "SAY 0.6"]
    for second in range(1, 10):
        told(reach, True, second, second + 0.1)
        assert told(reach, False, second + 0.1, second + 1) == []
    assert told(reach, False, 10.0, 11.0) == ["ASK 10.6", "SAY 10.6"]


def test_what_was_asked_is_forgotten_when_one_is_reached() -> None:
    reach = begun()
    assert told(reach, False, 0.0, 0.7, known=False) == ["ASK 0.6"]
    assert told(reach, True, 0.7, 1.0) == []
    reach.answered()
    assert told(reach, False, 1.0, 2.0) == ["ASK 1.6", "SAY 1.6"]


def test_refused_replicas_are_said_where_the_host_is_connected() -> None:
    reach = begun()
    assert not reach.may_say_refused("a", 0.1)
    reach.look(True, 0.2)
    assert reach.may_say_refused("a", 0.3)
    assert not reach.may_say_refused("a", REFUSED_S)
    assert reach.may_say_refused("b", 1.0)
    assert reach.may_say_refused("a", 0.3 + REFUSED_S)


def test_who_is_left_unanswered_twice_in_a_row_is_refused() -> None:
    """The first time it may have begun before the gateway was there."""
    unanswered = Unanswered()
    assert not unanswered.is_refused("embed/1", "a", ["a"])
    assert not unanswered.is_refused("embed/2", "a", ["a"])
    assert not unanswered.is_refused("embed/1", "b", ["a", "b"])
    assert unanswered.is_refused("embed/1", "a", ["a"])


def test_nobody_is_refused_by_a_gateway_that_this_host_does_not_reach() -> None:
    unanswered = Unanswered()
    assert not unanswered.is_refused("embed/1", "a", [])
    assert not unanswered.is_refused("embed/1", "a", ["a"])
    assert not unanswered.is_refused("embed/1", "a", ["b"])
    assert not unanswered.is_refused("embed/1", "a", ["a"])


def test_a_gateway_that_was_away_begins_anew() -> None:
    unanswered = Unanswered()
    unanswered.keep(["b"])
    unanswered.is_refused("embed/1", "a", ["a"])
    unanswered.keep(["b"])
    assert not unanswered.is_refused("embed/1", "a", ["a"])
    unanswered.keep(["a"])
    assert unanswered.is_refused("embed/1", "a", ["a"])
