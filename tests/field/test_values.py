"""What workers return, and what their clients get: everyday values, replies, errors, bodies."""

from http import HTTPStatus

import pytest
from site_runs import settings, shared_site, stage

STAGES = {
    "values": "Values",
    "errors": "Errors",
    "text": stage("Text", max_batch_size=4),
    "picture": "Picture",
}
FILE = settings(STAGES, {f"/{name}": [name] for name in STAGES})
site = shared_site("returns", FILE)


@pytest.fixture(scope="module")
def client(site):
    with site.client() as made:
        yield made


def test_values_of_numpy_are_json(client):
    answer = client.post("/values", "numpy")
    assert (answer.status, answer.json()) == (
        200,
        {
            "scalars": [0.5, 3, True, "a", 2.0],
            "boxes": [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]],
            "when": "2024-01-02",
            "7": 1,
        },
    )


def test_everyday_values_of_python_are_json(client):
    answer = client.post("/values", "python")
    assert (answer.status, answer.json()) == (
        200,
        {
            "box": {"label": "cat", "score": 0.5},
            "colour": "red",
            "when": "2024-01-02T00:00:00Z",
            "took": "PT90S",
            "id": "00000000-0000-0000-0000-000000000001",
            "price": "1.50",
            "path": "/a/b",
            "tags": ["x"],
            "point": [1, 2],
            "raw": "YWI=",
            "1": "one",
        },
    )


def test_nan_and_infinity_are_null(client):
    answer = client.post("/values", "nan")
    assert answer.body == b'{"loss":null,"xs":[null,0.5],"s":null}'


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("complex", 'value["boxes"][3].score is a numpy.complex64; send [z.real, z.imag]'),
        ("deep", "nested too deeply"),
        ("bytes", "the result is bytes, which are no JSON; say what they are with resp_mime_type"),
        ("coroutine", "forward returned a coroutine; await it inside of forward"),
        ("generator", "forward returned a generator; make a list of it inside"),
        ("split", "a worker set the header Location to a value with forbidden characters"),
    ],
)
def test_what_cannot_be_sent_is_named_with_its_place(client, name, said):
    answer = client.post("/values", name)
    assert answer.status == 500
    assert said in answer.json()["error"]["message"]


def test_a_reply_may_say_it_as_people_do(client):
    created = client.post("/values", "created")
    assert (created.status, created.json()) == (HTTPStatus.CREATED, {"id": 5})
    counted = client.post("/values", "counted")
    assert (counted.status, counted.headers["x-count"]) == (202, "3")
    nothing = client.post("/values", "nothing")
    assert (nothing.status, nothing.body) == (204, b"")


@pytest.mark.parametrize(
    ("name", "kind", "body"),
    [
        ("picture", "image/png", b"\x89PNG"),
        ("memory", "image/png", b"\x89PNG"),
        ("written", "application/json", b'{"a":1}'),
        ("page", "text/html; charset=utf-8", "<p>gr\u00fcn".encode()),
    ],
)
def test_what_a_reply_names_the_type_of_is_sent_as_it_is(client, name, kind, body):
    answer = client.post("/values", name)
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, kind, body)


def test_texts_and_bytes_are_sent_as_the_workers_type_says(client):
    text = client.post("/text", "text")
    assert (text.headers["content-type"], text.body.decode()) == (
        *("text/plain; charset=utf-8", "gr\u00fcn"),
    )
    assert client.post("/text", "else").body == b'{"a":1}'
    picture = client.post("/picture", 1)
    assert (picture.headers["content-type"], picture.body) == ("image/png", b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "status", "code", "retryable"),
    [
        ("quota", 429, "quota_exceeded", True),
        ("odd", 400, "odd_picture", False),
        ("down", 503, "model_is_down", True),
        ("loud", 400, "bad_request", False),
    ],
)
def test_a_workers_own_errors_reach_the_client(site, client, name, status, code, retryable):
    answer = client.post("/errors", name)
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["retryable"]) == (status, code, retryable)
    assert error["message"] == name
    assert answer.headers.get("retry-after") == {"quota": "60", "down": "1"}.get(name)


def test_what_cannot_be_a_code_is_said_once(site, client):
    for _ in range(3):
        client.post("/errors", "loud")
    site.until(lambda: "Shouting: its code must be" in site.log(), "the log says it")
    assert site.log().count("Shouting: its code must be") == 1
