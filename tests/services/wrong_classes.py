"""Classes that could serve nothing, or say something wrong of themselves."""

import functools

from mesh import Worker


def passed_on(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return function(*arguments)

    return wrapper


class Async(Worker):
    async def forward(self, data):
        return data


class Yields(Worker):
    def forward(self, data):
        yield data


class Wrapped(Worker):
    @passed_on
    async def forward(self, data):
        return data


class Reads(Worker):
    async def deserialize(self, payload):
        return payload

    def forward(self, data):
        return data


class Alone(Worker):
    def forward(self):
        return 1


class Called(Worker):
    def __call__(self, data):
        return data


class Plain(Worker):
    def forward(self, data):
        return data


class NoType(Plain):
    resp_mime_type = None


class BytesType(Plain):
    resp_mime_type = b"text/plain"


class LongType(Plain):
    resp_mime_type = "text/" + "a" * 5000


class SplitType(Plain):
    resp_mime_type = "text/plain\r\nX: y"


class Schema(Plain):
    @classmethod
    def get_forward_json_schema(cls, target, ref_template):
        raise KeyError("no model")


class HugeSchema(Plain):
    @classmethod
    def get_forward_json_schema(cls, target, ref_template):
        return {"description": "x" * 5_000_000}, {}


class Batches(Plain):
    max_batch_size = 8


class Stage(Plain):
    def __init__(self):
        self.stage = "decode"


class Examples(Plain):
    multi_examples = 5


class Later(Plain):
    example = 1

    def __init__(self):
        self.model = self.ask

    async def ask(self, data):
        return data

    def forward(self, data):
        return self.model(data)
