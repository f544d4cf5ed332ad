"""Checks a worker's class and object before a replica announces itself. Pure.

Without these checks, a fault would fail every request, or kill the replica each time it announces
itself. `class_fault` needs only the class, so a script's parent process can call it, too.
`WorkerFacts` are read from the object, in the replica.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from mesh.errors import StartError
from mesh.worker.base import Worker

# The methods that a stage calls, with their numbers of arguments.
_CALLED = {
    "forward": 1,
    "deserialize": 1,
    "serialize": 1,
    "deserialize_ipc": 1,
    "serialize_ipc": 1,
    "unload": 0,
}
# The attributes that the service sets on the worker, and their meaning.
_SET = {
    "worker_id": "the number of the replica",
    "stage": "the name of the stage",
    "max_batch_size": "how many inputs forward may get",
    "requests": "what is known of the requests that forward computes",
}
_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+([ \t]*;[\t -~]*)?")
MAX_TYPE_CHARS = 255
MAX_SCHEMA_BYTES = 1 << 20
_TEMPLATE = "#/components/schemas/{name}"


class WorkerFacts(NamedTuple):
    """What a replica announces about its worker; all of it fits in a message.

    Attributes:
        content_type: the content type of the results.
        wants_meta: whether the worker wants method, path, query and headers.
        schema: the JSON schemas of input and output as a JSON text, or "".
    """

    content_type: str
    wants_meta: bool
    schema: str


def class_fault(cls: type[Worker]) -> str:
    """Return what is wrong with a worker's class, and what to do about it; "" if nothing is."""
    return next(filter(None, _class_faults(cls)), "")


def facts_of(worker: Worker, stage: str, max_batch_size: int, worker_id: int) -> WorkerFacts:
    """Read the facts of a constructed worker.

    Args:
        worker: the user's worker.
        stage, max_batch_size, worker_id: the values that the service set before ``__init__``.

    Raises:
        StartError: a fact cannot be sent, or a value was overwritten; the text says what to do.
    """
    set_to = {
        **{"stage": stage, "max_batch_size": max_batch_size},
        **{"worker_id": worker_id, "requests": ()},
    }
    fault = next(filter(None, _object_faults(worker, set_to)), "")
    if fault:
        raise StartError(fault)
    return WorkerFacts(_content_type(worker), _wants_meta(worker), _schema(worker))


def examples_of(worker: Worker) -> list[Any]:
    """Return the inputs with which `forward` is run before the replica is announced.

    Raises:
        StartError: `multi_examples` is not a list of inputs.
    """
    examples: Any = worker.multi_examples
    if examples is None:
        return [] if worker.example is None else [worker.example]
    if isinstance(examples, Iterable) and not isinstance(examples, str | bytes | Mapping):
        return list(examples)
    name = f"{type(worker).__qualname__}.multi_examples"
    text = f"{name} must be a list of inputs of forward, not {examples!r:.80}"
    raise StartError(f"{text}; a single one is given as `example`")


# --- methods -------------------------------------------------------------------------------------


def _class_faults(cls: type[Worker]) -> Iterator[str]:
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        yield _missing(cls, missing)
    for name, count in _CALLED.items():
        yield _method_fault(cls, name, count)
    if inspect.iscoroutinefunction(cls.__init__):
        yield f"{cls.__qualname__}.__init__{_place(cls.__init__)} is an `async def`: {_AWAIT}"
    for name, meaning in _SET.items():
        value = inspect.getattr_static(cls, name)
        if callable(value) or hasattr(type(value), "__get__"):
            yield f"{cls.__qualname__}.{name}{_place(value)} is a name that the service sets: " + (
                f"{meaning}; choose another"
            )


def _missing(cls: type[Worker], names: list[str]) -> str:
    if "forward" not in names:
        return f"{cls.__qualname__} does not define {', '.join(names)}, which a base demands"
    called = vars(cls).get("__call__")
    if called is not None:
        where = f"{cls.__qualname__}.__call__{_place(called)}"
        return f"{where} is not what a stage calls; rename it to forward"
    return f"{cls.__qualname__} has no forward; write   def forward(self, data):"


def _object_faults(worker: Worker, set_to: Mapping[str, object]) -> Iterator[str]:
    """Yield the values set by ``__init__``, or by a base class, that the service would
    overwrite."""
    cls = type(worker)
    for name, count in _CALLED.items():
        if name in vars(worker):
            yield _method_fault(worker, name, count)
    for name, value in set_to.items():
        usual = getattr(Worker, name)
        for found in (getattr(worker, name), getattr(cls, name)):
            if found is usual or _is_same(found, value) or _is_same(found, usual):
                continue
            text = f"{cls.__qualname__} sets {name} to {found!r:.80}, but the service sets it"
            way_out = _WAY_OUT.get(name, "choose another name")
            yield f"{text}: {_SET[name]}, here {value!r}; {way_out}"


_WAY_OUT = {
    "max_batch_size": "give it to append_worker, or as max_batch_size in [stages.NAME]",
}


