"""The results of a batch: an outcome for the owner, or a task for the next stage. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mesh.protocol.messages import Buffer, Outcome, OutcomeKind, Task
from stage.batching.batcher import Batch

Result = Outcome | Task
TIMED_OUT = "forward_timeout"


class Item(Protocol):
    """The runner's result for one task; see `stage.item_outcome.ItemOutcome`."""

    buffers: list[Buffer]
    code: str
    text: str
    seconds: float
    status: int
    headers: tuple[tuple[str, str], ...]
    content_type: str


def results_of(batch: Batch, items: Sequence[Item]) -> list[Result]:
    """Return one result per task of a batch, in order.

    Args:
        batch: the batch that ran.
        items: the runner's result for each task.
    """
    results: list[Result] = []
    waited = int(batch.waited * 1e6)
    for task, item in zip(batch.tasks, items, strict=True):
        timings = (*task.timings, waited, int(item.seconds * 1e6))
        if item.code:
            results.append(_failure(task, timings, item))
        elif len(task.hops) == 1:
            results.append(
                Outcome(
                    task.number,
                    task.attempt,
                    OutcomeKind.RESULT,
                    task.hop,
                    timings,
                    item.buffers,
                    item.content_type,
                    "",
                    item.status,
                    item.headers,
                )
            )
        else:
            results.append(_forwarding(task, timings, item.buffers))
    return results


def run_again(batch: Batch, results: Sequence[Result], now: float) -> list[Task]:
    """Return the tasks of an interrupted batch that have time left, to run each of them alone.

    One of them took too long, but it is unknown which. A task that ran alone is not returned: it
    has failed.
    """
    first = results[0]
    if len(results) == 1 or batch.single or not _timed_out(first):
        return []
    if not all(map(_timed_out, results)):
        return []
    return [task for task in batch.tasks if task.deadline > now]


def _timed_out(result: Result) -> bool:
    return type(result) is Outcome and result.label == TIMED_OUT


def handed_back(task: Task) -> Outcome:
    """Make the outcome that hands an output back to its owner, which dispatches it."""
    return Outcome(
        task.number, task.attempt, OutcomeKind.HANDBACK, task.hop, task.timings, task.buffers
    )


def unsendable(of: Task | Outcome, hop: int, text: str) -> Outcome:
    """Make the failure of a task or an outcome that no message can carry."""
    timings = of.timings
    return Outcome(
        of.number, of.attempt, OutcomeKind.FAILURE, hop, timings, label="encoding_error", text=text
    )


def _failure(task: Task, timings: tuple[int, ...], item: Item) -> Outcome:
    number, attempt, status, headers = task.number, task.attempt, item.status, item.headers
    failure = item.code, item.text, status, headers
    return Outcome(number, attempt, OutcomeKind.FAILURE, task.hop, timings, item.buffers, *failure)


def _forwarding(task: Task, timings: tuple[int, ...], buffers: list[Buffer]) -> Task:
    return Task(
        task.owner,
        task.number,
        task.hops[1:],
        task.hop + 1,
        task.attempt,
        task.deadline,
        buffers,
        sum(map(len, buffers)),
        task.flags,
        task.priority,
        task.trace,
        timings,
        task.meta,
        task.request_id,
        group=task.group,
    )
