"""Stages of pipelines, and three that stand alone."""

import os
import time

import numpy as np

from mesh import (
    ClientError,
    DecodingError,
    EncodingError,
    Reply,
    ServerError,
    ValidationError,
    Worker,
)

ERRORS = {
    e.__name__: e
    for e in (ClientError, DecodingError, ValidationError, ServerError, EncodingError, KeyError)
}


class First(Worker):
    """Does what each item asks for, and says who ran how many together."""

    def forward(self, items):
        if any(item.get("fail_all") for item in items):
            raise ERRORS[items[0]["fail_all"]]("the whole batch")
        results = [self.one(item, len(items)) for item in items]
        return results[:-1] if any(item.get("forget_one") for item in items) else results

    def one(self, item, size):
        if "error" in item:
            return ERRORS[item["error"]]("as asked")
        time.sleep(item.get("sleep", 0))
        array = np.arange(item.get("floats", 0), dtype=np.float32)
        traces = [facts.trace for facts in self.requests][:1]
        return {"size": size, "pid": os.getpid(), "array": array, "path": "first", "traces": traces}


class Second(Worker):
    def forward(self, item):
        assert item["array"].dtype == np.float32
        (facts,) = self.requests
        traces = item["traces"] + [facts.trace]
        return item | {
            "path": item["path"] + " second",
            "array": item["array"] * 2,
            "traces": traces,
        }


class Third(Worker):
    def forward(self, items):
        return [
            item | {"path": item["path"] + " third", "traces": item["traces"] + [facts.trace]}
            for item, facts in zip(items, self.requests, strict=True)
        ]

    def serialize(self, item):
        array = item.pop("array")
        return super().serialize(item | {"sum": float(array.sum())})


class Alone(First):
    def serialize(self, item):
        return super().serialize({key: item[key] for key in ("size", "pid", "path")})


class Telling(Worker):
    """Answers in its own words, and knows how it was asked."""

    wants_meta = True
    resp_mime_type = "application/octet-stream"

    def forward(self, item):
        (facts,) = self.requests
        headers = {name.lower(): value for name, value in facts.headers}
        assert 0 < facts.budget <= 3
        text = f"{facts.method} {facts.path}?{facts.query} {headers['x-who']} {facts.id}"
        return Reply(text, 201, {"X-Made-By": item["by"]}, "text/plain")

    def serialize(self, text):
        return text.encode()


class Odd(Worker):
    """What it returns cannot be written as JSON; what it is sent is no JSON either."""

    def deserialize(self, payload):
        return payload.decode()

    def forward(self, text):
        if text == "late":
            time.sleep(30)
        return object()
