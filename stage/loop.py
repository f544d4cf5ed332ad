"""The poll loop of a replica, and how it changes hands while the worker computes.

User code runs on the main thread only. While nothing computes the main thread also turns the
node: a lone request then wakes one thread, not two. While a forward lasts, the *stand-in*, a
second thread, turns it now and then: it receives the next batch, renews credit, answers heartbeats,
drops what was cancelled, and notices stop signals and its parent's order to stop.
Waking it for each message that comes would cost more than what the messages ask for, and none of
that is wanted before the forward ends. Only while something is pressing (`Replica.is_pressed`) does
it see to each at once.

The loop has one owner at a time. `_lock` covers the sockets and all pure state, and is held
through the poll. Who wants it sets `_wanted`, writes the wake descriptor and acquires; who polls
tests `_wanted` before every poll. In another order the taker waits for the poller's whole timeout.
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
from mesh.transport.zeromq import ZmqNetwork
from stage.batching.batcher import Batch
from stage.batching.estimates import LONG_FORWARD_S
from stage.item_outcome import ItemOutcome
from stage.replica import Replica
from stage.results import results_of
from stage.runner import Runner

FIRST_LOOK_S = 0.020  # seconds of a forward after which the stand-in looks in for the first time
LOOK_INTERVAL_S = (
    0.050  # seconds from one look to the next; it delays PING, and so what is known of a link
)
EARLY_S = 0.002  # seconds before a forward's expected end that it looks in, if it is awake then
PROMPT_FORWARD_S = 0.005  # seconds of a forward that outcomes of the one before need not wait for
IDLE_AFTER_S = 1.0  # seconds without a forward after which the stand-in waits without a timeout
MAX_POLL_S = 1.0
AGE_CHECK_S = 0.1  # seconds between looks at a long forward's age
STALL_S = 0.1  # seconds that a wait may end late; if more, the process stood still meanwhile
_TOO_LONG = (
    "forward took longer than {:g} s; raise the stage's timeout: append_worker(timeout=...), or "
    "timeout in [stages.{}]; and where it is set the request's: --timeout, or timeout in [gateway]"
)
SIGNAL_CHECK_S = 1.0  # seconds after which it is looked whether the worker took the signals


class Loop:
    """Turns a replica until it is told to stop and has drained.

    A stop signal that somebody sent may have gone to every process of the service. So the
    supervisor is asked, which orders this replica to drain when it is its turn (`stop`).

    Args:
        runner: computes.
        log: for lifecycle events.
        limit: seconds that one forward may take.
        kill_grace: seconds that a forward over its limit may ignore that.
        stops: the stop signals to be taken.
        ask: tells the supervisor of one; False if there is none that would order us to drain.
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
        self._signals_due = 0.0  # when to look whether they are still ours
        self._stops = frozenset(stops)
        self._first_stop: float | None = None  # when the first stop signal came
        self._drain_until = float("inf")
        self._epoll.register(self._wake, select.EPOLLIN)
        self._epoll.register(self._signals, select.EPOLLIN)
        self._ready: list[int] = []
        self._polled = 0.0  # when the descriptors were last asked
        self._posted: list[Callable[[float], None]] = []
        self._computing = False
        self._began = 0.0  # when the forward that runs did
        self._last_forward = 0.0
        self._expected = (
            FIRST_LOOK_S  # seconds of the forward that ran last, if it was no short one
        )
        self._look_at = 0.0  # when the stand-in looks in
        self._stand_in_sleeps = False
        self._interrupted = False
        self._closing = False
        self._main = threading.get_ident()
        self._undo = in_child(self._abandon)

    def watch(self, fd: int) -> None:
        """The network has a descriptor to be polled."""
        self._epoll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """It has one less."""
        self._epoll.unregister(fd)

    def post(self, call: Callable[[float], None]) -> None:
        """Have `call(now)` made by whoever turns the loop; from any thread."""
        self._posted.append(call)
        os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """Drain, as the parent orders or because it is gone; from any thread."""
        self.post(self._drain)
        os.eventfd_write(self._nudge, 1)

    # --- the main thread -------------------------------------------------------------------------

    def run(self, replica: Replica, network: ZmqNetwork, grace: float) -> None:
        """Serve until `stop`, or a stop signal where nobody is asked, then drain.

        Args:
            replica: decides.
            network: carries; it was given `watch` and `unwatch` of this object.
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
        """Seconds of the grace that draining has not used up."""
        return max(0.0, min(grace, self._drain_until - monotonic()))

    def close(self) -> None:
        """Give the descriptors back."""
        self._undo()
        self._held.release()
        self._close_descriptors()

    def _abandon(self) -> None:
        """In a forked child: leave the parent's loop alone, also if the child comes back here."""
        self._lock = Tripwire()
        self._runner.abandon()
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        self._epoll.close()
        for fd in (self._wake, self._nudge, self._signals, self._signals_in):
            os.close(fd)

    def _serve(self) -> None:
        replica = self._replica
        rested = False  # nothing waits, and since the node was flushed nothing has come
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
                    ):  # one that never rests must hear all, too
                        self._poll(now, 0.0)
                    rested = self._run(batch, now)
                    continue
                self._node.flush(now)
            if now >= self._runner.failures.limit.due:
                self._runner.failures.tell_left_out(now)
            self._poll(now)
            rested = False
        replica.part(monotonic())
        self._linger()

    def _run(self, batch: Batch, now: float) -> bool:
        """Compute a batch; returns whether all that follows from it was seen to."""
        seconds = self._replica.batcher.predict(len(batch.tasks))
        if seconds >= PROMPT_FORWARD_S:
            # With the next batch chosen first, one flush serves what was and what will be.
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
        """Let BYE arrive, and hear it answered."""
        until = monotonic() + 0.25
        while self._replica.links.sessions and monotonic() < until:
            now = monotonic()
            self._turn(now)
            self._poll(now, 0.02)

    def _compute(self, batch: Batch, seconds: float) -> None:
        """Run a batch, for so many seconds as is expected, with the loop in other hands."""
        self._interrupted = False
        self._began = self._last_forward = monotonic()
        self._expected = seconds
        self._look_at = self._began + min(FIRST_LOOK_S, seconds - EARLY_S, self._limit)
        self._computing = True
        # A short forward counts as one of LOOK_IN: what is pressing can wait for its end.
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
        """What ran is done, unless a bundle of singles turned out slow: its rest waits again."""
        replica, runner, now = self._replica, self._runner, monotonic()
        if now - self._began >= FIRST_LOOK_S or not self._held.are_intact():
            self._signals_due = now  # a look costs little beside it
        if runner.todo:
            replica.cut_short([], 0.0, runner.give_up())
        batch = replica.running  # may be less than it was: see `_cut_short`
        assert batch is not None
        replica.finished(results_of(batch, items[-len(batch.tasks) :]), now - self._began)
        runner.clear()

    def _take_loop(self) -> None:
        """Have the stand-in let go of it."""
        self._wanted = True
        os.eventfd_write(self._wake, 1)
        self._lock.acquire()
        self._wanted = False

    # --- whoever has the loop --------------------------------------------------------------------

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
        """Wait for something to happen, at most until something is due."""
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
            os._exit(128 + number)  # somebody means it: at once

    def _drain(self, now: float) -> None:
        if self._replica.draining:
            return
        self._drain_until = now + self._grace
        self._log.info("draining, %d tasks waiting", len(self._replica.batcher))
        self._replica.drain(now)

    # --- the second thread -----------------------------------------------------------------------

    def _guarded_stand_in(self) -> None:
        """Without it nobody would hear signals or limits during a forward: better none at all."""
        try:
            self._stand_in()
        except BaseException:  # noqa: BLE001 - whatever it is, nobody else sees it
            self._log.critical("a fault of ours: this replica ends", exc_info=True)
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
        """Seconds until it looks in; while nothing is computed, at the end of the next forward."""
        return (
            max(0.001, self._look_at - now)
            if self._computing
            else min(FIRST_LOOK_S, self._expected)
        )

    def _yield_to_main(self, waiting: select.poll) -> None:
        """A signal came while the main thread has the loop: it sees it, too."""
        waiting.unregister(self._signals)
        waiting.poll(FIRST_LOOK_S * 1000)
        waiting.register(self._signals, select.POLLIN)

    def _turn_meanwhile(self, late: float) -> None:
        """Turn the loop while the main thread computes; this thread came `late` seconds late."""
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
        """The forward is not to blame for the time that the process stood still (SIGSTOP, a pause).

        Nor for time in which it held the interpreter's lock, which looks the same from here: for
        that one who does not let it go there is the supervisor.
        """
        if late > STALL_S and self._began <= monotonic() - late:
            self._began += late

    def _relieve(self, now: float) -> None:
        """The forward turned out long: what need not wait for it goes."""
        batch = self._replica.running
        # Both are the case from the start of a run to its end; of one not yet begun nothing is.
        if batch is not None and batch.tasks is self._runner.tasks and len(batch.tasks) > 1:
            self._cut_short(batch)
        self._replica.relieve(now)

    def _cut_short(self, batch: Batch) -> None:
        """Part with what of a bundle of singles is done, and with what was not begun."""
        unbegun = self._runner.give_up()
        done = batch.tasks[: len(batch.tasks) - len(unbegun) - 1]  # one more runs, or just ended
        items = self._runner.done[: len(done)]
        seconds = sum([item.seconds for item in items])
        self._began += seconds
        results = results_of(batch._replace(tasks=done), items)
        self._replica.cut_short(results, seconds, unbegun)

    def _until_look(self, now: float) -> float:
        """Seconds until the forward's age must be looked at again."""
        age = now - self._began
        if age < LONG_FORWARD_S:
            return LONG_FORWARD_S - age
        return max(0.01, min(AGE_CHECK_S, self._limit - age))

    def _judge(self, now: float) -> None:
        """A forward that outlives its limit is interrupted; one that ignores that ends us all."""
        age = now - self._began
        if not self._computing or age < self._limit:
            return
        if age < self._limit + self._kill_grace:
            if not self._interrupted:
                self._interrupted = True
                self._send_interrupt()
            return
        self._runner.tell_ignored(self._limit, self._main)
        kill_group()

    def _send_interrupt(self) -> None:
        if self._held.holds(signal.SIGUSR1):
            signal.pthread_kill(self._main, signal.SIGUSR1)
        else:  # by somebody else's handler, or by none, it would end who knows what
            self._log.warning("forward cannot be interrupted: it replaced what SIGUSR1 does")

    def _interrupt(self, number: int, frame: object) -> None:
        """On the main thread, between two of its instructions."""
        if not self._computing or monotonic() - self._began < self._limit:
            return  # what was meant ended just then
        if self._runner.interruptible:
            raise ForwardTimeout(_TOO_LONG.format(self._limit, self._replica.facts.name))
