"""How a value travels to a server, and its answer back: as it is, or in Triton's binary form.

Triton would decode JSON itself; here it gets the text as bytes, which is the form that its makers
advise and the cheapest for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

LENGTH = "Inference-Header-Content-Length"
JSON = {"Content-Type": "application/json"}


class Form(Enum):
    """What a server's HTTP speaks."""

    PLAIN = "the body is the value"
    KSERVE = "the body is a KServe request, and after it the value as bytes"


@dataclass(frozen=True)
class Request:
    """What is posted: where, with which header lines, and the body."""

    url: str
    headers: Mapping[str, str]
    body: str


def request(form: Form, port: int, value: str) -> Request:
    """What is posted to a server at this port, so that its service gets this JSON.

    Example:
        >>> request(Form.PLAIN, 80, "1").url
        'http://127.0.0.1:80/inference'
    """
    root = f"http://127.0.0.1:{port}"
    if form is Form.PLAIN:
        return Request(f"{root}/inference", JSON, value)
    size = len(value.encode())
    given = {
        "name": "x",
        "shape": [1, size],
        "datatype": "UINT8",
        "parameters": {"binary_data_size": size},
    }
    wanted = {"name": "y", "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [given], "outputs": [wanted]})
    headers = {"Content-Type": "application/octet-stream", LENGTH: str(len(head))}
    return Request(f"{root}/v2/models/service/infer", headers, head + value)


def value(form: Form, headers: Mapping[str, str], body: bytes) -> object:
    """The value that an answer holds.

    Raises:
        ValueError: it holds none.
    """
    start = int(headers.get(LENGTH) or 0) if form is Form.KSERVE else 0
    found: object = json.loads(body[start:])
    return found
