"""examples/digits: a model trained on the spot, served in batches."""

import re

import pytest
from example_runs import file, run_client, script, serving
from site_runs import metric

from mesh import ValidationError


@pytest.fixture(scope="module", params=[file, script])
def client(request, tmp_path_factory):
    with serving(request.param, "digits", tmp_path_factory.mktemp("digits")) as client:
        yield client


def test_the_held_out_digits_are_told_right_in_batches(client):
    ran = run_client("digits", client)
    assert ran.returncode == 0, ran.stderr
    right, total = map(int, re.match(r"(\d+) of (\d+) digits are right", ran.stdout).groups())
    assert total == 540
    assert right >= 0.95 * total
    batches = metric(client, "mesh_batch_size_count", stage="digits")
    tasks = metric(client, "mesh_batch_size_sum", stage="digits")
    assert batches < tasks  # sixteen at a time asked; some shared a batch


@pytest.mark.parametrize("image", [[], [0] * 63, [99] * 64, ["0"] * 64, {"image": 1}, None])
def test_what_is_no_image_fails_alone(client, image):
    with pytest.raises(ValidationError, match="64 numbers"):
        client.infer(image)
    assert client.infer([0] * 64).keys() == {"digit"}


def test_the_client_says_when_nobody_answers(client):
    class Nowhere:
        url = "http://127.0.0.1:9"

    ran = run_client("digits", Nowhere)
    assert ran.returncode == 1
    assert "is the service running?" in ran.stderr
    assert "Traceback" not in ran.stderr
