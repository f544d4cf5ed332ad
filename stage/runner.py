"""One batch through the user's worker: one outcome per task, whatever fails.

This module and `item_codec` are the only places that call into a worker. What an item's own
conversion raises, or an exception instance among the results, fails that item alone; only what
`forward` itself raises fails the batch. Between two runs, only the record of what was logged is
kept.

Objects of user code are not trusted: a list may be emptied, a length may be wrong, reading the text
of an exception may raise. So only our own tasks are counted, and the interpreter is asked for
classes (`issubclass(type(x), ...)`), not the object.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

import numpy as np

from mesh.errors import ForwardTimeout, ServerError, StartError
from mesh.logs.failure_text import line_and_place
from mesh.process.batch_record import SIZE, BatchRecord
from mesh.process.fork import Tripwire, end_if_forked
from mesh.protocol.messages import Task
from mesh.worker.base import Worker
from mesh.worker.buffer_ownership import isolate
from mesh.worker.checks import examples_of
from mesh.worker.request_info import RequestFacts, Requests, name_of_request
from stage.batching.estimates import LONG_FORWARD_S
from stage.failures import Failures
from stage.item_codec import ItemCodec
from stage.item_outcome import ItemOutcome
from stage.results import TIMED_OUT

# These end the process, as intended by the code that raises them; all others fail the batch.
_ENDS = (SystemExit, KeyboardInterrupt)
_PASSING = (ForwardTimeout, *_ENDS)


class Runner:
    """Runs a worker, on the thread that constructed it.

    Args:
        worker: the constructed worker of the user.
        batching: whether `forward` takes and returns lists (`max_batch_size` above 1).
        log: receives tracebacks of user code, the same one at most ten times a minute.
        clock: returns monotonic time in seconds.
        batch_record: names the tasks being computed; readable after a crash.
        debug: whether failures carry the exception, for the client.

    Attributes:
        interruptible: whether a signal may raise `ForwardTimeout` now. At any other time it would
            lose finished work.
        tasks: the tasks that run one by one now; `give_up` applies to them.
        todo: the last of these tasks, which did not start.
        done: the outcomes of the first of these tasks.
        failures: judges and logs what the worker raises.

    Example:
        >>> class Upper(Worker):
        ...     def forward(self, data):
        ...         return data.upper()
        >>> runner = Runner(Upper(), batching=False, log=logging.getLogger("stage"))
        >>> task = Task(1, 1, (("upper", ""),), 0, 1, 9.0, [b'"hello"'], 7)
        >>> runner.run([task])[0].buffers
        [b'"HELLO"']
    """

    def __init__(
        self,
        worker: Worker,
        *,
        batching: bool,
        log: logging.Logger,
        clock: Callable[[], float] = time.perf_counter,
        batch_record: BatchRecord | None = None,
        debug: bool = False,
    ) -> None:
        self._worker = worker
        self._record: BatchRecord | Tripwire = batch_record or BatchRecord(bytearray(SIZE))
        self._batching = batching
        self._clock = clock
        self.failures = Failures(log, clock, debug=debug)
        self._codec = ItemCodec(worker, self.failures)
        self.todo: deque[Task] = deque()
        self.tasks: Sequence[Task] = ()
        self.done: list[ItemOutcome] = []
        self.interruptible = False
        self._current: Sequence[Task] = ()  # the tasks being computed

    def in_hand(self) -> list[str]:
        """Return the ids of the requests being computed; callable from any thread."""
        return [name_of_request(task) for task in self._computed()]

    def _computed(self) -> Sequence[Task]:
        batch, done = self._current, len(self.done)
        return batch if self._batching else batch[done : done + 1]  # one by one

    def log_ignored(self, limit: float, thread: int) -> None:
        """Log that the forward on `thread` ignores its limit; called from another thread."""
        self.failures.ignored(limit, self._computed(), thread)

    def warm_up(self) -> int:
        """Run the worker's `multi_examples`, or else its `example`, as they are.

        Returns:
            The number of examples.

        Raises:
            StartError: `forward` failed on one; the text names its exception.
        """
        worker = self._worker
        examples = examples_of(worker)
        for number, example in enumerate(examples, 1):
            self._record.starts(f"in example {number} of {len(examples)}")
            try:
                # With batching, an example should be a list; `forward` judges anything else.
                count = len(example) if self._batching and isinstance(example, list) else 1
                worker.requests = [RequestFacts()] * count
                _refuse_unfinished(worker.forward(example))
            except BaseException as error:
                raise StartError(
                    f"{type(worker).__qualname__} failed on example {number} of {len(examples)}: "
                    f"{line_and_place(error)}"
                ) from error
            finally:
                worker.requests = ()
        self._record.end()
        return len(examples)

    def run(self, tasks: list[Task]) -> list[ItemOutcome]:
        """Compute tasks: together with batching, else one by one.

        A `ForwardTimeout` that a signal raises fails the batch, or the one task that is running.
        `SystemExit` and `KeyboardInterrupt` pass through: they end the process, as they should.
        Until `clear`, the batch record says that these tasks are being computed. If the process
        dies meanwhile, they are the suspects.

        Args:
            tasks: at most `max_batch_size` of them if batching.

        Returns:
            One outcome per task, in order. Without batching, only for the tasks that started: once
            they have taken `LONG_FORWARD_S`, the rest is left to `give_up`.
        """
        self._record.begin(tasks, time.monotonic(), singly=not self._batching)
        self._current = tasks
        try:
            outcomes = self._run_together(tasks) if self._batching else self._run_singly(tasks)
        except _ENDS as error:
            end_if_forked()
            # The tasks stay in the batch record: the supervisor reads there which ones were
            # running.
            dead = tasks if self._batching else tasks[len(self.done) :][:1]
            self.failures.record(error, "the worker ends this replica", dead, traced=True)
            raise
        self._current = ()
        if not self._batching:
            return outcomes
        # The values are released by now, so other references to their arrays are the user's.
        isolate([outcome.buffers for outcome in outcomes])
        return outcomes

    def give_up(self) -> list[Task]:
        """Stop a run of single tasks after the present one; callable from any thread.

        Returns:
            The tasks that did not start. Of the others, all but one are `done`.
        """
        rest: list[Task] = []
        todo = self.todo
        while todo:
            try:
                rest.append(todo.pop())
            except IndexError:  # the other thread took it from the other end meanwhile
                break
        return rest[::-1]

    def clear(self) -> None:
        """Forget the last run: its outcomes are reported, so its tasks are no longer suspects."""
        self.tasks, self.done = (), []
        self._record.end()

    def abandon(self) -> None:
        """Make a forked child end when `forward` returns: the batch record is the parent's."""
        self._record = Tripwire()

    def close(self) -> None:
        """Call the worker's `unload`, and log its exceptions."""
        try:
            self._worker.unload()
        except BaseException as error:  # noqa: BLE001 - the replica is ending anyway
            self.failures.report(error, "unload failed", ())
        self.failures.log_left_out(float("inf"))

    def _run_singly(self, tasks: list[Task]) -> list[ItemOutcome]:
        """Run tasks one by one, until they turn out slow or `give_up` takes the rest."""
        todo = self.todo = deque(tasks)
        done = self.done = []
        task, spent = todo.popleft(), 0.0
        self.tasks = tasks
        while True:
            outcome = self._run_alone(task)
            buffers = outcome.buffers
            if len(buffers) != 1 or type(buffers[0]) is not bytes:
                isolate([buffers])  # the next task may write to the same memory
            done.append(outcome)
            spent += outcome.seconds
            if spent >= LONG_FORWARD_S or outcome.code is TIMED_OUT:
                return done
            if not todo:  # the usual end; an exception would be slower
                return done
            try:
                task = todo.popleft()
            except IndexError:  # the other thread took the task meanwhile
                return done
            self._record.step(len(done))

    def _run_alone(self, task: Task) -> ItemOutcome:
        started = self._clock()
        try:
            self.interruptible = True
            try:
                outcome = self._codec.encode(task, self._ask([task], self._codec.decode(task)))
            except _PASSING:
                raise
            except BaseException as error:  # noqa: BLE001 - any exception fails this task
                outcome = self.failures.outcome(error, [task])
            self.interruptible = False
        except ForwardTimeout as error:
            self.interruptible = False
            outcome = self.failures.timed_out(error, [task])
        outcome.seconds = self._clock() - started
        return outcome

    def _ask(self, tasks: list[Task], given: Any) -> Any:
        """Call `forward`, with the facts of these requests in `worker.requests`."""
        worker = self._worker
        worker.requests = Requests(tasks, time.monotonic)
        try:
            result = worker.forward(given)
            if type(result) in _UNFINISHED:
                _refuse_unfinished(result)
            return result
        finally:
            worker.requests = ()  # frees the payloads before the next forward

    def _run_together(self, tasks: list[Task]) -> list[ItemOutcome]:
        started = self._clock()
        try:
            self.interruptible = True
            outcomes = self._batch(tasks)
            self.interruptible = False
        except ForwardTimeout as error:
            self.interruptible = False
            late = self.failures.timed_out(error, tasks)
            outcomes = [replace(late, buffers=list(late.buffers)) for _ in tasks]
        seconds = self._clock() - started
        for outcome in outcomes:
            outcome.seconds = seconds
        return outcomes

    def _batch(self, tasks: list[Task]) -> list[ItemOutcome]:
        """Decode the tasks, forward those that decoded, encode the results."""
        items = self._decoded(tasks)
        inputs = [item for item in items if type(item) is not ItemOutcome]
        if len(inputs) == len(tasks):
            decoded = tasks
        else:
            pairs = zip(tasks, items, strict=True)
            decoded = [task for task, item in pairs if type(item) is not ItemOutcome]
        results = self._encoded(decoded, self._forward(decoded, inputs) if inputs else ())
        if decoded is tasks:
            return results
        rest = iter(results)
        return [item if type(item) is ItemOutcome else next(rest) for item in items]

    def _decoded(self, tasks: list[Task]) -> list[Any]:
        """Return each task's input, or the `ItemOutcome` of its failure."""
        decode, items = self._codec.decode, []
        for task in tasks:
            try:
                items.append(decode(task))
            except _PASSING:
                raise
            except BaseException as error:  # noqa: BLE001 - any exception fails this item
                items.append(self.failures.outcome(error, [task]))
        return items

    def _encoded(self, tasks: list[Task], results: Sequence[Any]) -> list[ItemOutcome]:
        """Encode the result of each task."""
        encode, outcomes = self._codec.encode, []
        for task, result in zip(tasks, results, strict=False):  # their numbers were checked
            try:
                outcomes.append(encode(task, result))
            except _PASSING:
                raise
            except BaseException as error:  # noqa: BLE001 - any exception fails this item
                outcomes.append(self.failures.outcome(error, [task]))
        return outcomes

    def _forward(self, tasks: list[Task], inputs: list[Any]) -> list[Any]:
        """Run the batch; if it fails, its failure is the result of each input."""
        try:
            return self._checked_forward(tasks, inputs)
        except _PASSING:
            raise
        except BaseException as error:  # noqa: BLE001 - any exception fails the batch
            return [self.failures.outcome(error, tasks)] * len(tasks)

    def _checked_forward(self, tasks: list[Task], inputs: list[Any]) -> list[Any]:
        """Run the batch, and return its results in a list of our own."""
        count = len(tasks)
        results = self._ask(tasks, inputs)
        kind = type(results)
        if not issubclass(kind, list | tuple | np.ndarray):
            name = kind.__name__
            raise ServerError(f"forward returned a {name}; with batching it must return a list")
        if kind in (list, tuple, np.ndarray):
            results = list(results)
        else:  # its items count, not its `len`; and it may never end
            results = list(islice(results, count + 1))
        if len(results) != count:
            raise ServerError(f"forward returned {len(results)} results for {count} inputs")
        return results


_UNFINISHED = frozenset({CoroutineType, GeneratorType, AsyncGeneratorType})


def _refuse_unfinished(result: object) -> None:
    """Raise ServerError for a coroutine or generator, which has computed nothing yet."""
    if type(result) not in _UNFINISHED:
        return
    if not isinstance(result, AsyncGeneratorType):
        result.close()  # type: ignore[attr-defined]  # or Python warns that it was never awaited
    kind = type(result).__name__.replace("_", " ")
    article = "an" if kind[0] == "a" else "a"
    advice = "await it" if isinstance(result, CoroutineType) else "make a list of it"
    raise ServerError(f"forward returned {article} {kind}; {advice} inside of forward")
