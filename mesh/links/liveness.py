"""The timed duties of a process toward its links: redialling, acks, heartbeats, loss, farewells.

Pure. `Links` in `mesh/links/links.py` extends this with the handling of received messages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mesh.links.agenda import Agenda
from mesh.links.dialer import MOST_NAMED, Dialer, DialState
from mesh.links.events import (
    Dial,
    HangUp,
    Identity,
    Instruction,
    MessageReceived,
    MessageRefused,
    News,
    ProbePort,
    Send,
    SessionLost,
    SessionSilent,
    Stranger,
)
from mesh.links.handshake import expulsion
from mesh.links.heartbeat import Heartbeat
from mesh.links.hooks import Hooks
from mesh.links.session import Session
from mesh.protocol.fields import Frame
from mesh.protocol.hold_off import HoldOff
from mesh.protocol.messages import (
    Bye,
    Credit,
    Drain,
    Err,
    Header,
    Message,
    Ping,
    Role,
    Type,
    Who,
)
from mesh.protocol.permissions import breach_or_bug
from mesh.protocol.wire import encode, seal

RESUME_S = 0.1  # seconds that a consumer has to come back before it counts as gone
PRODUCER_ABSENCE_S = (
    10.0  # seconds that a producer has: it may be a gateway that is being restarted
)
BYE_LIMIT_S = 1.0  # seconds that BYE may remain unanswered
_NEVER = float("inf")
_new_tuple = tuple.__new__  # a third of what a named tuple's own costs, for each message


def _feeds_us(session: Session) -> bool:
    producer = session.role in (Role.GATEWAY, Role.REPLICA) and session.stage is None
    return producer and session.link is not None


@dataclass(slots=True, eq=False)
class Liveness(Hooks):
    """The part of the links that time drives.

    Args:
        identity: what this process says of itself.
        chance: draws from 0 to 1.
        gateways: which of the dialled addresses are gateways; None: all. Only at these addresses a
            gateway's WELCOME is accepted, and is our supervisor's number disclosed.
        most_named: limit of the addresses that are dialled because peers named them.

    See `Hooks` for the other arguments.

    Attributes:
        sessions: by the peer's incarnation.
        out: instructions to carry out, oldest first.
        news: events for the core (session started, lost or silent, message refused), oldest first.
        protocol_errors: count of unreadable messages.
        resumes: count of resumed sessions.
        breaches: count of sessions that ended, or did not begin, because the peer broke a rule.
        held_off: the peers that may not come back yet because of that.
        touched: the sessions that the next `flush` looks at, in order.
        due: when `tick` has something to do, local monotonic time in seconds.
        heartbeat: how often signs of life are due.
    """

    identity: Identity
    chance: Callable[[], float]
    gateways: frozenset[str] | None = None
    most_named: int = MOST_NAMED
    sessions: dict[int, Session] = field(default_factory=dict)
    out: list[Instruction] = field(default_factory=list)
    news: deque[News] = field(default_factory=deque)
    protocol_errors: int = 0
    resumes: int = 0
    breaches: int = 0
    held_off: HoldOff = field(default_factory=HoldOff)
    _lines: Dialer = field(init=False)
    _by_link: dict[int, Session] = field(default_factory=dict)
    # Ordered, so that a history is the same each time it is played.
    touched: dict[Session, None] = field(default_factory=dict)
    _owing: dict[Session, None] = field(default_factory=dict)
    _agenda: Agenda = field(default_factory=Agenda)
    _lines_due: float = _NEVER  # no address is due before
    _stamps: dict[int, tuple[int, float]] = field(default_factory=dict)
    _producers: tuple[int, ...] = ()
    _told_producers: tuple[int, ...] = ()
    _is_stale: bool = False  # whether `_producers` must be computed anew
    _has_left_out: bool = False
    _ticked: float = 0.0
    _fair_from: float = 0.0  # when others may be judged again
    due: float = 0.0
    heartbeat: Heartbeat = field(init=False)

    def __post_init__(self) -> None:
        self._lines = Dialer(self.chance)
        self.heartbeat = Heartbeat(self.identity.timeout)

    @property
    def me(self) -> int:
        """This process's incarnation."""
        return self.identity.incarnation

    def reachable(self, role: Role) -> tuple[int, ...]:
        """Incarnations of this role to which there is a connection."""
        sessions = self.sessions.values()
        return tuple(s.peer for s in sessions if s.role is role and s.link is not None)

    def addresses_of(self, role: Role) -> list[str]:
        """Return the addresses at which connected peers of this role were dialled."""
        links = [s.link for s in self.sessions.values() if s.role is role and s.link is not None]
        return [line.address for link in links if (line := self._lines.of(link)) is not None]

    def dial(self, addresses: Iterable[str], now: float, named: Iterable[str] = ()) -> None:
        """These are all the addresses to be connected with.

        One that is no longer listed stays while its link lives.

        Args:
            addresses: of our own settings.
            now: local monotonic time in seconds.
            named: by peers; of too many the first are dialled.
        """
        for link in self._lines.want(addresses, now, named, self.most_named):
            self.out.append(HangUp(link))
        if self._lines.left_out and not self._has_left_out:
            self._has_left_out = True
            self.left_out(self._lines.left_out)
        self._lines_due = self.due = now

    def _see_to_lines(self, when: float) -> None:
        """Let `tick` look at the dialled addresses at this time, or before."""
        self._lines_due = min(self._lines_due, when)
        self.due = min(self.due, when)

    def _see_to(self, session: Session, when: float) -> None:
        """Let `tick` look at a session at this time, or before."""
        self._agenda.plan(session, when)
        self.due = min(self.due, when)

    def is_gateways(self, address: str) -> bool:
        """Whether a gateway is there by our own settings, and not because a peer said so."""
        return self.gateways is None or address in self.gateways

    # --- what is due -----------------------------------------------------------------------------

    def send_now(self, session: Session, message: Message, now: float) -> None:
        """Send an unreliable message at once, if there is a connection."""
        if session.link is not None:
            self._send(session.link, session.stream.frames_of(message, now))

    def touch(self, session: Session) -> None:
        """Let the next `flush` see to this session: something was posted to or granted on it."""
        self.touched[session] = None

    def flush(self, now: float) -> None:
        """Send everything that became ready in this turn, a multipart per session."""
        for session in self.touched:
            link = session.link
            if link is None:
                continue
            stream = session.stream
            if stream.is_queued:
                for frames in stream.flush(now):
                    self.out.append(_new_tuple(Send, (link, frames)))
            if stream.refusals or session.owes_drain:
                self._flush_rest(session, link, now)
            at = stream.owes_at
            if at <= now:
                self._send(link, stream.frames_of(Credit(self.load_for(session)), now))
                self._owing.pop(session, None)
            elif at < _NEVER:
                self._owing[session] = None
                if at < self.due:
                    self.due = at
        self.touched.clear()

    def _flush_rest(self, session: Session, link: int, now: float) -> None:
        stream = session.stream
        if stream.refusals:
            self.news += [MessageRefused(session, *refusal) for refusal in stream.refusals]
            stream.refusals.clear()
        if session.take_drain():
            self._send(link, stream.frames_of(Drain(stream.sequence), now))

    def next_due(self) -> float:
        """When `tick` has something to do, or something is left to be told or carried out."""
        return 0.0 if self.news or self.out else self.due

    def tick(self, now: float) -> None:
        """Redial, retry, renew, ping, and lose sessions that are overdue. Nothing before `due`.

        Only sessions that are due are looked at: there may be a thousand.
        """
        if now < self.due:
            return
        self.due = _NEVER
        every = self.heartbeat.ping_every
        if now > self._ticked + 2 * every:  # we slept: what came meanwhile must be heard first
            self._fair_from = now + every
        self._ticked = now
        self._ping_producers(now)
        self.touched |= self._owing
        self._owing.clear()
        self.flush(now)
        if now >= self._lines_due:
            self._tick_lines(now)
        for session in self._agenda.take(now):
            self._agenda.plan(session, self._tick_session(session, every, now))
        self.due = min(self.due, self._agenda.next_due(), self._lines_due)

    def _tick_lines(self, now: float) -> None:
        for line in self._lines.overdue(now):
            if line.state is DialState.IDLE:
                self.out.append(Dial(self._lines.dial(line, now), line.address))
            else:
                if line.is_refused and self.is_gateways(line.address):
                    self.objected(line.address, "")
                self._drop(line.link, now)
        self._lines_due = self._lines.next_due()

    def producers(self) -> tuple[int, ...]:
        """Incarnations of the gateways and replicas that are connected and may send us tasks."""
        if self._is_stale:
            self._is_stale = False
            self._producers = tuple(s.peer for s in self.sessions.values() if _feeds_us(s))
        return self._producers

    def _ping_producers(self, now: float) -> None:
        """When the producers that we reach change, ping all of them.

        They must not send us tasks of a gateway that we cannot answer. And a gateway waits for the
        replicas that feed us before it says that it is ready.
        """
        producers = self.producers()
        if producers != self._told_producers:
            self._told_producers = producers
            for session in self.sessions.values():
                if _feeds_us(session):
                    self._ping(session, now)

    def _tick_session(self, session: Session, every: float, now: float) -> float:
        """Ping or lose one session; returns when to look again."""
        if now >= session.parting:
            self.lose(session, "it did not answer our goodbye")
            return _NEVER
        if session.link is not None:
            stream = session.stream
            if stream.arrived:  # what comes later than that is of no use
                stream.give_up_slices(begun_before=now - self.heartbeat.patience)
            if now >= stream.said + every:
                self._ping(session, now)
            return min(stream.said + every, session.parting, self._judge(session, now))
        until = session.since + self._grace(session)
        if now >= until:
            self.lose(session, "its link closed and was not resumed")
            return _NEVER
        return min(until, session.parting, self._probe(session, now))

    def _probe(self, session: Session, now: float) -> float:
        """Its link is closed: ask its kernel whether it lives; returns when to ask again."""
        if not session.vitals.listens:
            return _NEVER
        if session.vitals.is_probe_due(now):
            self.out.append(ProbePort(session.peer, session.feed))
        return session.vitals.probe_at

    def _judge(self, session: Session, now: float) -> float:
        """Notice whether it has been quiet for too long; returns when to look again."""
        stream, vitals = session.stream, session.vitals
        until = max(stream.quiet_since + self.heartbeat.silence, vitals.busy_until, self._fair_from)
        if vitals.judge(silent=now >= until):
            self.news.append((SessionSilent if vitals.silent else MessageReceived)(session))
        return _NEVER if vitals.silent else until

    def _grace(self, session: Session) -> float:
        if self._lines.leads_to(session.peer):
            return PRODUCER_ABSENCE_S
        return max(RESUME_S, 4 * session.vitals.round_trip)

    def _send(self, link: int, frames: list[Frame]) -> None:
        self.out.append(_new_tuple(Send, (link, frames)))

    def take(self) -> list[Instruction]:
        """The instructions so far; the caller carries them out in order."""
        out, self.out = self.out, []
        return out

    def _ping(self, session: Session, now: float) -> None:
        stamp, at = self._stamps.get(session.peer, (0, now))
        queued, running, allowed = self.load(now)
        held = int((now - at) * 1e6)
        owners = self.producers()
        at_us, load = int(now * 1e6), self.load_for(session)
        ping = Ping(at_us, stamp, held, queued, running, allowed, owners, load)
        self.send_now(session, ping, now)

    # --- ends ------------------------------------------------------------------------------------

    def closed(self, link: int, now: float) -> None:
        """A link is gone; its session may be resumed by the next."""
        session = self._by_link.pop(link, None)
        if session is not None:
            self._detach(session, now)
        self._lines.ended(link, now)
        self._see_to_lines(now)

    def _detach(self, session: Session, now: float) -> None:
        session.detach(now)
        self._is_stale = True
        self._see_to(session, now)

    def lose(self, session: Session, reason: str) -> None:
        """The pair is over: forget it and tell. What it held stays with `session`."""
        link = session.link
        self._forget(session, reason)
        if link is not None:
            self._drop(link, 0.0)

    def expel(
        self,
        session: Session,
        reason: str,
        now: float,
        fault: Exception | None = None,
        source: str = "",
    ) -> float:
        """End the session of a peer that broke a rule, and no other. Returns its pause.

        Args:
            session: its, which is not over yet.
            reason: for people, and for the other.
            now: local monotonic time in seconds.
            fault: what was raised, where it was something that we could not handle.
            source: where the breach came from, if the session does not say.
        """
        link = session.link
        self.breaches += 1
        pause = self.held_off.expelled(session.peer, source or session.source, now)
        self.send_now(session, Err(0, expulsion(pause, reason)), now)
        line = None if link is None else self._lines.of(link)
        self.lose(session, reason)
        if line is not None:  # one that we dialled is not dialled at once
            line.due = now + pause
            self._see_to_lines(line.due)
        self.expelled(session, reason, fault)
        return pause

    def turn_away(
        self, stranger: Stranger, source: str, is_new: bool, reason: str, now: float
    ) -> float:
        """It broke a rule before it had a session. Returns the seconds for which it is refused.

        Args:
            stranger: who it says it is.
            source: where it comes from, "" where that is unknown.
            is_new: no session bears its number: else that may be another's, who goes on.
            reason: for people.
            now: local monotonic time in seconds.
        """
        self.breaches += 1
        pause = self.held_off.expelled(stranger.peer if is_new else 0, source, now)
        self.expelled(stranger, reason, None)
        return pause

    def choked(
        self, link: int, error: Exception, now: float, session: Session | None = None
    ) -> None:
        """End the session of a peer whose message, or state, raised here; the turn goes on.

        Args:
            link: on which it came, 0 where there is none.
            error: what was raised.
            now: local monotonic time in seconds.
            session: the peer's, where the link does not tell.
        """
        session = session or self._by_link.get(link)
        reason, fault = breach_or_bug(error)
        if session is not None and self.sessions.get(session.peer) is session:
            self.expel(session, reason, now, fault)
            return
        self.breaches += 1
        if link:
            self._drop(link, now, silently=True)
        self.expelled(session, reason, fault)

    def _forget(self, session: Session, reason: str, orderly: bool = False) -> None:
        if self.sessions.get(session.peer) is session:
            del self.sessions[session.peer]
        if session.link is not None:
            self._by_link.pop(session.link, None)
        session.end()
        self._is_stale = True
        self._agenda.drop(session)
        self.touched.pop(session, None)
        self._owing.pop(session, None)
        self._stamps.pop(session.peer, None)
        if self.heartbeat.lost(session.peer):
            self._see_to_all()
        self.news.append(SessionLost(session, reason, orderly))

    def _see_to_all(self) -> None:
        """Look at every session in the next `tick`: signs of life are due more or less often."""
        for session in self.sessions.values():
            self._see_to(session, 0.0)

    def part(self, session: Session, now: float) -> None:
        """Send BYE. The peer answers with BYE and ends the session; without an answer we end it."""
        session.part(now + BYE_LIMIT_S)
        self._see_to(session, session.parting)
        self.send_now(session, Bye("done"), now)

    def _drop(self, link: int, now: float, silently: bool = False) -> None:
        """Give up a connection; the session may be resumed on another.

        One that dialled us does not notice by itself, so it is told to say HELLO again.
        """
        if link > 0 and not silently:
            self._send(link, seal(Header(Type.WHO, self.me, 0), encode(Who())))
        self.out.append(HangUp(link))
        self.closed(link, now)
