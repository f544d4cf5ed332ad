"""What is refused of a worker before it is announced, and what is not."""

from __future__ import annotations

import asyncio
import functools
import re
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import pytest

from mesh.errors import StartError
from mesh.worker.base import Worker
from mesh.worker.checks import MAX_SCHEMA_BYTES, WorkerFacts, class_fault, examples_of, facts_of


def timed(function: Any) -> Any:
    """A decorator that passes on what it wraps."""

    @functools.wraps(function)
    def wrapper(*arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    return wrapper


def awaited(function: Any) -> Any:
    """A decorator that runs what it wraps."""

    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return asyncio.run(function(*arguments))

    return wrapper


def joined(function: Any) -> Any:
    """A decorator that makes one of what it wraps."""

    @functools.wraps(function)
    def wrapper(self: Any, data: Any) -> Any:
        return "".join(function(self, data))

    return wrapper


def with_model(function: Any) -> Any:
    """A decorator that gives what it wraps one argument more."""

    @functools.wraps(function)
    def wrapper(self: Any, data: Any) -> Any:
        return function(self, data, "model")

    return wrapper


async def waits(self: Any, data: Any) -> Any:
    return data


def yields(self: Any, data: Any) -> Any:
    yield data


async def streams(self: Any, data: Any) -> Any:
    yield data


class CalledLater:
    async def __call__(self, data: Any) -> Any:
        return data


class Called:
    def __call__(self, data: Any) -> Any:
        return data


def made(**members: Any) -> type[Worker]:
    """A class that a user might have written."""
    return type("Embed", (Worker,), {"forward": lambda self, data: data} | members)


HERE = r"\(test_worker_checks.py:\d+\)"


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"forward": waits}, "is an `async def`, which is not served"),
        ({"forward": yields}, "is a generator"),
        ({"forward": streams}, "is an asynchronous generator"),
        ({"__init__": waits}, "__init__ .* is an `async def`"),
        ({"forward": functools.partial(waits, None)}, "is an `async def`"),
        ({"forward": functools.partialmethod(waits)}, "is an `async def`"),
        ({"forward": staticmethod(waits)}, "is an `async def`"),
        ({"forward": CalledLater()}, "is an `async def`"),
        ({"deserialize": waits}, "deserialize .* is an `async def`, which is not served"),
        ({"serialize": waits}, "async def"),
        ({"deserialize_ipc": waits}, "async def"),
        ({"serialize_ipc": yields}, "generator"),
        ({"unload": waits}, "async def"),
        ({"forward": lambda self: None}, "takes .*write   def forward"),
        ({"forward": lambda self, a, b: None}, "missing a required argument: 'b'"),
        ({"unload": lambda self, data: None}, "a stage calls it with none"),
        ({"requests": lambda self: None}, "is a name that the service sets: what is known"),
        ({"stage": property(lambda self: "x")}, "is a name that the service sets"),
    ],
)
def test_what_could_serve_nothing_is_refused_with_its_place(
    members: dict[str, Any], said: str
) -> None:
    fault = class_fault(made(**members))
    assert re.search(said, fault), fault
    assert re.search(HERE, fault), fault


def test_what_is_no_method_is_refused() -> None:
    assert "Embed.forward is None, which cannot be called" in class_fault(made(forward=None))


class Base(Worker):
    @abstractmethod
    def load(self) -> None: ...


def test_what_is_missing_is_named() -> None:
    assert "Nothing has no forward; write   def forward(self, data):" in class_fault(
        type("Nothing", (Worker,), {})
    )
    called = class_fault(type("Called", (Worker,), {"__call__": lambda self, data: data}))
    assert "is not what a stage calls; rename it to forward" in called
    assert "does not define load, which a base demands" in class_fault(
        type("Half", (Base,), {"forward": lambda self, data: data})
    )


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"forward": timed(lambda self, data: data)},
        {"forward": awaited(waits)},
        {"forward": joined(yields)},  # what a decorator does with what it wraps, only it knows
        {"forward": timed(waits)},
        {"forward": with_model(lambda self, data, model: data)},
        {"forward": lambda self, data, more=1: data},
        {"forward": lambda self, *data: data},
        {"forward": staticmethod(lambda data: data)},
        {"forward": classmethod(lambda cls, data: data)},
        {"forward": functools.partial(lambda extra, data: data, 1)},
        {"forward": functools.partialmethod(lambda self, extra, data: data, 1)},
        {"forward": Called()},
        {"forward": property(lambda self: len)},
        {"serialize": bytes},
        {"__call__": lambda self, data: self.forward(data)},
    ],
)
def test_what_can_be_called_is_left_alone(members: dict[str, Any]) -> None:
    assert class_fault(made(**members)) == ""


