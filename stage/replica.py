"""A replica's decisions: tasks in, batches to the worker, outputs to the next stage. Pure.

A replica holds only copies; the owner gateway keeps the request. A task waits in the batcher, then
runs; its output waits in `Forwarding` for credit, then stays in the session with the next replica
until an ack covers it. Only then does a handoff notice tell the owner who holds the task. The
outcomes and handoff notices of one turn leave in one bundle per owner.

`session.stage` is None if the peer is a producer: a gateway, or a replica that feeds us.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mesh.links.dispatcher import LONG_BATCH_S, MAX_TOLD
from mesh.links.events import (
    Delivery,
    MessageRefused,
    News,
    SessionLost,
    SessionSilent,
    SessionStarted,
)
from mesh.links.links import Links
from mesh.links.session import Session
from mesh.protocol.bundles import refusal
from mesh.protocol.fair_order import in_turns
from mesh.protocol.messages import (
    BatchStats,
    Cancel,
    Flag,
    HandoffNotice,
    Message,
    Outcome,
    OutcomeKind,
    Outcomes,
    Peers,
    RequestId,
    Role,
    StageFacts,
    Task,
    Tasks,
)
from stage.batching.batcher import Batch, Batcher
from stage.batching.estimates import LONG_FORWARD_S
from stage.credentials import judge_tasks
from stage.credit import NEVER, CreditRenewal, ProducerHoldings
from stage.forwarding import Forwarding
from stage.reporting import Reporting
from stage.results import handed_back, run_again, unsendable

PACE_WINDOW = 4  # batches over which the time that they take is averaged
LONG_BATCH_US = LONG_BATCH_S * 1e6


class Replica:
    """All decisions of one replica.

    Args:
        links: the links of this process.
        facts: the facts of its stage.
        batcher: the tasks that wait for the worker.
        gateways: the gateway addresses to dial.
        now: local monotonic time in seconds.

    Attributes:
        running: the batch that is being computed, None while the worker is free.
        held: the tasks and bytes held of each producer.
        reporting: the reports to the owners.
        forwarding: the outputs that wait for the next stage.
        draining: whether new tasks are given back because the replica is stopping.
    """

    def __init__(
        self,
        links: Links,
        facts: StageFacts,
        batcher: Batcher,
        gateways: Iterable[str],
        now: float,
    ) -> None:
        self.links = links
        self.facts = facts
        self.batcher = batcher
        self.running: Batch | None = None
        self.started = 0.0
        self.draining = False
        self.held = ProducerHoldings()
        self.reporting = Reporting(links)
        self.forwarding = Forwarding(links)
        self._gateways = set(gateways)
        self._parted = False
        self._upstream: dict[int, tuple[int, list[str]]] = {}
        self._credit = CreditRenewal(self.held, facts.pool)
        self._is_long = False  # the running forward is long: grant one batch of credit, no more
        self._unwanted: set[RequestId] = set()  # cancelled while a batch runs
        self._dropped = (0, 0)
        self._free_since = now  # when the worker finished its last batch
        self._gathered = 0.0  # how long the worker had been free when the running batch began
        links.load = self._load
        links.load_for = self.held.load_for
        links.gateways = frozenset(self._gateways)
        links.dial(self._gateways, now)

    # --- what comes ------------------------------------------------------------------------------

    def delivered(self, delivery: Delivery, now: float) -> None:
        """Handle a message of a gateway or of another replica."""
        session, covered, message = delivery
        if covered and session.role is Role.REPLICA:
            self._moved_on(session, covered, now)
        if type(message) is Tasks:
            self._take(session, message.tasks, now)
        elif type(message) is Cancel:
            self.cancel([(message.owner, number) for number in message.numbers])
        elif type(message) is Peers:
            self._peers(session, message, now)

    def _take(self, session: Session, tasks: list[Task], now: float) -> None:
        judge_tasks(session, tasks, self.facts.name, self.facts.revision)
        source = session.peer
        for task in tasks:
            task.source = source
        self.batcher.add(tasks, now)
        self.held.add(source, tasks)
        self._credit.used(session)
        if self.draining:
            self._give_back(self.batcher.take_back(0))

    def cancel(self, ids: list[RequestId]) -> None:
        """Drop cancelled requests from every queue here. Outputs that were sent need nothing: after
        their handoff notices, the owner cancels them at the next replica."""
        self.held.release(self.batcher.cancel(ids))
        self.held.release(self.forwarding.cancel(set(ids)))
        if self.running is not None:
            self._unwanted.update(ids)  # their outputs are not forwarded when the batch is done

    def _moved_on(self, session: Session, covered: Sequence[Message], now: float) -> None:
        """Release outputs that the next replica has acked, and send handoff notices for them."""
        for message in covered:
            if type(message) is Tasks:
                tasks = self.forwarding.kept(message.tasks)
                for task in tasks:
                    notice = HandoffNotice(task.number, task.attempt, task.hop, session.peer)
                    self.reporting.notice(task.owner, notice, now)
                self.held.release(tasks)
        if self.draining:
            self.reporting.hurry(now)

    def _peers(self, session: Session, peers: Peers, now: float) -> None:
        known = self._upstream.get(session.peer)
        if known is None or peers.version >= known[0]:
            addresses = [peer.address for peer in peers.peers]
            self._upstream[session.peer] = peers.version, addresses
            self._redial(now)

    def _redial(self, now: float) -> None:
        if self._parted:  # a new session now would look like a death when the process exits
            return
        named = in_turns([addresses for _, addresses in self._upstream.values()])
        self.links.dial(self._gateways, now, named)

    def know_gateways(self, addresses: Iterable[str], now: float) -> None:
        """Replace the list of gateways by what discovery found."""
        self._gateways = set(addresses)
        self.links.gateways = frozenset(self._gateways)
        self._redial(now)

    def handle_news(self, news: News, now: float) -> None:
        """Handle an event of a session; see `mesh.links.events.News`."""
        if isinstance(news, SessionStarted):
            self._met(news.session)
        elif isinstance(news, SessionLost):
            self._lost(news.session)
            self._redial(now)  # stop dialling the addresses that it named
        elif isinstance(news, MessageRefused):
            self._refused(news)
        elif news.session.stage is None:
            self._credit.request_now()  # a silent producer gets no credit, a returned one does
        elif isinstance(news, SessionSilent):
            for task in self.forwarding.bypass(news.session):
                self._hand_back(task)
        else:
            self.forwarding.join(news.session)

    def _met(self, session: Session) -> None:
        if session.stage is not None:
            self.forwarding.join(session)
        elif self.draining:
            self._ask_to_stop(session)
        self._credit.request_now()

    def _lost(self, session: Session) -> None:
        if session.stage is None:
            if session.peer in self.links.sessions:
                return  # the gateway lives and began a new session: its requests are still wanted
            self._upstream.pop(session.peer, None)
            self.reporting.forget(session.peer)
            self.held.release(self.forwarding.forget(session.peer))
            return
        self.forwarding.leave(session)
        for message in session.stream.unacked():
            if type(message) is Tasks:
                for task in self.forwarding.kept(message.tasks):
                    self.held.come_back(task)
                    again = bool(task.tried)
                    task.tried = (*task.tried[-7:], session.peer)
                    # The output may be what kills its consumers, and only the owner counts deaths.
                    # So it is forwarded a second time, but not a third.
                    (self._hand_back if again else self._forward)(task)

    def _refused(self, refused: MessageRefused) -> None:
        """Fail the tasks or outcomes that the peer could not read, and no others."""
        session, message, reason = refused
        if type(message) is Tasks:
            for task in message.tasks:
                self._fail(task, reason)
        elif type(message) is Outcomes:
            for outcome in message.outcomes:
                self._fail_outcome(session.peer, outcome, reason)

    # --- batches ---------------------------------------------------------------------------------

    def next_batch(self, now: float) -> Batch | None:
        """Return the batch to compute now, None if the worker is busy or no batch is due."""
        if self.running is not None:
            return None
        batch = self.batcher.due(now)
        if self.batcher.has_drops:
            expired, cancelled = self.batcher.take_drops()
            self.held.release(expired)
            self._dropped = self._dropped[0] + len(expired), self._dropped[1] + cancelled
        if batch is not None:
            self.running, self.started = batch, now
            self._gathered = now - self._free_since
        return batch

    def finished(self, results: Sequence[Outcome | Task], seconds: float) -> None:
        """Handle the end of the running batch.

        Args:
            results: for each task of the batch, in order: an `Outcome` for its owner, or the `Task`
                for the next stage.
            seconds: how long it took.
        """
        batch = self.running
        assert batch is not None
        self.running, self._is_long = None, False
        one_by_one = batch.single or len(results) == 1
        again = [] if one_by_one else run_again(batch, results, self.started + seconds)
        if again and self.facts.repeatable:
            batch, results = self._set_apart(batch, results, again)
        if results:
            self._part_with(batch, results, seconds)
        else:
            self.batcher.finished(len(again), seconds)
            self._free_since = self.started + seconds
        if self._unwanted:
            self._unwanted = set()

    def _set_apart(
        self, batch: Batch, results: Sequence[Outcome | Task], tasks: list[Task]
    ) -> tuple[Batch, Sequence[Outcome | Task]]:
        """Queue tasks of an interrupted batch to run alone; return the rest of the batch."""
        again = {task for task in tasks if task.id not in self._unwanted}
        for task in again:
            task.flags |= Flag.SOLO
        self.batcher.put_back([t for t in tasks if t in again], self.started - batch.waited)
        left = [
            (task, result)
            for task, result in zip(batch.tasks, results, strict=True)
            if task not in again
        ]
        return batch._replace(tasks=[task for task, _ in left]), [result for _, result in left]

    def cut_short(
        self, results: Sequence[Outcome | Task], seconds: float, unbegun: Sequence[Task]
    ) -> None:
        """Split the running bundle of single tasks, which turned out slow.

        Results of finished tasks leave, tasks that did not start wait again, the task in between
        goes on running.

        Args:
            results: the results of the first tasks; see `finished`.
            seconds: how long these took.
            unbegun: the last tasks, which did not start.
        """
        batch = self.running
        assert batch is not None
        done, running = len(results), len(batch.tasks) - len(unbegun)
        self.batcher.put_back(unbegun, self.started - batch.waited)
        if self._unwanted:
            self.held.release(self.batcher.cancel(self._unwanted))
        if self.draining:
            self._give_back(self.batcher.take_back(0))
        if done:
            self._part_with(batch._replace(tasks=batch.tasks[:done]), results, seconds)
            self.started += seconds
            self._gathered = 0.0
        self.running = batch._replace(
            tasks=batch.tasks[done:running], waited=batch.waited + seconds
        )

    def _part_with(self, batch: Batch, results: Sequence[Outcome | Task], seconds: float) -> None:
        self.batcher.finished(len(batch.tasks), seconds)
        done, nbytes, unwanted = [], 0, self._unwanted
        for task, result in zip(batch.tasks, results, strict=True):
            if isinstance(result, Outcome):
                nbytes += sum(map(len, result.buffers))
                self.reporting.post(task.owner, result)
                done.append(task)
            elif unwanted and task.id in unwanted:
                done.append(task)
            else:
                nbytes += result.nbytes
                self.held.swap(task, result)
                self._forward(result)
        if done:
            self.held.release(done)
        self._free_since = self.started + seconds
        self._record_stats(batch, seconds, nbytes)

    def _record_stats(self, batch: Batch, seconds: float, nbytes: int) -> None:
        (expired, cancelled), self._dropped = self._dropped, (0, 0)
        stats = BatchStats(
            self.facts.name,
            len(batch.tasks),
            int(batch.waited * 1e6),
            int(seconds * 1e6),
            batch.reason,
            expired,
            cancelled,
            nbytes,
            int(min(batch.waited, self._gathered) * 1e6),
        )
        known, took = self.held.batch_us, stats.compute
        self.held.batch_us = known + (took - known) // PACE_WINDOW if known else took
        self.reporting.record(batch.tasks[0].owner, stats, self.started)
        if self.draining:
            self.reporting.hurry(self.started)

    def is_pressed(self) -> bool:
        """Whether messages that arrive during a forward should be handled at once.

        They should while outputs wait for credit, a large message is in transit, or the replica
        drains.
        """
        return self.draining or self.forwarding.is_waiting or self.links.is_slicing()

    def relieve(self, now: float) -> None:
        """Give tasks beyond two batches back during a long forward: other replicas are faster."""
        if now - self.started < LONG_FORWARD_S or not self.facts.repeatable:
            return
        self._is_long = True
        if len(self.batcher) > 2 * self.facts.batch:
            tasks = self.batcher.take_back(2 * self.facts.batch)
            self._credit.pause([task.owner for task in tasks])
            self._give_back(tasks)

    # --- outputs ---------------------------------------------------------------------------------

    def _forward(self, task: Task) -> None:
        """Send an output straight to the next stage, or through its owner.

        Outputs of later attempts go through the owner, which knows the replicas tried before.
        """
        if task.attempt > 1 or not self.forwarding.push(task):
            self._hand_back(task)

    def _hand_back(self, task: Task) -> None:
        """Send an output to its owner, which dispatches it over its own links."""
        reason = refusal(task)
        if reason:
            self._fail(task, reason)
            return
        self.reporting.post(task.owner, handed_back(task))
        self.held.release((task,))

    def _fail(self, task: Task, reason: str) -> None:
        """Fail an output that no message can carry."""
        failure = unsendable(task, task.hop - 1, f"the result cannot be sent on: {reason}")
        self.reporting.post(task.owner, failure)
        self.held.release((task,))

    def _fail_outcome(self, owner: int, outcome: Outcome, reason: str) -> None:
        # A failure has no payload that could be left out, so a smaller one cannot be made.
        if outcome.kind is not OutcomeKind.FAILURE:
            text = f"the result cannot be sent: {reason}"
            self.reporting.post(owner, unsendable(outcome, outcome.hop, text))

    def _give_back(self, tasks: list[Task]) -> None:
        """Give back tasks that did not start; their owner dispatches them to another replica."""
        for task in tasks:
            if task.hop:
                self._hand_back(task)
            else:
                unstarted = Outcome(task.number, task.attempt, OutcomeKind.UNSTARTED)
                self.reporting.post(task.owner, unstarted)
                self.held.release((task,))

    # --- each turn -------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Forward outputs, report to the owners, and renew credit."""
        if self.forwarding.is_waiting:
            sent, expired, stuck, unfit = self.forwarding.advance(now)
            if expired:
                self.held.release(expired)
            for task in stuck:
                self._hand_back(task)
            for task, reason in unfit:
                self._fail(task, reason)
            self.held.set_out(sent)
        if now >= self.reporting.due:
            self.reporting.flush(now)
        if self.held.has_changed:
            self._held_changed(now)
        if (self._credit.owed or now >= self._credit.due) and not self.draining:
            self._renew_credit(now)

    def _renew_credit(self, now: float) -> None:
        window = self.facts.batch if self._is_long else self.batcher.window
        if self._credit.is_due(window, now, computing=self.running is not None):
            for session in self._credit.renew(self._producers(), window, now):
                self.links.touch(session)

    def _held_changed(self, now: float) -> None:
        self.held.has_changed = False
        if self._credit.due == NEVER:  # otherwise the scheduled renewal sees it
            self._credit.owed = True
        if self.held.batch_us >= LONG_BATCH_US:
            self._tell_load(now)

    def _tell_load(self, now: float) -> None:
        """Tell producers at once that others have tasks here, or that these are done."""
        producers = self._producers()
        for session in producers if len(producers) <= MAX_TOLD else ():
            if self.held.is_news(session.peer):
                session.stream.owe(now)
                self.links.touch(session)

    def _producers(self) -> list[Session]:
        sessions = self.links.sessions.values()
        return [s for s in sessions if s.stage is None and s.link is not None]

    def next_due(self) -> float:
        """Return when a batch, a report, a credit renewal or a stuck output is due."""
        due = min(self.reporting.due, self._credit.due)
        if self.forwarding.is_waiting:
            due = min(due, self.forwarding.next_due())
        if self.running is None and self.batcher.line.count:
            due = min(due, self.batcher.next_due())
        return due

    def _load(self, now: float) -> tuple[int, int, int]:
        running = 0 if self.running is None else int((now - self.started) * 1000)
        return len(self.batcher), running, int(self.facts.timeout * 1000)

    # --- the end ---------------------------------------------------------------------------------

    def drain(self, now: float) -> None:
        """Start draining: finish the running batch, give all waiting tasks back."""
        self.draining = True
        self._credit.stop()
        self.batcher.drain()
        self._give_back(self.batcher.take_back(0))
        self.reporting.hurry(now)
        for session in self._producers():
            self._ask_to_stop(session)

    def _ask_to_stop(self, session: Session) -> None:
        """Ask a producer to send nothing new. Consumers are not asked: they still get our
        outputs."""
        session.drain()
        self.links.need_not_wait(session)
        self.links.touch(session)

    def is_done(self) -> bool:
        """Whether nothing is held, nothing is unacked, and no producer will send more.

        No HELLO may be unanswered either: its receiver may already have a session with us, and an
        exit without BYE would look like a death.
        """
        return (
            self.running is None
            and not self.links.is_greeting()
            and not (len(self.batcher) or len(self.forwarding) or len(self.reporting))
            and all(
                session.stream.is_idle()
                and (session.is_drained or session.stage is not None or session.link is None)
                for session in self.links.sessions.values()
            )
        )

    def part(self, now: float) -> None:
        """Say BYE on all sessions."""
        self._parted = True
        self.links.dial((), now)
        for session in list(self.links.sessions.values()):
            self.links.part(session, now)
