"""Each answer from 500 on leaves a line, and the same failure not without end."""

import logging
from types import SimpleNamespace

import pytest

from gateway.web.failure_log import FailureLog


@pytest.fixture
def rig():
    """A log of failures, a clock to set, and the calls that it wants later."""
    rig = SimpleNamespace(now=100.0, calls=[])
    rig.failures = FailureLog(lambda: rig.now, lambda *call: rig.calls.append(call))
    return rig


def lines(caplog):
    return [record.getMessage() for record in caplog.records]


def test_a_line_says_which_request_failed_where_and_why(rig, caplog):
    rig.failures.record(
        "server_error", "the worker failed", b"a-7", route="/inference", stage="embed", replica="3f"
    )
    (record,) = caplog.records
    assert record.getMessage() == (
        "request a-7 to /inference: 500 server_error, stage embed, replica 3f: the worker failed"
    )
    assert (record.levelno, record.request_id, record.status) == (logging.ERROR, "a-7", 500)
    assert (record.route, record.stage, record.replica) == ("/inference", "embed", "3f")


@pytest.mark.parametrize(
    ("code", "level"),
    [("lost", logging.ERROR), ("no_replica", logging.WARNING), ("draining", logging.INFO)],
)
def test_a_line_is_as_loud_as_what_it_says(rig, caplog, code, level):
    with caplog.at_level(logging.INFO):
        rig.failures.record(code, "why", b"1")
    assert [record.levelno for record in caplog.records] == [level]


def test_what_is_not_known_is_left_out(rig, caplog):
    rig.failures.record("deadline_exceeded", "the request's time is over", None)
    rig.failures.record("", "the worker chose this status", b"x", status=503)
    assert lines(caplog) == [
        "request -: 504 deadline_exceeded: the request's time is over",
        "request x: 503: the worker chose this status",
    ]
    assert not hasattr(caplog.records[0], "stage")


@pytest.mark.parametrize(
    ("code", "level"),
    [("lost", logging.ERROR), ("no_replica", logging.WARNING), ("draining", logging.INFO)],
)
def test_how_many_more_there_were_is_as_loud_as_the_lines(rig, caplog, code, level):
    with caplog.at_level(logging.INFO):
        for _ in range(12):
            rig.failures.record(code, "why", b"1", stage="embed")
        rig.failures.close()
    assert caplog.records[-1].getMessage().startswith("and 2 more: ")
    assert caplog.records[-1].levelno == level


def test_failures_that_nobody_counted_apart_are_errors(rig, caplog):
    for number in range(2000):
        rig.failures.record("no_replica", f"why {chr(97 + number % 26) * (number // 26 + 1)}", b"1")
    rig.failures.close()
    assert caplog.records[-1].getMessage().endswith("failures of other kinds")
    assert caplog.records[-1].levelno == logging.ERROR


@pytest.mark.parametrize("code", ["overloaded", "bad_request", "validation_error", "not_found"])
def test_what_clients_did_leaves_none(rig, caplog, code):
    rig.failures.record(code, "no", b"1")
    assert lines(caplog) == []


def test_the_same_failure_leaves_ten_and_then_a_number(rig, caplog):
    for number in range(845):
        rig.failures.record("lost", f"{number} replicas were lost", b"1", stage="a")
    rig.failures.record("lost", "another reason", b"1", stage="a")
    assert len(lines(caplog)) == 11
    ((after, call),) = rig.calls
    assert after == 60.0
    rig.now += 60.0
    call()
    assert lines(caplog)[11:] == ["and 835 more: 502 lost, stage a: N replicas were lost"]
    assert len(rig.calls) == 1


def test_what_began_later_is_told_later(rig, caplog):
    for stage in "ab":
        for _ in range(11):
            rig.failures.record("lost", "gone", b"1", stage=stage)
        rig.now += 30.0
    rig.calls.pop()[1]()
    assert rig.calls.pop()[0] == 30.0
    rig.failures.close()
    assert [line for line in lines(caplog) if line.startswith("and")] == [
        "and 1 more: 502 lost, stage a: gone",
        "and 1 more: 502 lost, stage b: gone",
    ]


def test_without_a_timer_it_is_told_with_the_next_line(caplog):
    now = [0.0]
    failures = FailureLog(lambda: now[0])
    for _ in range(11):
        failures.record("lost", "gone", b"1")
    now[0] = 60.0
    failures.record("lost", "gone", b"2")
    assert lines(caplog)[10:] == ["and 1 more: 502 lost: gone", "request 2: 502 lost: gone"]
