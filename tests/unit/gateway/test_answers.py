"""From the core to HTTP: how requests that ended are answered and logged."""

import json

import pytest
from inference_rig import NOW, PATH, InferenceRig, facts, fill, move, replica

from mesh.links.events import Delivery, SessionLost
from mesh.protocol.messages import Outcome, OutcomeKind, Outcomes
from mesh.protocol.request_names import namer


@pytest.fixture
def rig():
    return InferenceRig()


def test_a_result(rig):
    exchange = rig.submit(b'{"x": 1}')
    request = exchange.request
    assert (request.hops, request.deadline, request.buffers) == (PATH, NOW + 3, [b'{"x": 1}'])
    assert (request.nbytes, request.meta, rig.woken) == (8, None, 1)
    assert (rig.admission.inside, rig.admission.nbytes) == (1, 8)
    timings = (100, 2000, 300, 4000)
    status, headers, body = rig.end(exchange, buffers=[b"[1]"], timings=timings)
    assert (status, body, headers["X-Request-ID"]) == (200, b"[1]", namer(0xABC)(1).decode())
    assert headers["Content-Type"] == "application/json"
    assert "a;dur=2.00" in headers["Server-Timing"]
    assert "b;dur=4.00" in headers["Server-Timing"]
    assert (rig.admission.inside, rig.admission.nbytes) == (0, 0)
    assert rig.service.answers.answered == {(200, "/inference"): 1}
    assert rig.service.answers.durations == [1.0]
    assert (exchange.request, request.origin) == (None, exchange)  # no cycle is left to collect


def test_a_large_result_is_not_copied_behind_its_head(rig):
    exchange = rig.submit()
    status, _, body = rig.end(exchange, buffers=[bytes(70_000), b"x"])
    assert (status, len(body)) == (200, 70_001)


def test_a_worker_may_choose_status_type_and_headers(rig):
    more = {"label": "text/csv", "status": 201, "headers": (("X-Rows", "3"),)}
    status, headers, body = rig.end(rig.submit(), buffers=[b"1,2"], **more)
    assert (status, headers["Content-Type"], headers["X-Rows"], body) == (
        201,
        "text/csv",
        "3",
        b"1,2",
    )
    assert rig.service.answers.answered == {(201, "/inference"): 1}


def test_an_answer_without_a_body(rig):
    status, _, body = rig.end(rig.submit(), buffers=[b""], status=204)
    assert (status, body) == (204, b"")


def test_headers_that_are_none_cost_the_answer_not_the_gateway(rig):
    status, _, body = rig.end(rig.submit(), buffers=[b"1"], headers=(("X\r\nY", "3"),))
    assert status == 500
    assert json.loads(body)["error"]["code"] == "encoding_error"


def test_a_failure_names_its_stage(rig):
    more = {"label": "validation_error", "text": "no", "timings": (100, 2000)}
    status, headers, body = rig.end(rig.submit(), OutcomeKind.FAILURE, hop=0, **more)
    error = json.loads(body)["error"]
    assert (status, error["code"], error["message"]) == (422, "validation_error", "no")
    assert (error["stage"], error["request_id"]) == ("a", namer(0xABC)(1).decode())
    assert "a;dur=2.00" in headers["Server-Timing"]
    status, headers, body = rig.end(rig.submit(), OutcomeKind.FAILURE, label="lost", hop=7)
    assert (status, json.loads(body)["error"]["stage"]) == (502, None)
    assert "Server-Timing" not in headers


def test_a_failure_may_have_a_code_and_status_of_the_workers_own(rig):
    own = {"label": "quota_exceeded", "text": "no", "status": 429}
    later = (("Retry-After", "60"),)
    status, headers, body = rig.end(rig.submit(), OutcomeKind.FAILURE, headers=later, **own)
    error = json.loads(body)["error"]
    assert (status, error["code"], error["retryable"]) == (429, "quota_exceeded", True)
    assert headers["Retry-After"] == "60"
    assert rig.service.answers.answered[429, "/inference"] == 1
    status, _, body = rig.end(rig.submit(), OutcomeKind.FAILURE, headers=(("X\r\nY", "3"),), **own)
    assert (status, json.loads(body)["error"]["code"]) == (500, "server_error")


# --- who may enter --------------------------------------------------------------------------------


def test_what_leaves_under_load_tells_the_rate():
    rig = InferenceRig(capacity=1000)
    rig.service._clock = rig.service.answers._clock = lambda: clock
    requests = fill(rig, 100, rate=0.0)
    for number, exchange in enumerate(requests[:60]):
        clock = NOW + number / 40
        rig.hear(Outcome(exchange.request.number, 1, OutcomeKind.RESULT, 1, buffers=[b"1"]))
        rig.service.answers.write(rig.core.take_ended())
    assert rig.admission.rate == pytest.approx(40)
    rate = rig.admission.rate
    for exchange in requests[60:]:  # what was not served does not count
        rig.core._fail(exchange.request, "deadline_exceeded", "late")
        rig.service.answers.write(rig.core.take_ended())
    assert (rig.admission.inside, rig.admission.rate) == (0, rate)


def test_where_another_route_is_crowded_a_calm_one_learns_no_rate(rig):
    exchange = rig.submit()
    rig.core.queues.withdraw(exchange.request, exchange.request.at)
    rig.core.queues.crowded.add(("other", ""))
    rig.end(exchange, buffers=[b"1"])
    assert rig.admission.rate == 0.0


