"""examples/echo: three stages, run both ways, asked by its own client."""

import pytest
from example_runs import file, hub_hops, run_client, script, serving
from site_runs import metric

from mesh import DecodingError, ValidationError


@pytest.fixture(scope="module", params=[file, script])
def client(request, tmp_path_factory):
    with serving(request.param, "echo", tmp_path_factory.mktemp("echo")) as client:
        yield client


def test_its_client_shows_the_answer_and_the_timings(client):
    ran = run_client("echo", client, "hello", "good", "mesh")
    assert ran.returncode == 0, ran.stderr
    answer, timings = ran.stdout.splitlines()
    assert answer == "{'text': 'HELLO GOOD MESH', 'words': 3}"
    for stage in ("parse", "shout", "wrap"):
        assert f"{stage} " in timings
        assert f"{stage}-queue " in timings


def test_answers_belong_to_their_requests(client):
    for number in range(50):
        text = f"number {number}"
        assert client.infer({"text": text}) == {"text": text.upper(), "words": 2}


def test_a_request_without_text_is_at_fault(client):
    with pytest.raises(ValidationError, match="some words") as caught:
        client.infer({"txt": "hello"})
    assert (caught.value.status, caught.value.stage) == (422, "parse")
    assert caught.value.request_id
    assert not caught.value.retryable


def test_a_body_that_is_no_json_is_at_fault(client):
    with pytest.raises(DecodingError, match="not JSON"):
        client.post("/inference", b"{").raise_for_status()


def test_outputs_go_straight_to_the_next_stage(client):
    client.infer({"text": "hello"})
    assert hub_hops(client) == 0


def test_answers_are_counted(client):
    client.infer({"text": "hello"})
    assert metric(client, "mesh_throughput_total", code="200") >= 1
