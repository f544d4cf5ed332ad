"""Pipelines of real processes, over ipc and tcp, as their clients see them."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest
from site_runs import metric, running, service_text, settings, stage

from benchmarks.ports import free_port
from mesh import Client

STAGES = {
    "first": stage("First", replicas=2, max_batch_size=8),
    "second": stage("Second", replicas=2),
    "third": stage("Third", max_batch_size=4),
    "alone": stage("Alone", max_batch_size=8, timeout="10s"),
    "telling": "Telling",
    "odd": stage("Odd", timeout="500ms"),
}
ROUTES = {
    "/one": ["alone"],
    "/two": ["first", "third"],
    "/three": ["first", "second", "third"],
    "/odd": ["odd"],
    "/telling": ["telling"],
}
GATEWAY = {"insecure": True, "timeout": "3s", "max_body": "64MiB"}


@pytest.fixture(scope="module", params=["ipc", "tcp"])
def url(request, tmp_path_factory):
    bind = {"bind": f"tcp://127.0.0.1:{free_port()}"} if request.param == "tcp" else {}
    file = settings(STAGES, ROUTES, **bind, **GATEWAY)
    folder = tmp_path_factory.mktemp(request.param)
    with running(folder, service_text("pipeline"), file, ours=True) as site:
        yield site.url


@pytest.fixture
def client(url):
    with Client(url, timeout=60.0) as made:
        yield made


def error(response):
    said = response.json()["error"]
    return response.status, said["code"], said["stage"]


def together(url, route, bodies, after=0.0):
    """Post all at once, each on a connection of its own; the answers in order."""

    def post(body):
        with Client(url, timeout=60.0) as client:
            return client.post(route, body)

    threading.Event().wait(after)
    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(post, bodies))


def behind_a_blocker(url, bodies, route="/one"):
    """Post all while the one replica of a stage is busy, so that they make one batch."""
    with ThreadPoolExecutor(1) as pool:
        blocker = pool.submit(together, url, route, [{"sleep": 0.6}])
        answers = together(url, route, bodies, after=0.2)
        assert blocker.result()[0].ok
    return answers


@pytest.mark.parametrize(
    ("route", "stages"),
    [("/one", ["alone"]), ("/two", ["first", "third"]), ("/three", ["first", "second", "third"])],
)
def test_one_two_and_three_stages(client, url, route, stages):
    answers = together(url, route, [{}] * 40)
    assert {answer.status for answer in answers} == {200}
    path = " ".join(stages).replace("alone", "first")
    assert {answer.json()["path"] for answer in answers} == {path}
    for answer in answers:
        assert {f"{name}{what}" for name in stages for what in ("", "-queue")} == set(
            answer.timings
        )


def test_large_arrays_go_straight_from_stage_to_stage(client):
    count = 2 * 1024 * 1024  # 8 MiB of float32
    for _ in range(3):
        total = client.infer({"floats": count}, route="/three")["sum"]
        assert total == pytest.approx(2 * count * (count - 1) / 2, rel=1e-4)
    assert metric(client, "mesh_hub_hops_total") == 0  # from the first request on


# --- what fails, and what does not fail with it ---------------------------------------------------


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("ClientError", 400, "bad_request"),
        ("DecodingError", 400, "decoding_error"),
        ("ValidationError", 422, "validation_error"),
        ("ServerError", 500, "server_error"),
        ("EncodingError", 500, "encoding_error"),
        ("KeyError", 500, "server_error"),
    ],
)
def test_each_class_of_error_has_its_status(client, name, status, code):
    for request in ({"error": name}, {"fail_all": name}):
        answer = client.post("/two", request)
        assert error(answer) == (status, code, "first")
        assert "Traceback" not in answer.body.decode()
        said = "as asked" if "error" in request else "the whole batch"
        told = "the worker failed" if name == "KeyError" else said
        assert answer.json()["error"]["message"] == told


@pytest.mark.parametrize(
    ("bad", "status", "size"),
    [
        (b"{no json", 400, 7),  # it never reaches `forward`
        (b'{"error": "ValidationError"}', 422, 8),
    ],
)
def test_one_bad_item_of_eight_fails_alone(url, bad, status, size):
    answers = behind_a_blocker(url, [{}] * 3 + [bad] + [{}] * 4)
    assert [answer.status for answer in answers] == [200] * 3 + [status] + [200] * 4
    assert {answer.json()["size"] for answer in answers if answer.ok} == {size}


def test_what_forward_itself_raises_fails_the_batch_and_no_other(client, url):
    answers = behind_a_blocker(url, [{}, b"[]", {}])
    assert {error(answer) for answer in answers} == {(500, "server_error", "alone")}
    assert client.post("/one", {}).ok


def test_a_wrong_number_of_results_fails_the_batch_and_says_so(url):
    answers = behind_a_blocker(url, [{}, {"forget_one": True}, {}])
    assert {error(answer) for answer in answers} == {(500, "server_error", "alone")}
    messages = {answer.json()["error"]["message"] for answer in answers}
    assert messages == {"forward returned 2 results for 3 inputs"}


def test_a_result_that_cannot_be_written(client):
    assert error(client.post("/odd", b"anything"))[:2] == (500, "encoding_error")


def test_a_forward_over_its_limit(client):
    began = monotonic()
    assert error(client.post("/odd", b"late")) == (504, "forward_timeout", "odd")
    assert monotonic() - began < 2.0
    assert client.post("/odd", b"early").status == 500  # the replica lives


def test_a_request_that_takes_too_long(client):
    began = monotonic()
    answer = client.post("/one", {"sleep": 4})
    assert error(answer)[:2] == (504, "deadline_exceeded")
    assert 2.9 <= monotonic() - began < 3.5
    eventually_served = monotonic() + 10.0  # what it was asked first may still be running
    while client.post("/one", {}).status != 200:
        assert monotonic() < eventually_served


# --- what passes through --------------------------------------------------------------------------


def test_ids_and_traces_pass(client):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"X-Request-ID": "mine-1", "traceparent": trace}
    answer = client.post("/three", {}, headers=headers)
    assert answer.request_id == "mine-1"
    assert answer.json()["traces"] == [trace] * 3
    assert client.infer({}, route="/three")["traces"] == [""] * 3
    failed = client.post("/three", {"error": "ClientError"}, headers=headers)
    assert failed.json()["error"]["request_id"] == "mine-1"
    assert client.post("/three", {}).request_id != client.post("/three", {}).request_id


def test_a_worker_is_told_how_it_was_asked_and_words_its_answer(client):
    answer = client.post("/telling?a=1", {"by": "me"}, headers={"X-Who": "you"})
    assert answer.status == 201
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["x-made-by"] == "me"
    assert answer.body.decode() == f"POST /telling?a=1 you {answer.request_id}"


def test_a_header_that_would_split_the_answer_is_refused(client):
    answer = client.post("/telling", {"by": "me\r\nX-Evil: 1"}, headers={"X-Who": "you"})
    assert error(answer) == (500, "encoding_error", "telling")
    assert "x-evil" not in answer.headers


# --- deaths ---------------------------------------------------------------------------------------


def test_a_killed_replicas_requests_are_answered_by_another(client, url):
    # More than one replica alone is granted: each of both gets some.
    pids = {answer.json()["pid"] for answer in together(url, "/two", [{"sleep": 0.05}] * 24)}
    assert len(pids) == 2
    victim = min(pids)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(together, url, "/two", [{"sleep": 0.08}] * 24)
        while metric(client, "mesh_remaining_task") < 18:
            threading.Event().wait(0.01)
        os.kill(victim, signal.SIGKILL)
        answers = asked.result()
    assert [answer.status for answer in answers] == [200] * 24
    assert metric(client, "mesh_retries_total", cause="lost") > 0
