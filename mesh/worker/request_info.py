"""What a worker may know of the requests it computes, and what its answer may say over HTTP. Pure.

`Worker.requests` holds the first, made only on access; a `Reply` is the second.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Final, overload

from mesh.errors import EncodingError
from mesh.protocol.messages import RequestId, Task
from mesh.protocol.request_names import namer


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """One request, as a worker sees it.

    Attributes:
        id: the ``X-Request-ID`` of its answer, which is the client's own where it sent one; "" when
            an example is run.
        trace: the client's ``traceparent``, "" if it sent none.
        budget: seconds left until the client is told that it took too long; never below 0.
        method: ``"POST"``, ... This and what follows is known only where the worker sets
            `wants_meta`, else it is "" or empty.
        path: of the URL, as it was sent.
        query: what follows the ``?``, as it was sent.
        headers: name and value of each, in the order in which they came.
    """

    id: str = ""
    trace: str = ""
    budget: float = float("inf")
    method: str = ""
    path: str = ""
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class Requests(Sequence[RequestFacts]):
    """The requests of one `forward`, in the order of its inputs. Costs nothing until it is read.

    Args:
        tasks: what is computed.
        clock: the monotonic time, in seconds, that the tasks' deadlines are in.

    Example:
        >>> task = Task(255, 7, (("a", ""),), 0, 1, 9.0, [b""], 0)
        >>> Requests([task], lambda: 8.5)[0]
        RequestFacts(id='d215dff25418d92a', trace='', budget=0.5, method='', path='', ...)
    """

    __slots__ = ("_clock", "_tasks")

    def __init__(self, tasks: Sequence[Task], clock: Callable[[], float]) -> None:
        """Keep what is needed to answer later."""
        self._tasks, self._clock = tasks, clock

    def __len__(self) -> int:
        """How many there are."""
        return len(self._tasks)

    @overload
    def __getitem__(self, which: int) -> RequestFacts: ...

    @overload
    def __getitem__(self, which: slice) -> list[RequestFacts]: ...

    def __getitem__(self, which: int | slice) -> RequestFacts | list[RequestFacts]:
        """One, or a list of some."""
        if isinstance(which, slice):
            return [self._facts(task) for task in self._tasks[which]]
        return self._facts(self._tasks[which])

    def _facts(self, task: Task) -> RequestFacts:
        name = name_of_request(task)
        budget = max(0.0, task.deadline - self._clock())
        meta = task.meta
        if meta is None:
            return RequestFacts(name, task.trace or "", budget)
        return RequestFacts(
            name, task.trace or "", budget, meta.method, meta.path, meta.query, meta.headers
        )


def name_of_request(task: Task) -> str:
    """The ``X-Request-ID`` of the answer that a task's request will have.

    Example:
        >>> name_of_request(Task(255, 7, (("a", ""),), 0, 1, 9.0, [b""], 0))
        'd215dff25418d92a'
    """
    return task.request_id or name_of_id((task.owner, task.number))


def name_of_id(request: RequestId) -> str:
    """The ``X-Request-ID`` of a request whose client sent none."""
    owner, number = request
    return namer(owner)(number).decode("ascii")


def requests_text(names: Sequence[str], longest: int = 1024) -> str:
    """Requests in a sentence of a log; "" if there are none.

    Args:
        names: as their clients know them.
        longest: characters beyond which they are counted.

    Example:
        >>> requests_text(["a-7", "63d2-9", "b-8"], longest=10)
        'requests a-7, 63d2-9 and 1 more'
    """
    shown, room = [], longest
    for name in names:
        if room <= 0:
            break
        shown.append(name)
        room -= len(name) + 2
    rest = len(names) - len(shown)
    more = f" and {rest} more" if rest else ""
    return f"request{'s' * (len(names) > 1)} {', '.join(shown)}{more}" if names else ""


@dataclass(frozen=True, slots=True)
class Reply:
    """A result that also says how its HTTP answer shall look: for the last stage of a route.

    Attributes:
        value: what `serialize` turns into the body. Where `content_type` is given and `serialize`
            is not overridden, bytes are the body as they are; a text is, too, unless that is JSON.
        status: from 200 to 599; a `http.HTTPStatus` or another whole number will do.
        headers: further headers; a whole number as a value becomes text. Those that the gateway
            itself writes are refused.
        content_type: of the body; None means the worker's `resp_mime_type`.

    Raises:
        EncodingError: a status out of that range, or a header that is no text.

    Example:
        >>> Reply({"id": 5}, status=201, headers={"Location": "/things/5"}).status
        201
    """

    value: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no message could carry, where it was written."""
        if type(self.status) is not int:
            object.__setattr__(self, "status", _whole_number(self.status))
        if not 200 <= self.status <= 599:
            raise EncodingError(f"a Reply's status is from 200 to 599, not {self.status!r}")
        if self.headers:
            object.__setattr__(self, "headers", _texts(self.headers))
        if not isinstance(self.content_type, str | None):
            raise _no_text(self.content_type)


def check_header(name: str, value: str) -> None:
    """Refuse what would let a worker's header split the answer or contradict its framing.

    Raises:
        EncodingError: says which header, and what is wrong with it.
    """
    if not _TOKEN.fullmatch(name):
        raise EncodingError(f"a worker set a header with the malformed name {name!r}")
    if not _VALUE.fullmatch(value):
        raise EncodingError(f"a worker set the header {name} to a value with forbidden characters")
    if name.lower() in _RESERVED:
        raise EncodingError(f"a worker set the header {name}, which belongs to the gateway")


_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t -~\x80-\xff]*")
# What the gateway writes itself, or what would change where the answer ends.
_RESERVED: Final = frozenset(
    {
        "connection",
        "content-length",
        "keep-alive",
        "server-timing",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-request-id",
    }
)


def _whole_number(status: object) -> int:
    """An `HTTPStatus` or one of numpy's numbers as an int; a bool is none."""
    try:
        if not isinstance(status, bool):
            return operator.index(status)  # type: ignore[arg-type]
    except TypeError:
        pass
    raise EncodingError(f"a Reply's status is from 200 to 599, not {status!r}")


def _texts(headers: object) -> dict[str, str]:
    if not isinstance(headers, Mapping):
        raise EncodingError(f"a Reply's headers are a dict of texts, not {headers!r:.80}")
    for name, value in headers.items():
        is_number = isinstance(value, Integral) and not isinstance(value, bool)
        if not isinstance(name, str) or not (is_number or isinstance(value, str)):
            raise _no_text(value if isinstance(name, str) else name)
    return {str(name): str(value) for name, value in headers.items()}


def _no_text(part: object) -> EncodingError:
    return EncodingError(f"a Reply's headers and content type are texts, not {part!r:.80}")
