"""Returns all kinds of values."""

import collections
import dataclasses
import datetime
import decimal
import enum
import pathlib
import uuid
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
        "when": datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC),
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
    "bytes": lambda: b"\x89PNG",
    "coroutine": later,
    "generator": lambda: (one for one in range(3)),
    "created": lambda: Reply({"id": 5}, status=HTTPStatus.CREATED),
    "counted": lambda: Reply(1, np.int64(202), {"X-Count": 3}),
    "nothing": lambda: Reply(None, status=204),
    "picture": lambda: Reply(b"\x89PNG", content_type="image/png"),
    "memory": lambda: Reply(memoryview(b"\x89PNG"), content_type="image/png"),
    "written": lambda: Reply(b'{"a":1}', content_type="application/json"),
    "page": lambda: Reply("<p>gr\u00fcn", content_type="text/html; charset=utf-8"),
    "split": lambda: Reply(1, headers={"Location": "/a\r\nX-Evil: 1"}),
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
        return ["gr\u00fcn" if name == "text" else {"a": 1} for name in names]


class Picture(Worker):
    resp_mime_type = "image/png"

    def forward(self, data):
        return bytearray(b"\x89PNG")
