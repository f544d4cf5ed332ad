"""The poll loop of a replica, which a second thread runs while the worker computes.

User code runs on the main thread only. While the worker is idle, the main thread also runs the
node's turns, so a lone request wakes one thread, not two. During a forward a second thread, the
*stand-in*, runs a turn now and then: it receives the next batch, renews credit, answers heartbeats,
drops cancelled tasks, and notices stop signals and the parent's order to stop. Waking it for each
message would cost more than the messages are worth, since nothing of this is urgent before the
forward ends. It handles each message at once only while something is urgent
(`Replica.is_pressed`).

The loop has one owner at a time. `_lock` covers the sockets and all pure state, and is held during
the poll. A thread that wants the loop sets `_wanted`, writes the wake descriptor, then acquires the
lock; the owner tests `_wanted` before every poll. In any other order, the thread could wait for the
owner's whole poll timeout.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
from collections.abc import Callable, Sequence
from time import monotonic

from mesh.errors import ForwardTimeout
from mesh.links.node import Node
from mesh.log import flush
from mesh.process.fork import Tripwire, in_child
from mesh.process.parent_link import kill_group
from mesh.process.signals import SAME_STOP_S, STOP_SIGNALS, HeldSignals
from mesh.transport.network import Network
from stage.batching.batcher import Batch
from stage.batching.estimates import LONG_FORWARD_S
from stage.item_outcome import ItemOutcome
from stage.replica import Replica
from stage.results import results_of
from stage.runner import Runner

FIRST_LOOK_S = 0.020  # age of a forward at the stand-in's first turn
LOOK_INTERVAL_S = 0.050  # between its further turns; it delays PING and measured round trips
EARLY_S = 0.002  # how long before a forward's expected end it runs a turn, if it is awake
PROMPT_FORWARD_S = 0.005  # before a longer forward, the outcomes of the last one are sent first
IDLE_AFTER_S = 1.0  # after so long without a forward, the stand-in waits without a timeout
MAX_POLL_S = 1.0
AGE_CHECK_S = 0.1  # interval of the checks of a long forward's age
STALL_S = 0.1  # a wait that ends later than this means that the process stood still
_TOO_LONG = (
    "forward took longer than {:g} s; raise the stage's timeout: append_worker(timeout=...), or "
    "timeout in [stages.{}]; and where it is set the request's: --timeout, or timeout in [gateway]"
)
SIGNAL_CHECK_S = 1.0  # interval of the checks whether the worker replaced our signal handlers


class Loop:
    """Runs a replica until it is ordered to stop and has drained.

    A stop signal may have been sent to every process of the service at once. So the replica reports
    it to the supervisor, which orders the replica to drain when it is its turn (`stop`).

    Args:
        runner: runs the worker.
        log: for lifecycle events.
        limit: seconds that one forward may take.
        kill_grace: seconds that a forward may go on after it was interrupted at its limit.
        stops: the stop signals to handle.
        ask: reports a stop signal to the supervisor; returns False if there is none to order us.
    """

    def __init__(
        self,
        runner: Runner,
        log: logging.Logger,
        limit: float,
        kill_grace: float,
        stops: Sequence[signal.Signals] = STOP_SIGNALS,
        ask: Callable[[], bool] = lambda: False,
    ) -> None:
        self._runner = runner
        self._log = log
        self._limit = limit
        self._kill_grace = kill_grace
        self._ask = ask
        self._lock: threading.Lock | Tripwire = threading.Lock()
        self._wanted = False
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._nudge = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._signals, self._signals_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        reactions = {signal.SIGUSR1: self._interrupt}
        self._held = HeldSignals(stops, reactions, self._signals_in)
        self._signals_due = 0.0  # when to check our signal handlers next
        self._stops = frozenset(stops)
        self._first_stop: float | None = None  # when the first stop signal came
        self._drain_until = float("inf")
        self._epoll.register(self._wake, select.EPOLLIN)
        self._epoll.register(self._signals, select.EPOLLIN)
        self._ready: list[int] = []
        self._polled = 0.0  # when the descriptors were last polled
        self._posted: list[Callable[[float], None]] = []
        self._computing = False
        self._began = 0.0  # when the running forward began
        self._last_forward = 0.0
        self._expected = FIRST_LOOK_S  # expected seconds of the running forward, or of the last one
        self._look_at = 0.0  # when the stand-in runs its next turn
        self._stand_in_sleeps = False
        self._interrupted = False
        self._closing = False
        self._main = threading.get_ident()
        self._undo = in_child(self._abandon)

    def watch(self, fd: int) -> None:
        """Poll a descriptor of the network."""
        self._epoll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """Stop polling a descriptor."""
        self._epoll.unregister(fd)

    def post(self, call: Callable[[float], None]) -> None:
        """Run `call(now)` on the thread that owns the loop; callable from any thread."""
        self._posted.append(call)
        os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """Start draining, by order of the parent or because it is gone; from any thread."""
        self.post(self._drain)
        os.eventfd_write(self._nudge, 1)

    # --- the main thread -------------------------------------------------------------------------

    def run(self, replica: Replica, network: Network, grace: float) -> None:
        """Serve until `stop`, or until a stop signal where there is no supervisor; then drain.

        Args:
            replica: the decisions.
            network: the network, constructed with `watch` and `unwatch` of this object.
            grace: seconds that draining may take.
        """
        self._replica = replica
        self._network = network
        self._node = Node(replica, network)
        self._grace = grace
        self._held.take()
        stand_in = threading.Thread(target=self._guarded_stand_in, name="stand-in", daemon=True)
        stand_in.start()
        try:
            with self._lock:
                self._serve()
        finally:
            self._closing = True
            os.eventfd_write(self._nudge, 1)
            stand_in.join()

    def left(self, grace: float) -> float:
        """Return how many seconds of `grace` draining has left."""
        return max(0.0, min(grace, self._drain_until - monotonic()))

    def close(self) -> None:
        """Restore the signal handlers and close the descriptors."""
        self._undo()
        self._held.release()
        self._close_descriptors()

    def _abandon(self) -> None:
        """Detach a forked child from the parent's loop, even if the child returns into it."""
        self._lock = Tripwire()
        self._runner.abandon()
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        self._epoll.close()
        for fd in (self._wake, self._nudge, self._signals, self._signals_in):
            os.close(fd)

    def _serve(self) -> None:
        replica = self._replica
        rested = False  # whether nothing waits, and nothing has come since the last flush
        while not self._is_over():
            now = monotonic()
            if now >= self._signals_due:
                self._signals_due = now + SIGNAL_CHECK_S
                self._held.retake()
            ready, self._ready = self._ready, []
            posted = bool(self._posted) and self._run_posted(now)
            if self._node.receive(now, ready) or posted or not rested:
                batch = replica.next_batch(now)
                if batch is not None:
                    if (
                        now - self._polled >= FIRST_LOOK_S
                    ):  # a replica under constant load must poll all descriptors, too
                        self._poll(now, 0.0)
                    rested = self._run(batch, now)
                    continue
                self._node.flush(now)
            if now >= self._runner.failures.limit.due:
                self._runner.failures.log_left_out(now)
            self._poll(now)
            rested = False
        replica.part(monotonic())
        self._linger()

    def _run(self, batch: Batch, now: float) -> bool:
        """Compute a batch; return whether its outcomes were flushed and nothing waits."""
        seconds = self._replica.batcher.predict(len(batch.tasks))
        if seconds >= PROMPT_FORWARD_S:
            # The next batch is already chosen, so one flush sends the last outcomes and new credit.
            self._node.flush(now)
            self._compute(batch, seconds)
            return False
        self._compute(batch, FIRST_LOOK_S)
        self._node.flush(monotonic())
        return not self._replica.batcher.line.count

    def _is_over(self) -> bool:
        if not self._replica.draining:
            return False
        return self._replica.is_done() or monotonic() >= self._drain_until

    def _linger(self) -> None:
        """Wait a moment for BYE to arrive and to be answered."""
        until = monotonic() + 0.25
        while self._replica.links.sessions and monotonic() < until:
            now = monotonic()
            self._turn(now)
            self._poll(now, 0.02)

    def _compute(self, batch: Batch, seconds: float) -> None:
        """Run a batch, expected to take `seconds`, while the stand-in has the loop."""
        self._interrupted = False
        self._began = self._last_forward = monotonic()
        self._expected = seconds
        self._look_at = self._began + min(FIRST_LOOK_S, seconds - EARLY_S, self._limit)
        self._computing = True
        # During a short forward even urgent messages wait; `seconds` is then FIRST_LOOK_S.
        if self._stand_in_sleeps or (seconds > FIRST_LOOK_S and self._replica.is_pressed()):
            os.eventfd_write(self._nudge, 1)
        self._lock.release()
        try:
            items = self._runner.run(batch.tasks)
        finally:
            self._computing = False
            if not self._lock.acquire(blocking=False):
                self._take_loop()
        self._finish(items)

    def _finish(self, items: list[ItemOutcome]) -> None:
        """Report the results of a run. Singles of a slow bundle that did not start wait again."""
        replica, runner, now = self._replica, self._runner, monotonic()
        if now - self._began >= FIRST_LOOK_S or not self._held.are_intact():
            self._signals_due = now  # after a long forward, the check costs little in comparison
        if runner.todo:
            replica.cut_short([], 0.0, runner.give_up())
        batch = replica.running  # may be smaller than at the start: see `_cut_short`
        assert batch is not None
        replica.finished(results_of(batch, items[-len(batch.tasks) :]), now - self._began)
        runner.clear()

    def _take_loop(self) -> None:
        """Take the loop back from the stand-in."""
        self._wanted = True
        os.eventfd_write(self._wake, 1)
        self._lock.acquire()
        self._wanted = False

    # --- the thread that has the loop -----------------------------------------------------------

    def _turn(self, now: float) -> None:
        ready, self._ready = self._ready, []
        self._run_posted(now)
        self._node.receive(now, ready)
        self._node.flush(now)

    def _run_posted(self, now: float) -> bool:
        while self._posted:
            self._posted.pop(0)(now)
        return True

    def _poll(self, now: float, longest: float = MAX_POLL_S) -> None:
        """Wait for a descriptor, at most until something is due."""
        self._polled = now
        pending = self._network.is_pending() or self._posted
        timeout = 0.0 if pending else max(0.0, min(self._node.next_due() - now, longest))
        if self._wanted:
            return
        for fd, _ in self._epoll.poll(timeout):
            if fd == self._wake:
                os.eventfd_read(self._wake)
            elif fd == self._signals:
                self._read_signals()
            else:
                self._ready.append(fd)

    def _read_signals(self) -> None:
        for number in os.read(self._signals, 64):
            if number in self._stops:
                self._stop_signal(number, monotonic())

    def _stop_signal(self, number: int, now: float) -> None:
        if self._first_stop is None:
            self._first_stop = now
            if not self._ask():
                self._drain(now)
        elif now >= self._first_stop + SAME_STOP_S:
            flush()
            os._exit(128 + number)  # a second, separate stop signal means: stop at once

    def _drain(self, now: float) -> None:
        if self._replica.draining:
            return
        self._drain_until = now + self._grace
        self._log.info("draining, %d tasks waiting", len(self._replica.batcher))
        self._replica.drain(now)

    # --- the second thread -----------------------------------------------------------------------

    def _guarded_stand_in(self) -> None:
        """Run the stand-in, and end the replica if it fails: without it, signals and limits would
        be ignored during a forward."""
        try:
            self._stand_in()
        except BaseException:  # noqa: BLE001 - no other place sees an exception of this thread
            self._log.critical("internal error; terminating this replica", exc_info=True)
            kill_group()

    def _stand_in(self) -> None:
        waiting = select.poll()
        waiting.register(self._nudge, select.POLLIN)
        waiting.register(self._signals, select.POLLIN)
        while not self._closing:
            slept = monotonic()
            self._stand_in_sleeps = slept - self._last_forward > IDLE_AFTER_S
            deep = self._stand_in_sleeps and not self._computing
            nap = self._nap(slept)
            woken = {fd for fd, _ in waiting.poll(None if deep else nap * 1000)}
            late = 0.0 if deep else monotonic() - slept - nap
            self._stand_in_sleeps = False
            if self._nudge in woken:
                os.eventfd_read(self._nudge)
            if not self._computing:
                if self._signals in woken:
                    self._yield_to_main(waiting)
            elif woken or monotonic() >= self._look_at:
                self._turn_meanwhile(late)

    def _nap(self, now: float) -> float:
        """Return the seconds until the next turn; while idle, a typical forward's duration."""
        return (
            max(0.001, self._look_at - now)
            if self._computing
            else min(FIRST_LOOK_S, self._expected)
        )

    def _yield_to_main(self, waiting: select.poll) -> None:
        """Leave a signal to the main thread, which has the loop and reads the same pipe."""
        waiting.unregister(self._signals)
        waiting.poll(FIRST_LOOK_S * 1000)
        waiting.register(self._signals, select.POLLIN)

    def _turn_meanwhile(self, late: float) -> None:
        """Run turns while the main thread computes; this thread woke `late` seconds late."""
        with self._lock:
            self._excuse(late)
            self._poll(monotonic(), 0.0)
            while self._computing and not self._wanted:
                now = monotonic()
                if now - self._began >= LONG_FORWARD_S:
                    self._relieve(now)
                self._turn(now)
                self._judge(now)
                ahead = self._began + self._expected - EARLY_S - now
                pause = self._until_look(now)
                self._look_at = now + min(
                    pause, LOOK_INTERVAL_S, ahead if ahead > 0 else LOOK_INTERVAL_S
                )
                if not self._replica.is_pressed():
                    break
                self._poll(now, pause)
                self._excuse(monotonic() - now - pause)

    def _excuse(self, late: float) -> None:
        """Deduct from the forward's age the time that the process stood still (SIGSTOP, a pause).

        A forward that held the interpreter's lock looks the same from here. The supervisor handles
        one that never releases it.
        """
        if late > STALL_S and self._began <= monotonic() - late:
            self._began += late

    def _relieve(self, now: float) -> None:
        """Let tasks leave that need not wait for a long forward."""
        batch = self._replica.running
        # The runner has this batch's tasks only between the start and the end of its run.
        if batch is not None and batch.tasks is self._runner.tasks and len(batch.tasks) > 1:
            self._cut_short(batch)
        self._replica.relieve(now)

    def _cut_short(self, batch: Batch) -> None:
        """Release the finished singles of a bundle, and those that did not start."""
        unbegun = self._runner.give_up()
        done = batch.tasks[: len(batch.tasks) - len(unbegun) - 1]  # one more runs or just ended
        items = self._runner.done[: len(done)]
        seconds = sum([item.seconds for item in items])
        self._began += seconds
        results = results_of(batch._replace(tasks=done), items)
        self._replica.cut_short(results, seconds, unbegun)

    def _until_look(self, now: float) -> float:
        """Return the seconds until the forward's age must be checked again."""
        age = now - self._began
        if age < LONG_FORWARD_S:
            return LONG_FORWARD_S - age
        return max(0.01, min(AGE_CHECK_S, self._limit - age))

    def _judge(self, now: float) -> None:
        """Interrupt a forward at its limit; kill this process group if it ignores that."""
        age = now - self._began
        if not self._computing or age < self._limit:
            return
        if age < self._limit + self._kill_grace:
            if not self._interrupted:
                self._interrupted = True
                self._send_interrupt()
            return
        self._runner.log_ignored(self._limit, self._main)
        kill_group()

    def _send_interrupt(self) -> None:
        if self._held.holds(signal.SIGUSR1):
            signal.pthread_kill(self._main, signal.SIGUSR1)
        else:  # another handler, or none, would do something else with the signal
            self._log.warning("forward cannot be interrupted: it replaced what SIGUSR1 does")

    def _interrupt(self, number: int, frame: object) -> None:
        """Raise in the running forward; Python calls this on the main thread."""
        if not self._computing or monotonic() - self._began < self._limit:
            return  # the forward that the signal was for has just ended
        if self._runner.interruptible:
            raise ForwardTimeout(_TOO_LONG.format(self._limit, self._replica.facts.name))
