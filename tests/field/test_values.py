"""What workers return, and what their clients get: everyday values, replies, errors, bodies."""

from http import HTTPStatus

import pytest
from site_runs import running

SERVICE = """
import collections, dataclasses, datetime, decimal, enum, pathlib, uuid
from http import HTTPStatus

import numpy as np
from mesh import ClientError, Reply, ServerError, Worker


class Colour(enum.Enum):
    RED = "red"

Point = collections.namedtuple("Point", "x y")

@dataclasses.dataclass
class Box:
    label: str
    score: object

class QuotaExceeded(ClientError):
    code, status, retry_after = "quota_exceeded", 429, 60

class OddPicture(ClientError):
    code = "odd_picture"

class ModelDown(ServerError):
    code, status = "model_is_down", 503

class Shouting(ClientError):
    code, status = "Not A Word", 700

async def later():
    return 1

def deep():
    value = []
    for _ in range(5000):
        value = [value]
    return value

RESULTS = {
    "numpy": lambda: {
        "scalars": [np.float32(0.5), np.int64(3), np.bool_(True), np.str_("a"), np.float16(2)],
        "boxes": np.arange(6, dtype=np.float32).reshape(2, 3),
        "when": np.datetime64("2024-01-02"),
        np.int64(7): 1,
    },
    "python": lambda: {
        "box": Box("cat", np.float32(0.5)),
        "colour": Colour.RED,
        "when": datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone.utc),
        "took": datetime.timedelta(seconds=90),
        "id": uuid.UUID(int=1),
        "price": decimal.Decimal("1.50"),
        "path": pathlib.Path("/a/b"),
        "tags": {"x"},
        "point": Point(1, 2),
        "raw": b"ab",
        1: "one",
    },
    "nan": lambda: {"loss": float("nan"), "xs": np.array([np.inf, 0.5]), "s": np.float32("nan")},
    "complex": lambda: {"boxes": [1, 2, 3, Box("cat", np.complex64(1))]},
    "deep": deep,
    "bytes": lambda: b"\\x89PNG",
    "coroutine": later,
    "generator": lambda: (one for one in range(3)),
    "created": lambda: Reply({"id": 5}, status=HTTPStatus.CREATED),
    "counted": lambda: Reply(1, np.int64(202), {"X-Count": 3}),
    "nothing": lambda: Reply(None, status=204),
    "picture": lambda: Reply(b"\\x89PNG", content_type="image/png"),
    "memory": lambda: Reply(memoryview(b"\\x89PNG"), content_type="image/png"),
    "written": lambda: Reply(b'{"a":1}', content_type="application/json"),
    "page": lambda: Reply("<p>gr\\u00fcn", content_type="text/html; charset=utf-8"),
    "split": lambda: Reply(1, headers={"Location": "/a\\r\\nX-Evil: 1"}),
}

class Values(Worker):
    def forward(self, name):
        return RESULTS[name]()

class Errors(Worker):
    def forward(self, name):
        raise {"quota": QuotaExceeded, "odd": OddPicture, "down": ModelDown, "loud": Shouting}[
            name
        ](name)

class Text(Worker):
    resp_mime_type = "text/plain; charset=utf-8"

    def forward(self, names):
        return ["gr\\u00fcn" if name == "text" else {"a": 1} for name in names]

class Picture(Worker):
    resp_mime_type = "image/png"

    def forward(self, data):
        return bytearray(b"\\x89PNG")
"""
FILE = """
[stages.values]
worker = "service:Values"
[stages.errors]
worker = "service:Errors"
[stages.text]
worker = "service:Text"
max_batch_size = 4
[stages.picture]
worker = "service:Picture"
[routes]
"/values" = ["values"]
"/errors" = ["errors"]
"/text" = ["text"]
"/picture" = ["picture"]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running(tmp_path_factory.mktemp("values"), SERVICE, FILE) as made:
        yield made


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