def _is_same(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


def _method_fault(owner: Any, name: str, count: int) -> str:
    """Return why a stage cannot call the attribute of this name; "" if it can."""
    static = inspect.getattr_static(owner, name)
    if isinstance(static, property):
        return ""
    what = f"{_name_of(owner)}.{name}{_place(static)}"
    if not callable(static) and not hasattr(type(static), "__get__"):
        return f"{what} is {static!r:.80}, which cannot be called; make it a method"
    # A function that a decorator wraps is not checked: the decorator may run it to its end.
    kind = _unfinished(_bare(static))
    if kind:
        advice = _COLLECT if "generator" in kind else _AWAIT
        return f"{what} is {kind}, which is not served: {advice}"
    return _signature_fault(owner, name, static, count, what)


_AWAIT = (
    "write an ordinary `def` that returns the result; what has to be awaited can be run inside, "
    "with asyncio.run(...)"
)
_COLLECT = "write an ordinary `def` that returns the whole result, such as a list"


def _name_of(owner: Any) -> str:
    return owner.__qualname__ if isinstance(owner, type) else type(owner).__qualname__


def _bare(static: Any) -> Any:
    """Return the function inside of partial, method, staticmethod, and the like."""
    while True:
        if isinstance(static, functools.partial | functools.partialmethod):
            static = static.func
        elif isinstance(static, staticmethod | classmethod) or inspect.ismethod(static):
            static = static.__func__
        else:
            return static


def _call_of(callee: Any) -> Any:
    """Return the `__call__` method of an object of the user's class."""
    return None if inspect.isroutine(callee) else inspect.getattr_static(type(callee), _CALL, None)


_CALL = "__call__"


def _unfinished(function: Any) -> str:
    """Return the kind of a function whose call does not compute its result yet, or ""."""
    for one in (function, _call_of(function)):
        if inspect.iscoroutinefunction(one):
            return "an `async def`"
        if inspect.isasyncgenfunction(one):
            return "an asynchronous generator"
        if inspect.isgeneratorfunction(one):
            return "a generator (it has a `yield`)"
    return ""


def _signature_fault(owner: Any, name: str, static: Any, count: int, what: str) -> str:
    try:
        # `__wrapped__` of a decorator is not what is called.
        signature = inspect.signature(getattr(owner, name), follow_wrapped=False)
    except (TypeError, ValueError, AttributeError):  # its signature is not known
        return ""
    bound = not isinstance(owner, type) or isinstance(static, staticmethod | classmethod)
    own = 0 if bound or not hasattr(type(static), "__get__") else 1
    try:
        signature.bind(*range(own + count))
    except TypeError as error:
        wanted = f"def {name}(self, data)" if count else f"def {name}(self)"
        text = f"{what} takes {signature}: {error}; a stage calls it with"
        return f"{text} {'one argument' if count else 'none'}: write   {wanted}:"
    return ""


def _place(static: Any) -> str:
    """Return where a function is defined, as `` (service.py:12)``; "" if that is unknown."""
    function = _bare(static)
    code = getattr(function, "__code__", None) or getattr(_call_of(function), "__code__", None)
    if code is None and isinstance(static, property):
        code = getattr(static.fget, "__code__", None)
    if not code:
        return ""
    file = code.co_filename.rpartition("/")[2]
    return f" ({file}:{code.co_firstlineno})"


# --- facts ---------------------------------------------------------------------------------------


def _content_type(worker: Worker) -> str:
    content_type: object = worker.resp_mime_type
    name = f"{type(worker).__qualname__}.resp_mime_type"
    if not isinstance(content_type, str):
        text = f'{name} must be a text such as "application/json", not {content_type!r:.80}'
        raise StartError(text)
    if len(content_type) > MAX_TYPE_CHARS:
        text = f"{name} has {len(content_type)} characters, and at most {MAX_TYPE_CHARS} are sent"
        raise StartError(f"{text}: {content_type[:40]!r}...")
    if not _TYPE.fullmatch(content_type):
        text = f'{name} must be a content type such as "application/json", in ASCII, on one line'
        raise StartError(f"{text}, not {content_type!r}")
    return str(content_type)


def _wants_meta(worker: Worker) -> bool:
    wants: object = worker.wants_meta
    if not isinstance(wants, bool):
        name = f"{type(worker).__qualname__}.wants_meta"
        raise StartError(f"{name} must be True or False, not {wants!r:.80}")
    return wants


def _schema(worker: Worker) -> str:
    name = f"{type(worker).__qualname__}.get_forward_json_schema"
    try:
        schemas = [worker.get_forward_json_schema(of, _TEMPLATE) for of in ("INPUT", "RETURN")]
        if not all(map(_is_schema, schemas)):
            raise StartError(f"{name} must return two dicts, not {schemas[0]!r:.80}")
        if not any(schema for schema, _ in schemas):
            return ""
        text = json.dumps(schemas, allow_nan=False)
    except StartError:
        raise
    except Exception as error:
        raise StartError(f"{name} failed: {type(error).__name__}: {error}") from error
    if len(text) > MAX_SCHEMA_BYTES:
        raise StartError(f"{name} makes {len(text)} bytes; at most {MAX_SCHEMA_BYTES} are sent")
    return text


def _is_schema(schema: object) -> bool:
    pair = isinstance(schema, tuple | list) and len(schema) == 2
    return pair and all(isinstance(part, dict) for part in schema)  # type: ignore[attr-defined]
