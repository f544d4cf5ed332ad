"""The gateway's decisions: requests in, bundles out, outcomes in, answers out. Pure.

The core owns the in-flight table, the replica registry, the queues and the links. The shell
(`gateway/server.py`) submits the requests that HTTP brings, runs turns through a `Node`, and
answers the `ended` requests.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.requests.admission import Sizes
from gateway.requests.batch_stats import believed
from gateway.requests.departed import Departed, origin_of
from gateway.requests.in_flight import Ended, InFlightTable, Request, forwarding
from gateway.requests.journal import Counts, JournalEntry, Turnover
from gateway.requests.outliers import OutlierDetection
from gateway.requests.ownership import Ownership
from gateway.requests.queues import Queues, emptied
from gateway.requests.releases import Release
from gateway.requests.replicas import RESTART_GRACE_S, Replicas
from gateway.requests.retries import POISON, Retries, Suspicion, blame_of
from mesh.links.dispatcher import Dispatcher
from mesh.links.events import (
    Delivery,
    MessageReceived,
    MessageRefused,
    News,
    SessionLost,
    SessionSilent,
    SessionStarted,
)
from mesh.links.links import Links
from mesh.links.session import Session
from mesh.protocol import incarnations
from mesh.protocol.messages import (
    BatchStats,
    Cancel,
    Death,
    HandoffNotice,
    Hop,
    Hops,
    Outcome,
    OutcomeKind,
    Outcomes,
    Peers,
    StageFacts,
    Task,
    Tasks,
)
from mesh.protocol.permissions import Breach

_TOO_LATE = (
    "the request's time is over; raise timeout in [gateway] (--timeout of a script) or, where that "
    "is not set, those of its stages: append_worker(timeout=...), or timeout in [stages.NAME]"
)
_OTHER = (
    "connected, and gets nothing: its revision is {}, this gateway serves {}. Classes, routes, "
    "name or version differ: compare what `mesh check` says at both"
)
SWEEP_S = 0.05  # interval of the checks for passed deadlines and absent stages
CREDIT_PAUSE_S = 0.5  # how long a replica that gave tasks back gets none unless it grants more


class GatewayCore:
    """All decisions of one gateway.

    Args:
        links: the links of this process, whose incarnation owns the requests.
        routes: by HTTP path, the hops that a request visits.
        max_attempts: see `InFlightTable`.
        now: local monotonic time in seconds.
        restart_grace: see `Replicas`.
        version: see `Replicas`.

    Attributes:
        ended: requests that ended since the shell last took them.
        stats: batch statistics since the shell last took them.
        sizes: average output sizes of the stages, from these statistics.
        journal: connects, losses and version switches for the log, since the shell last took them.
        met_stage: a replica came or left, or the routes switched, since the shell last read the
            replica registry.
    """

    def __init__(
        self,
        links: Links,
        routes: Mapping[str, Hops],
        max_attempts: int,
        now: float,
        restart_grace: float = RESTART_GRACE_S,
        version: str = "",
    ) -> None:
        self.links = links
        self.in_flight = InFlightTable(links.me, max_attempts)
        self.replicas = Replicas(routes, now, restart_grace, version)
        self.queues = Queues(self.replicas, links.me)
        self.dispatchers = self.queues.dispatchers
        self.retries = Retries(self.in_flight, self.replicas, self.dispatchers)
        self.outliers = OutlierDetection(self.replicas, self.dispatchers)
        self._failures: list[Outcome] = []  # of the bundle that is being processed
        self.ended: list[Ended] = []
        self.stats: list[BatchStats] = []
        self.sizes = Sizes()
        self.counts = Counts()
        self.met_stage = False
        self._joined = False
        self.journal: list[JournalEntry | Turnover] = []
        self._cancels: dict[int, list[int]] = {}
        self._credit_paused: dict[Session, float] = {}  # who gave tasks back: when its pause ends
        self._death_notices: dict[int, Death] = {}  # of replicas that are lost in this turn
        self._departed = Departed()
        self._ownership = Ownership(routes)
        self._sweep_at = now + SWEEP_S

    # --- from HTTP -------------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        """Take ownership of a request, and queue it for its first stage."""
        self.in_flight.enter(request)
        if self.queues.missing:
            self.queues.wait(request)
        else:
            self.dispatchers[request.hops[0]].push(request)

    @property
    def calm(self) -> bool:
        """Whether every stage has a replica, and no task waited when the last turn ended."""
        return not (self.queues.missing or self.queues.crowded)

    def gone(self, number: int) -> Request | None:
        """Cancel a request whose client is gone; None if it has ended before."""
        request = self.in_flight.drop(number)
        if request is not None:
            self.counts.cancelled += 1
            self._withdraw(request)
        return request

    def _withdraw(self, request: Request) -> None:
        """Remove an ended request from our queue, or send CANCEL to those known to have it."""
        for holder in request.earlier:
            self._cancels.setdefault(holder, []).append(request.number)
        if request.holder:
            self._cancels.setdefault(request.holder, []).append(request.number)
            return
        self.queues.withdraw(request, request.at)

    # --- from the mesh ---------------------------------------------------------------------------

    def delivered(self, delivery: Delivery, now: float) -> None:
        """Handle a message of a replica or a supervisor."""
        session, _, message = delivery
        if type(message) is Outcomes:
            before, final = len(self.ended), OutcomeKind.FAILURE
            self._failures.clear()  # a bundle that was a breach may have left some
            for outcome in message.outcomes:
                if outcome.kind <= final:
                    self._settle(session, outcome)
                else:
                    self._given_back(session, outcome, now)
            for notice in message.notices:
                self._handed_off(session, notice)
            if self._failures or self.outliers.failing:
                self._learn(session, message, before)
            if message.stats:
                self._measured(session, message.stats)
            if self.retries.budget.spent:
                self.retries.budget.earn(len(self.ended) - before)
        elif type(message) is Death:
            self._died(session, message)

    def _measured(self, session: Session, stats: list[BatchStats]) -> None:
        """Take in a replica's batch statistics; replicas of unused revisions are ignored."""
        mine = self.links.identity
        stats = believed(session, stats, mine.timeout, mine.pool)
        if self.replicas.hop_of(session) is not None:
            self.stats += stats
            self.sizes.learn(session.peer, stats)

    def _learn(self, session: Session, message: Outcomes, before: int) -> None:
        """Let the outlier detection judge a replica by this bundle, and note it as the holder."""
        failures, self._failures = self._failures, []
        if failures:
            for request, _ in self.ended[before:]:
                request.holder = session.peer  # for the log line that says where it failed
        count = len(message.outcomes) + len(message.notices)
        if count:
            self.outliers.learn(session, failures, count)

    def _settle(self, session: Session, outcome: Outcome) -> None:
        request = self.in_flight.requests.get(outcome.number)
        # The usual case, an answer of the holder in a one-stage route, needs no check.
        if (
            request is not None
            and (request.holder != session.peer or outcome.hop or len(request.hops) > 1)
            and not self._ownership.may_end(request, outcome, session)
        ):
            self.in_flight.late += 1
            return
        if outcome.kind is OutcomeKind.FAILURE:
            self._failures.append(outcome)
        ended = self.in_flight.settle(outcome, request)
        if ended is not None:
            self.ended.append(ended)
            request = ended.request
            if request.earlier or outcome.attempt != request.attempt:
                self._withdraw(request)  # cancels its other attempts

    def _given_back(self, session: Session, outcome: Outcome, now: float) -> None:
        request = self.in_flight.current(outcome)
        if request is None or outcome.kind is OutcomeKind.EVENT:
            return
        if not self._ownership.may_return(request, outcome, session):
            self.in_flight.late += 1
            return
        if not self.in_flight.may_return(request, outcome, session.peer):
            return
        if not request.holder:
            self.queues.withdraw(request, request.at)  # as in `_handed_off`
        hop = request.hops[outcome.hop]
        if session.stage is not None and session.stage[:2] == hop:  # it never started the task
            # Send nothing on its old credit: the task would come straight back.
            self._credit_paused[session] = now + CREDIT_PAUSE_S
            session.stream.granted.pause()
            self.in_flight.returned(request, session.peer)
        if outcome.kind is OutcomeKind.HANDBACK:
            self.counts.hub_hops += 1
            request.holder, request.at = 0, outcome.hop
            self.dispatchers[hop].push(forwarding(request, outcome))
        else:
            self.queues.wait(request)

    def _handed_off(self, session: Session, notice: HandoffNotice) -> None:
        request = self.in_flight.requests.get(notice.number)
        holder = self.links.sessions.get(notice.holder)
        if request is None:
            # The request ended meanwhile, and its CANCEL went to the former holder.
            if holder is not None and holder.stage is not None:
                self._cancels.setdefault(notice.holder, []).append(notice.number)
            return
        if not self._ownership.may_hand_off(request, notice, session, holder):
            return
        waited, at = not request.holder, request.at
        if self.in_flight.moved(request, notice) and waited:
            self.queues.withdraw(request, at)  # the copy that waits here would run for nothing
        if request.holder == notice.holder and holder is None:
            # The new holder died before this notice came: its loss did not find the request.
            self._retry(request, notice.holder, "holder_gone")

    def _died(self, supervisor: Session, death_notice: Death) -> None:
        """Handle a supervisor's death notice of one of its replicas.

        A replica that never connected here, or that is forgotten, holds none of our requests.
        """
        session = self.links.sessions.get(death_notice.incarnation)
        departed = self._departed
        origin = (
            departed.get(death_notice.incarnation) if session is None else departed.origin(session)
        )
        if origin is None:
            return
        if not supervisor.is_parent_of(origin.parent):
            raise Breach("it tells of the death of a replica that it did not start")
        self._keep_possible(death_notice, origin.stage)
        for request in self.retries.suspect(death_notice):
            self.counts.quarantined += 1
            self._withdraw(request)
            self._fail(request, "poison_request", POISON)
        if session is not None:
            self._death_notices[session.peer] = death_notice
            self.links.lose(session, "its supervisor saw it end")

    def _keep_possible(self, death_notice: Death, stage: str) -> None:
        """Remove from a death notice those of our requests that the replica cannot have held."""
        for named in list(death_notice.computing):
            owner, number = named
            request = self.in_flight.requests.get(number) if owner == self.links.me else None
            if request is None:
                continue
            if not self._ownership.may_have_held(request, death_notice.incarnation, stage):
                death_notice.computing.remove(named)

    def handle_news(self, news: News, now: float) -> None:
        """Handle an event of a session; see `mesh.links.events.News`."""
        if isinstance(news, SessionStarted):
            self._met(news.session, news.resumed, now)
        elif isinstance(news, SessionLost):
            self._lost(news, now)
        elif isinstance(news, SessionSilent | MessageReceived):
            self._silent(news)
        else:
            self._refused(news)

    def _silent(self, news: SessionSilent | MessageReceived) -> None:
        hop = self.replicas.hop_of(news.session)
        if hop is None:
            return
        if isinstance(news, SessionSilent):
            self.retries.fell_silent(news.session, hop)
            self._hedge()
        else:
            self.retries.is_back(news.session, hop)
            if news.session.peer in self.outliers.failing:
                self.dispatchers[hop].leave(news.session)  # `is_back` added it; it is still ejected

    def _hedge(self) -> None:
        for request in self.retries.hedges():
            self.counts.hedges += 1
            self.queues.wait(request)

    def _met(self, session: Session, resumed: bool, now: float) -> None:
        if session.stage is None:
            return
        session.expect_outputs(expected=self._ownership.is_known(session.stage.name))
        hop = self.replicas.joined(session)
        if hop is not None:
            self.queues.join(hop, session)
            self.met_stage = True
            if not resumed:
                self.journal.append(JournalEntry(session, True, "connected"))
            self._send_peers([session, *self.replicas.fed_by(hop)], now)
        elif not resumed:  # only this log tells: on its own host, it looks connected and well
            served = next((hop[1] for hops in self.replicas.routes.values() for hop in hops), "")
            reason = _OTHER.format(session.stage.revision, served)
            self.journal.append(JournalEntry(session, True, reason))

    def _lost(self, news: SessionLost, now: float) -> None:
        session = news.session
        death_notice = self._death_notices.pop(session.peer, None)
        hop = self.replicas.left(session, now)
        if hop is not None:
            self.dispatchers[hop].leave(session)
            self.met_stage = True  # its description of the stage may no longer apply
            self._departed.add(session)
            self.journal.append(JournalEntry(session, news.orderly, news.reason))
            if not news.orderly:
                self.counts.deaths[_cause(death_notice)] += 1
            self.queues.find_gaps()
            self._cancels.pop(session.peer, None)
            self.retries.silent.pop(session.peer, None)
            self.outliers.forget(session)
            self.sizes.forget(session.peer)
            self._send_peers(self.replicas.fed_by(hop), now)
        # Also those of a replica of an unused revision: replicas before it may still have fed it.
        for request in self.in_flight.held_by(session.peer):
            cause = "parted" if news.orderly else "lost"
            self._retry(request, session.peer, cause, blame_of(request, death_notice))

    def _retry(
        self, request: Request, holder: int, cause: str, blame: Suspicion = Suspicion.POSSIBLE
    ) -> None:
        """Restart the request at its first stage, or fail it. Only a death uses up an attempt."""
        parted = cause in ("parted", "version")
        reason = self.retries.retry(request, holder, parted=parted, blame=blame)
        if reason:
            self._withdraw(request)
            self._fail(request, "lost", reason)
        else:
            self.counts.retries[cause] += 1
            self.queues.wait(request)

    def _refused(self, refused: MessageRefused) -> None:
        """Fail the tasks that a replica could not read, and no others."""
        if isinstance(refused.message, Tasks):
            for task in refused.message.tasks:
                text = f"the request cannot be sent to the stage: {refused.reason}"
                self._fail(task, "server_error", text)

    def _send_peers(self, sessions: list[Session], now: float) -> None:
        for session in sessions:
            version, peers = self.replicas.peers_for(session)
            self.links.send_now(session, Peers(version, peers), now)

    # --- each turn -------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Dispatch waiting tasks, send cancels, and end requests whose deadline has passed."""
        if now >= self._sweep_at:
            self._sweep(now)
        crowded = self.queues.crowded
        for hop, dispatcher in self.dispatchers.items():
            if dispatcher.waiting.count or dispatcher.unfit:
                self._dispatch(dispatcher)
            if dispatcher.waiting.count:
                crowded.add(hop)
            elif crowded:
                crowded.discard(hop)
        if self._cancels:
            self._send_cancels()

    def _dispatch(self, dispatcher: Dispatcher) -> None:
        touched = self.links.touched
        for session, tasks, _ in dispatcher.dispatch():
            self.in_flight.assign(tasks, session.peer)
            touched[session] = None
        while dispatcher.unfit:
            task, reason = dispatcher.unfit.pop()
            self._fail(task, "encoding_error" if task.hop else "bad_request", reason)

    def _fail(self, task: Task, code: str, text: str) -> None:
        """Fail the request of this task, if it has not ended before."""
        ended = self.in_flight.fail(task.number, code, text)
        if ended is not None:
            self.ended.append(ended)

    def _send_cancels(self) -> None:
        for holder, numbers in self._cancels.items():
            session = self.links.sessions.get(holder)
            if session is not None:
                session.stream.post_cancel(Cancel(self.links.me, numbers))
                self.links.touch(session)
        self._cancels.clear()

    def _sweep(self, now: float) -> None:
        self._sweep_at = now + SWEEP_S
        for request in self.in_flight.expired(now):
            self.counts.expired += 1
            self._fail(request, "deadline_exceeded", _TOO_LATE)
            self._withdraw(request)
        for hop in self.replicas.absent(now):
            text = f"stage {hop[0]} has no replica"
            for task in self.queues.drop_absent(hop):
                self._fail(task, "no_replica", text)
        self._turn_over(now)
        for session in [session for session, until in self._credit_paused.items() if until <= now]:
            session.stream.granted.resume()
            del self._credit_paused[session]
        if self.retries.silent:
            self._hedge()
        for session, tasks, _ in self.outliers.probe(self.in_flight.requests.values()):
            self.in_flight.assign(tasks, session.peer)
            self.links.touch(session)
        for dispatcher in self.dispatchers.values():
            dispatcher.waiting.expired(now)  # handed-back tasks; their requests ended above

    def _turn_over(self, now: float) -> None:
        """Switch to a complete later version, or back to a former one if the present one is gone.

        Requests that wait for a revision without replicas start again in the present one.
        """
        other: StageFacts | Release | None = None
        if self.replicas.is_coming:
            other = self.replicas.successor(now) or self.replicas.refuge()
        if other is not None:
            self.replicas.move(other, now)
            self.queues.move(self.replicas.routes)
            self.met_stage = True
            self.journal.append(Turnover(other.version, other.revision))
        for hop in self.queues.deserted():
            for request in self.in_flight.still(emptied(self.dispatchers[hop].waiting)):
                self._retry(request, request.holder, "version")
            if not any(hop in request.hops for request in self.in_flight.requests.values()):
                self.queues.forget(hop)
                self.replicas.facts.pop(hop, None)

    def next_due(self) -> float:
        """Return when deadlines, missing stages or a later version must be checked next."""
        return (
            self._sweep_at if self.in_flight.requests or self.replicas.is_coming else float("inf")
        )

    def whereabouts(self, holder: int) -> str:
        """Describe for the log the replica that held a request; "" if none did."""
        session = self.links.sessions.get(holder)
        origin = self._departed.get(holder) if session is None else origin_of(session)
        return origin.shown if origin is not None else incarnations.shown(holder) if holder else ""

    def take_ended(self) -> list[Ended]:
        """Return the requests that ended since the last call."""
        ended, self.ended = self.ended, []
        return ended

    def is_ready(self, now: float) -> bool:
        """Whether every stage has a replica, and the replicas have once been connected with those
        that they feed."""
        if not self._joined and not self.queues.missing:
            self._joined = self.replicas.is_joined(now)
        return self._joined and not self.queues.missing

    def absent(self, hops: Hops, now: float) -> Hop | None:
        """Return the first of these stages that has had no replica for too long, or None."""
        absent = self.replicas.absent(now)
        return next((hop for hop in hops if hop in absent), None)


def _cause(death_notice: Death | None) -> str:
    """Return the `cause` label of a death in the metrics."""
    if death_notice is None:
        return "link"
    return "signal" if death_notice.signal else "exit"
