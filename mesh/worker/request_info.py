"""The facts of requests for workers, and `Reply`, which sets status and headers. Pure.

`Worker.requests` creates the facts on access.
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
    """The facts of one request.

    Attributes:
        id: the ``X-Request-ID`` of its answer, which is the client's if it sent one; "" when an
            example runs.
        trace: the client's ``traceparent``, "" if it sent none.
        budget: seconds left until the client gets a timeout; never below 0.
        method: ``"POST"``, ... This attribute and the following ones are known only if the worker
            sets `wants_meta`; otherwise they are "" or empty.
        path: the path of the URL, as the client sent it.
        query: the part of the URL after the ``?``, as the client sent it.
        headers: the name and value of each header, in the order of the request.
    """

    id: str = ""
    trace: str = ""
    budget: float = float("inf")
    method: str = ""
    path: str = ""
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class Requests(Sequence[RequestFacts]):
    """The requests of one `forward`, in the order of its inputs, created on access.

    Args:
        tasks: the tasks being computed.
        clock: returns the monotonic time in seconds, as in the tasks' deadlines.

    Example:
        >>> task = Task(255, 7, (("a", ""),), 0, 1, 9.0, [b""], 0)
        >>> Requests([task], lambda: 8.5)[0]
        RequestFacts(id='d215dff25418d92a', trace='', budget=0.5, method='', path='', ...)
    """

    __slots__ = ("_clock", "_tasks")

    def __init__(self, tasks: Sequence[Task], clock: Callable[[], float]) -> None:
        """Keep the tasks; facts are created on access."""
        self._tasks, self._clock = tasks, clock

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self._tasks)

    @overload
    def __getitem__(self, which: int) -> RequestFacts: ...

    @overload
    def __getitem__(self, which: slice) -> list[RequestFacts]: ...

    def __getitem__(self, which: int | slice) -> RequestFacts | list[RequestFacts]:
        """Return the facts of one request, or a list for a slice."""
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
    """Return the ``X-Request-ID`` that the answer to a task's request will have.

    Example:
        >>> name_of_request(Task(255, 7, (("a", ""),), 0, 1, 9.0, [b""], 0))
        'd215dff25418d92a'
    """
    return task.request_id or name_of_id((task.owner, task.number))


def name_of_id(request: RequestId) -> str:
    """Return the ``X-Request-ID`` of a request whose client sent none."""
    owner, number = request
    return namer(owner)(number).decode("ascii")


def requests_text(names: Sequence[str], longest: int = 1024) -> str:
    """Format request names for a log line; "" if there are none.

    Args:
        names: the ids of the requests, as their clients know them.
        longest: characters after which further requests are only counted.

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
    """A result with the status and headers of its HTTP answer; for the last stage of a route.

    Attributes:
        value: the value that `serialize` converts to the body. If `content_type` is given and
            `serialize` is not overridden, bytes are the body; so is a text, unless the type is
            JSON.
        status: from 200 to 599; an `http.HTTPStatus` or another whole number.
        headers: further headers; a whole number as a value becomes text. Headers that the gateway
            writes itself are refused.
        content_type: the content type of the body; None means the worker's `resp_mime_type`.

    Raises:
        EncodingError: the status is out of range, or a header is not a text.

    Example:
        >>> Reply({"id": 5}, status=201, headers={"Location": "/things/5"}).status
        201
    """

    value: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str | None = None

    def __post_init__(self) -> None:
        """Refuse values that no message can carry, where the worker creates them."""
        if type(self.status) is not int:
            object.__setattr__(self, "status", _whole_number(self.status))
        if not 200 <= self.status <= 599:
            raise EncodingError(f"a Reply's status is from 200 to 599, not {self.status!r}")
        if self.headers:
            object.__setattr__(self, "headers", _texts(self.headers))
        if not isinstance(self.content_type, str | None):
            raise _no_text(self.content_type)


def check_header(name: str, value: str) -> None:
    """Refuse a header of a worker that would split the answer or contradict its framing.

    Raises:
        EncodingError: the text says which header, and what is wrong with it.
    """
    if not _TOKEN.fullmatch(name):
        raise EncodingError(f"a worker set a header with the malformed name {name!r}")
    if not _VALUE.fullmatch(value):
        raise EncodingError(f"a worker set the header {name} to a value with forbidden characters")
    if name.lower() in _RESERVED:
        raise EncodingError(f"a worker set the header {name}, which belongs to the gateway")


_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t -~\x80-\xff]*")
# Headers that the gateway writes itself, or that would change where the answer ends.
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
    """Convert an `HTTPStatus` or one of numpy's numbers to an int; a bool is refused."""
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