def test_a_circle_of_wrappers_ends() -> None:
    def forward(self: Any, data: Any) -> Any:
        return data

    forward.__wrapped__ = forward  # type: ignore[attr-defined]
    assert class_fault(made(forward=forward)) == ""


# --- what it says of itself ----------------------------------------------------------------------


def facts(init: Callable[[Any], None] = lambda self: None, **members: Any) -> WorkerFacts:
    """The facts of a worker that was constructed as a replica does it."""
    cls: Any = made(__init__=init, **members)
    worker = cls.__new__(cls)
    worker.stage, worker.max_batch_size, worker.worker_id = "embed", 4, 2
    worker.__init__()
    return facts_of(worker, "embed", 4, 2)


def schema(input_: Any) -> Any:
    return classmethod(lambda cls, target, template: (input_, {}))


def test_the_facts_of_an_ordinary_worker() -> None:
    assert facts() == WorkerFacts("application/json", False, "")
    told = facts(
        wants_meta=True,
        resp_mime_type="text/html; charset=utf-8",
        get_forward_json_schema=schema({"type": "string"}),
        max_batch_size=4,
    )
    assert told.schema == '[[{"type": "string"}, {}], [{"type": "string"}, {}]]'
    assert (told.content_type, told.wants_meta) == ("text/html; charset=utf-8", True)


def raising(cls: Any, target: str, template: str) -> Any:
    raise KeyError("no schema")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (
            {"resp_mime_type": None},
            'resp_mime_type must be a text such as "application/json", not',
        ),
        ({"resp_mime_type": b"text/plain"}, "must be a text"),
        ({"resp_mime_type": "a" * 5000}, "has 5000 characters, and at most 255 are sent"),
        ({"resp_mime_type": ""}, "must be a content type such as"),
        ({"resp_mime_type": "json"}, "must be a content type such as"),
        ({"resp_mime_type": "text/plain\r\nX: y"}, "on one line, not 'text/plain"),
        ({"resp_mime_type": "text/pl\u00e4in"}, "in ASCII"),
        ({"wants_meta": "yes"}, "wants_meta must be True or False, not 'yes'"),
        ({"get_forward_json_schema": classmethod(raising)}, "failed: KeyError: 'no schema'"),
        ({"get_forward_json_schema": schema([1])}, "must return two dicts"),
        ({"get_forward_json_schema": lambda *_: None}, "must return two dicts, not None"),
        ({"get_forward_json_schema": schema({"a": {1}})}, "failed: TypeError"),
        ({"get_forward_json_schema": schema({"a": float("nan")})}, "failed: ValueError"),
        ({"get_forward_json_schema": schema({"a": "x" * MAX_SCHEMA_BYTES})}, "are sent"),
        ({"max_batch_size": 8}, "sets max_batch_size to 8, but the service .*append_worker"),
        ({"stage": "other"}, "sets stage to 'other', .*here 'embed'; choose another name"),
        ({"init": lambda self: setattr(self, "stage", "x")}, "sets stage to 'x'"),
        ({"init": lambda self: setattr(self, "requests", [1])}, "sets requests to"),
        ({"init": lambda self: setattr(self, "worker_id", 9)}, "sets worker_id to 9"),
        ({"init": lambda self: setattr(self, "forward", waits)}, "is an `async def`"),
        ({"init": lambda self: setattr(self, "forward", lambda: 1)}, "takes \\(\\)"),
    ],
)
def test_what_could_not_be_sent_is_refused(members: dict[str, Any], said: str) -> None:
    with pytest.raises(StartError, match=said):
        facts(**members)


def test_examples_are_a_list() -> None:
    worker: Any = made()()
    assert examples_of(worker) == []
    worker.example = 0
    assert examples_of(worker) == [0]
    worker.multi_examples = (one for one in (1, 2))
    assert examples_of(worker) == [1, 2]


@pytest.mark.parametrize("wrong", [5, "abc", b"abc", {"a": 1}])
def test_what_is_no_list_of_examples_is_refused(wrong: Any) -> None:
    worker: Any = made()()
    worker.multi_examples = wrong
    with pytest.raises(StartError, match="multi_examples must be a list of inputs of forward"):
        examples_of(worker)
