"""What a worker may know of the requests it computes, and what its answer may say over HTTP. Pure.

`Worker.requests` holds the first, made only when somebody looks; a `Reply` is the second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from mesh.errors import EncodingError
from mesh.messages import Task


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
        RequestFacts(id='ff-7', trace='', budget=0.5, method='', path='', query='', headers=())
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
        'ff-7'
    """
    return task.request_id or f"{task.owner:x}-{task.number}"


@dataclass(frozen=True, slots=True)
class Reply:
    """A result that also says how its HTTP answer shall look: for the last stage of a route.

    Attributes:
        value: what `serialize` turns into the body.
        status: from 200 to 599.
        headers: further headers. Those that the gateway itself writes are refused.
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
        if type(self.status) is not int or not 200 <= self.status <= 599:
            raise EncodingError(f"a Reply's status is from 200 to 599, not {self.status!r}")
        texts = [text for pair in self.headers.items() for text in pair]
        for text in (*texts, self.content_type or ""):
            if not isinstance(text, str):
                raise EncodingError(f"a Reply's headers and content type are texts, not {text!r}")