def test_an_answer_that_cannot_be_given_costs_no_other(caplog):
    rig = InferenceRig()
    ones = [rig.submit(), rig.submit()]
    write, writes = rig.wire.write, iter([lambda _: 1 / 0])
    rig.wire.write = lambda piece: next(writes, write)(piece)
    for exchange in ones:
        rig.hear(Outcome(exchange.request.number, 1, OutcomeKind.RESULT, 1, buffers=[b"{}"]))
    rig.service.answers.write(rig.core.take_ended())
    assert rig.admission.inside == 0
    assert rig.service.answers.answered == {(500, "/inference"): 1, (200, "/inference"): 1}
    assert "ZeroDivisionError" in caplog.text
    assert len(rig.wire.answers()) == 2


def test_results_of_a_former_version_are_what_it_said(rig):
    rig.learn({PATH[1]: facts("b")})
    exchange = rig.submit()
    rig.core.queues.withdraw(exchange.request, exchange.request.at)  # a replica has it
    move(rig)
    status, headers, _ = rig.end(exchange, buffers=[b"[1]"])
    assert (status, headers["Content-Type"]) == (200, "application/json")


def test_a_content_type_that_is_none_is_not_repeated_in_an_answer(rig):
    rig.core.replicas.facts[PATH[1]] = facts("b", content_type="a\r\nX: y")
    assert rig.service.answers.content_type(PATH, b"text/plain") == b"text/plain"
    rig.core.replicas.facts.clear()
    assert rig.service.answers.content_type(PATH, b"text/plain") == b"text/plain"


def test_what_a_replica_fails_leaves_a_line_that_names_it(rig, caplog):
    session = replica(rig)
    exchange = rig.exchange()
    exchange.request_id = b"mine"
    rig.service.submit(exchange)
    exchange.request.holder = session.peer
    failure = Outcome(1, 1, OutcomeKind.FAILURE, label="server_error", text="the worker failed")
    rig.core.delivered(Delivery(session, (), Outcomes([failure])), NOW)
    rig.service.answers.write(rig.core.take_ended())
    assert rig.refused()[0] == 500
    assert caplog.messages == [
        "request mine to /inference: 500 server_error, stage a, "
        "replica 000000000000003f (gpu-1, pid 812): the worker failed"
    ]


def test_a_request_that_is_lost_names_the_replica_that_is_gone(rig, caplog):
    session = replica(rig)
    exchange = rig.submit()
    rig.core.in_flight.assign([exchange.request], session.peer)
    exchange.request.deaths = 2
    del rig.core.links.sessions[session.peer]
    rig.core.handle_news(SessionLost(session, "its link closed"), NOW)
    rig.service.answers.write(rig.core.take_ended())
    assert rig.refused()[1]["code"] == "lost"
    assert "502 lost, stage a, replica 000000000000003f (gpu-1, pid 812): 3 replicas" in caplog.text


def test_what_the_gateway_gives_up_leaves_a_line_and_what_clients_did_none(rig, caplog):
    rig.end(rig.submit(), OutcomeKind.FAILURE, label="deadline_exceeded", text="over", hop=0)
    rig.end(rig.submit(), OutcomeKind.FAILURE, label="bad_request", text="no", hop=0)
    rig.end(rig.submit(), OutcomeKind.RESULT, status=503, buffers=[b"busy"])
    rig.end(rig.submit(), OutcomeKind.RESULT, status=700)
    caplog.set_level("INFO")
    rig.service.draining = True
    rig.submit()
    assert rig.refused()[0] == 503
    assert [line.partition(" to ")[2] for line in caplog.messages] == [
        "/inference: 504 deadline_exceeded, stage a: over",
        "/inference: 503, stage b: the worker chose this status in a Reply",
        "/inference: 500 encoding_error, stage b: "
        "a worker chose the status 700; choose one from 200 to 599",
        "/inference: 503 draining: this gateway is stopping",  # this one is no fault: info
    ]


def test_the_line_of_a_failure_says_what_was_raised(rig, caplog):
    for text, raised in (
        ("the worker failed", [b"ValueError: boom"]),
        ("out of memory", [b"ServerError: out of memory", b"Traceback"]),
        ("over", [b""]),
    ):
        rig.end(
            rig.submit(),
            OutcomeKind.FAILURE,
            label="server_error",
            text=text,
            buffers=raised,
            hop=0,
        )
    assert [line.partition(": ")[2] for line in caplog.messages] == [
        "500 server_error, stage a: the worker failed: ValueError: boom",
        "500 server_error, stage a: ServerError: out of memory",
        "500 server_error, stage a: over",
    ]


def test_with_debug_clients_are_shown_what_was_raised_and_without_it_not(rig):
    shown = {"label": "server_error", "text": "the worker failed", "hop": 0}
    for debug in (False, True):
        rig.service.answers.debug = debug
        _, _, body = rig.end(
            rig.submit(), OutcomeKind.FAILURE, buffers=[b"ValueError: boom", b"Trace\xff"], **shown
        )
        error = json.loads(body)["error"]
        if debug:
            assert (error["message"], error["traceback"]) == ("ValueError: boom", "Trace\ufffd")
        else:
            assert error["message"] == "the worker failed"
            assert "traceback" not in error
    _, _, body = rig.end(rig.submit(), OutcomeKind.FAILURE, **shown)
    assert json.loads(body)["error"]["message"] == "the worker failed"
