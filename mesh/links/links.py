"""All links and sessions of one process: handshakes, messages, resumption and loss.

Pure: it receives network events and the time, and leaves instructions in `out` (send, dial, hang
up, probe) and events for the core in `news` (session started, lost, silent; message refused). The
gateway's core and the replica's core each own one `Links`; `mesh/links/node.py` carries the
instructions out.

The nonce of the HELLO that began a session identifies it. A HELLO with the same nonce resumes the
session on another connection, so both ends always agree which sequence numbers they count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mesh.errors import ProtocolError
from mesh.links.dialer import DialedAddress, DialState
from mesh.links.events import Delivery, HangUp, ProbePort, SessionStarted, Stranger
from mesh.links.handshake import (
    crowding,
    draw_nonce,
    expulsion,
    hello_of,
    imposture,
    objection,
    welcome_objection,
    welcome_of,
)
from mesh.links.liveness import Liveness
from mesh.links.session import Session
from mesh.links.stream import Gap
from mesh.protocol.chunking import GrowingBuffer, ReceiveBuffer, Unfinished
from mesh.protocol.fields import Frame
from mesh.protocol.messages import (
    RELIABLE,
    Bye,
    Drain,
    Err,
    Header,
    Hello,
    Message,
    Ping,
    Role,
    Type,
    Welcome,
    Who,
)
from mesh.protocol.permissions import (
    JUDGED,
    Breach,
    content_objection,
    hello_objection,
    permitted,
)
from mesh.protocol.wire import decode, encode, open_header, seal

# Bytes of large buffers that may be unfinished on all sessions together, unless the pool is larger.
_UNFINISHED_BYTES = 1 << 30
_new_tuple = tuple.__new__  # a third of what a named tuple's own costs, for each message


@dataclass(slots=True, eq=False)
class Links(Liveness):
    """All links of one process.

    Args:
        identity: what this process says of itself.
        chance: draws from 0 to 1.
        gateways, most_named: see `Liveness`, also for the attributes.
        memory: allocates the buffers that slices are assembled in.
    """

    memory: Callable[[int], ReceiveBuffer] = GrowingBuffer
    _unfinished: Unfinished = field(init=False)

    def __post_init__(self) -> None:
        Liveness.__post_init__(self)
        limit = max(_UNFINISHED_BYTES, 2 * self.identity.pool)
        self._unfinished = Unfinished(limit, self.memory)

    # --- what the network reports ----------------------------------------------------------------

    def opened(self, link: int, now: float) -> None:
        """A dialled link is connected: say HELLO."""
        line = self._lines.of(link)
        if line is None or line.state is not DialState.OPENING:
            return
        known = self.sessions.get(line.peer)
        if known is not None and known.link is not None:
            self._give_up_duplicate(line, known.peer, now)
            return
        line.greeting(draw_nonce(self.chance()) if known is None else known.nonce, now)
        self._see_to_lines(line.due)
        confides = self.is_gateways(line.address)
        hello = hello_of(self.identity, line.nonce, known, self.producers(), confides=confides)
        self._send(link, seal(Header(Type.HELLO, self.me, 0), encode(hello)))

    def doubt(self, now: float) -> None:
        """Probe all peers that dialled us: one is gone, and the network cannot tell which."""
        for link, session in list(self._by_link.items()):
            if link > 0:
                self._ping(session, now)

    def probed(self, peer: int, listens: bool, now: float) -> None:
        """Learn whether a process listens where a peer takes consumers of its outputs.

        A refusal means that the peer is dead only if its port was once found open: others
        may be behind a network that refuses us. And it may wait for who knows more: a supervisor
        sees a death a little later than the network does, and tells what was computed.
        """
        session = self.sessions.get(peer)
        if session is None:
            return
        if listens:
            session.vitals.listens = True
        elif session.vitals.listens and session.link is None and not self._is_watched(session):
            self.lose(session, "its link closed, and no process listens at its address any more")

    def need_not_wait(self, session: Session) -> None:
        """When this producer's link closes, ask its kernel whether it lives, as with consumers.

        For a process that stops: it would keep what it owes for as long as a producer has to come
        back, although that one is gone.
        """
        session.watch_port(self._lines.leads_to(session.peer))
        self._see_to(session, 0.0)

    def _is_watched(self, session: Session) -> bool:
        return any(
            s.is_parent_of(session.parent) and s.link is not None for s in self.sessions.values()
        )

    def is_greeting(self) -> bool:
        """Whether a producer may know of us already by a HELLO that is not answered yet."""
        return self._lines.is_greeting()

    def is_slicing(self) -> bool:
        """Whether something large is under way on any of them."""
        return any(session.stream.is_slicing() for session in self.sessions.values())

    def received(self, link: int, frames: Sequence[Frame], now: float) -> Delivery | None:
        """One multipart came.

        Returns:
            What it brought to a session, or None if that is nothing.
        """
        session = self._by_link.get(link)
        try:
            header, message = decode(frames, now)
            if session is not None and header.sender == session.peer and header.type > Type.WELCOME:
                if header.type not in session.may_say:
                    raise Breach(f"it may not say {header.type.name}")
                if header.type in JUDGED:
                    self._judge_content(session, header, message)
                if type(message) is Err:
                    session.stream.rejected(message.sequence, message.reason)
                covered, fresh = session.stream.accept(header, message, now)
                self.touched[session] = None
                if header.type not in _UPWARD:
                    self._control(session, message, now)
                    fresh = header.type is Type.PING
                return _new_tuple(Delivery, (session, covered, message if fresh else None))
            return self._greeted(link, header, message, now)
        except Gap:
            self._drop(link, now)
        except Breach as error:
            self.choked(link, error, now)
        except ProtocolError as error:
            self._refuse(link, session, frames, error, now)
        return None

    def _judge_content(self, session: Session, header: Header, message: Message) -> None:
        """Raise `Breach` if the peer may not send this content; a repeat was judged before."""
        may_owe = header.sequence <= session.stream.received or session.owes_payload
        text = content_objection(message, session.peer, may_owe=may_owe)
        if text:
            raise Breach(text)

    def _control(self, session: Session, message: Message, now: float) -> None:
        if type(message) is Ping:
            self._pinged(session, message, now)
        elif type(message) is Drain:
            session.drained(message.last)
        elif type(message) is Bye:
            self._parted(session, now)
        elif type(message) is Who and session.link is not None:
            self._drop(session.link, now)

    def _refuse(
        self,
        link: int,
        session: Session | None,
        frames: Sequence[Frame],
        error: ProtocolError,
        now: float,
    ) -> None:
        """Reject a message that cannot be decoded: tell the sender which one it was, and go on."""
        self.protocol_errors += 1
        try:
            header = open_header(frames)
        except ProtocolError:
            session = None
        if session is None:
            self._drop(link, now)
        elif header.type in RELIABLE and header.sender == session.peer:
            reason = str(error)[:200]
            if session.stream.refuse(header.sequence, reason):
                self._send(link, session.stream.frames_of(Err(header.sequence, reason), now))
            else:
                self._drop(link, now)

    # --- HELLO and WELCOME -----------------------------------------------------------------------

    def _greeted(self, link: int, header: Header, message: Message, now: float) -> Delivery | None:
        line = self._lines.of(link)
        if link > 0:
            if type(message) is Hello:
                return self._hello(link, header.sender, message, now)
            self._drop(link, now, silently=type(message) in (Who, Err, Bye))
        elif line is not None and line.state is DialState.GREETING:
            if type(message) is Welcome and message.nonce == line.nonce:
                return self._welcome(line, header.sender, message, now)
            known = self.sessions.get(header.sender)
            if known is not None and known.link is not None:
                self._give_up_duplicate(line, known.peer, now)
            else:  # refused: another attempt, later
                if type(message) is Err and line.is_refused:
                    self.objected(line.address, message.reason)
                self._drop(link, now)
        return None

    def _hello(self, link: int, peer: int, hello: Hello, now: float) -> Delivery | None:
        session = self.sessions.get(peer)
        resumed = session is not None and session.nonce == hello.nonce
        if session is not None and session.link == link and resumed:
            self._send(
                link, session.stream.frames_of(welcome_of(self.identity, session, True), now)
            )
            return None
        source = self.source(link)
        broken = hello_objection(self.identity.role, hello)
        reason = objection(self.identity, peer, hello) or (
            "" if resumed else self._held_off(peer, source, broken, now)
        )
        if broken and not reason:
            self._hello_breaks(link, peer, hello, broken, now)
            return None
        reason = (
            reason
            or self.admits(link, hello)
            or imposture(session, hello, "" if resumed else source)
            or ("" if session is not None else crowding(source, self.sessions.values()))
        )
        if session is not None and session.link is not None and not resumed:
            reason = "you are connected already, by another link"
            self._ping(session, now)  # unless that one is gone unnoticed
        if reason:
            self._refuse_hello(link, peer, reason, now)
            return None
        if session is not None and not resumed:
            self.lose(session, "it began anew")
        if session is None or not resumed:
            session = self._begin(link, peer, hello.role, hello.nonce, now)
            if hello.feed:
                self.out.append(ProbePort(peer, hello.feed))
        session.introduce(hello, source)
        self._send(link, session.stream.frames_of(welcome_of(self.identity, session, resumed), now))
        return self._attach(session, link, hello.received, resumed, now)

    def _held_off(self, peer: int, source: str, broken: str, now: float) -> str:
        left = self.held_off.left(peer, source, now)
        again = f": {broken}" if broken else ""
        return f"you were expelled; come again in {left:.1f} s{again}" if left else ""

    def _hello_breaks(self, link: int, peer: int, hello: Hello, reason: str, now: float) -> None:
        """Handle a HELLO that breaks a rule. A session that it resumes ends; otherwise only the
        link is dropped: a number alone proves nothing, and may be that of an honest process.
        """
        session = self.sessions.get(peer)
        if session is not None and session.nonce == hello.nonce:
            pause = self.expel(session, reason, now, source=self.source(link))
        else:
            stranger = Stranger(peer, hello.role, hello.host[:64], hello.pid)  # it may be anything
            pause = self.turn_away(stranger, self.source(link), session is None, reason, now)
        self._refuse_hello(link, peer, expulsion(pause, reason), now)

    def _refuse_hello(self, link: int, peer: int, reason: str, now: float) -> None:
        self._send(link, seal(Header(Type.ERR, self.me, peer), encode(Err(0, reason))))
        self._drop(link, now, silently=True)

    def _welcome(
        self, line: DialedAddress, peer: int, welcome: Welcome, now: float
    ) -> Delivery | None:
        link, session = line.link, self.sessions.get(peer)
        if self._is_no_producer(line, peer, welcome, now):
            return None
        if session is not None and session.role is not welcome.role:
            self.lose(session, "it bore the number of a gateway")
            session = None
        if session is not None and session.link is not None:
            self._give_up_duplicate(line, peer, now)
            return None
        mine = session is not None and session.nonce == line.nonce
        if welcome.resumed and not mine:  # ours was lost while we were greeting
            self._drop(link, now)
            return None
        former = self.sessions.get(line.peer)
        if former is not None and former is not session and former.link is None:
            self.lose(former, "another process answers at its address")
        line.up(peer)
        # A feed has its timeout from a gateway itself.
        if welcome.role is Role.GATEWAY and self.heartbeat.welcomed(peer, welcome.timeout):
            self._see_to_all()
        left: list[Message] = []
        if session is not None and not welcome.resumed:
            left = session.stream.unacked()
            self.lose(session, "it has forgotten us")
        if session is None or not welcome.resumed:
            session = self._begin(link, peer, welcome.role, line.nonce, now)
        for message in left:
            session.stream.post(message)
        return self._attach(session, link, welcome.received, welcome.resumed, now)

    def _is_no_producer(self, line: DialedAddress, peer: int, welcome: Welcome, now: float) -> bool:
        """Give the link up if the process that answers is not ours, or was expelled lately."""
        session, is_gateways = self.sessions.get(peer), self.is_gateways(line.address)
        objection = welcome_objection(self.identity, welcome, session, is_gateways=is_gateways)
        left = self.held_off.left(peer, "", now)
        if objection or left:
            self._drop(line.link, now)
            line.due = max(line.due, now + left)
            self._see_to_lines(line.due)
        return bool(objection or left)

    def _give_up_duplicate(self, line: DialedAddress, peer: int, now: float) -> None:
        self.out.append(HangUp(line.link))
        self._lines.duplicate(line, peer, now)
        self._see_to_lines(now)

    def _begin(self, link: int, peer: int, role: Role, nonce: int, now: float) -> Session:
        pool, payer = self.identity.pool, self._whence(link)
        may_say = permitted(role, self.identity.role, dialled=link > 0)
        session = Session(self.me, peer, role, pool, nonce, now, self._unfinished, payer, may_say)
        self.sessions[peer] = session
        return session

    def _whence(self, link: int) -> str:
        """Return where the peer comes from, or "": its key and host, or where it listens.

        One host can have many sessions with us; they have one share of what we hold.
        """
        line = self._lines.of(link)
        return self.source(link) if line is None else line.address.rpartition(":")[0]

    def _attach(
        self, session: Session, link: int, received: int, resumed: bool, now: float
    ) -> Delivery | None:
        """A connection carries the session. An ack that came with it is news, too."""
        if session.link is not None:
            self._drop(session.link, now, silently=True)
        other = self._by_link.get(link)
        if other is not None:
            self._detach(other, now)
        self._by_link[link] = session
        self._is_stale = True
        covered, again = session.attach(link, received, now)
        for frames in again:
            self._send(link, frames)
        self.touched[session] = None
        self.resumes += resumed
        self.news.append(SessionStarted(session, resumed))
        self._see_to(session, now)
        return Delivery(session, covered, None) if covered else None

    # --- what else was said ----------------------------------------------------------------------

    def _parted(self, session: Session, now: float) -> None:
        link = session.link
        assert link is not None
        answered = session.is_parting
        if not answered:
            self.send_now(session, Bye("goodbye"), now)
        self._forget(session, "it said goodbye", orderly=True)
        line = self._lines.of(link)
        if line is None or answered:
            self._drop(link, now, silently=True)
        else:  # closing at once would take our answer along
            line.leaving(now)
            self._see_to_lines(line.due)

    def _pinged(self, session: Session, ping: Ping, now: float) -> None:
        self._stamps[session.peer] = ping.stamp, now
        session.reaches(ping.owners)
        session.vitals.pinged(ping, now, 2 * self.heartbeat.silence)


# What the cores above handle; the rest is this module's own business.
_UPWARD = frozenset(
    {
        Type.TASKS,
        Type.PART,
        Type.OUTCOMES,
        Type.DEATH,
        Type.SUBMIT,
        Type.ANSWER,
        Type.CANCEL,
        Type.PEERS,
    }
)
