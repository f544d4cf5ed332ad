"""Messages to frames and back, with limits. Decoding is total: a message or `ProtocolError`. Pure.

The first frame of every message is the fixed header (`FIXED`, 56 bytes) followed by a msgpack
list; large payload buffers follow as frames of their own, untouched. The header is put on by
`seal` at the moment of sending, so that a message that is retransmitted bears today's ack and
credit, and says how old its budgets are.

The format may grow. A later release may put a field after the ones of any list here, with a
default for who does not send it; whoever does not know it skips it. What cannot be said so, a new
message above all, needs a new `VERSION`, on which HELLO and WELCOME agree.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_args

from mesh.errors import ProtocolError
from mesh.protocol import bundles
from mesh.protocol.fields import (
    HEADER_BYTES,
    INLINE_BYTES,
    MAX_BODY_BYTES,
    MAX_FRAMES,
    MISFITS,
    Body,
    Frame,
    check_all_used,
    check_size,
    pack,
    pack_buffers,
    seconds,
    text,
    u64,
    u64s,
    unpack_buffers,
    unpack_list,
    words,
)
from mesh.protocol.messages import (
    Answer,
    Bye,
    Cancel,
    Credit,
    Death,
    Drain,
    Err,
    Header,
    Hello,
    Message,
    Outcomes,
    Part,
    Peer,
    Peers,
    Ping,
    Role,
    StageFacts,
    Submit,
    Tasks,
    Type,
    Welcome,
    Who,
)
from mesh.protocol.rows import pack_load, read_load

MAGIC = b"ML"
VERSION = 1
# magic, version, type, sender, receiver, sequence, ack, granted tasks, granted bytes, age
FIXED = struct.Struct("!2sBB6QI")
_BY_NUMBER = {int(kind): kind for kind in Type}  # a tenth of the time that `Type(number)` takes
MAX_AGE = 2**32 - 1
# The fields of a `Header`.
HeaderFields = tuple[Type, int, int, int, int, int, int, int]
# A lone request pays for each of these: a named tuple's own `__new__` costs three times as much.
_new_tuple = tuple.__new__
_pack_fixed = FIXED.pack
_unpack_fixed = FIXED.unpack_from


class Encoded(NamedTuple):
    """A message without its header, kept by the sender until the ack covers it.

    Attributes:
        type: of the message.
        body: the msgpack list.
        frames: payload frames, in the order in which the rows name them.
    """

    type: Type
    body: bytes
    frames: Sequence[Frame]


def seal(header: HeaderFields, encoded: Encoded) -> list[Frame]:
    """Put the header on: the frames that go into one multipart.

    Args:
        header: a `Header`, or its fields as a plain tuple where one is made for each message.
        encoded: what it heads.

    Example:
        >>> frames = seal(Header(Type.WHO, 7, 0), encode(Who()))
        >>> len(frames), frames[0][:4]
        (1, b'ML\\x01\\x0f')
    """
    if header[7] > MAX_AGE:
        header = (*header[:7], MAX_AGE)
    body = _pack_fixed(MAGIC, VERSION, *header) + encoded[1]
    frames = encoded[2]
    return [body, *frames] if frames else [body]


def open_header(frames: Sequence[Frame]) -> Header:
    """Read the fixed header alone; what a router needs before it looks at the rest.

    Raises:
        ProtocolError: the bytes are not ours or of a version that is not spoken here.
    """
    if not frames or len(frames) > MAX_FRAMES:
        raise ProtocolError(f"a message has 1 to {MAX_FRAMES} frames, not {len(frames)}")
    first = frames[0]
    if len(first) < HEADER_BYTES:
        raise ProtocolError(f"a first frame of {len(first)} bytes is shorter than the header")
    magic, version, number, *rest = _unpack_fixed(first)
    if magic != MAGIC or version != VERSION:
        raise ProtocolError(f"not a message of version {VERSION}: it begins with {magic!r}")
    kind = _BY_NUMBER.get(number)
    if kind is None:
        raise ProtocolError(f"there is no message type {number}")
    return _new_tuple(Header, (kind, *rest))


def decode(frames: Sequence[Frame], now: float) -> tuple[Header, Message]:
    """Read one message.

    Args:
        frames: of one multipart, without the routing id. The first must be bytes.
        now: local monotonic time in seconds; budgets on the wire become deadlines by it.

    Raises:
        ProtocolError: whatever is wrong with the bytes; nothing else is ever raised.
    """
    header = open_header(frames)
    first = frames[0]
    if len(first) > MAX_BODY_BYTES:
        raise ProtocolError(f"a first frame of {len(first)} bytes is over {MAX_BODY_BYTES}")
    body = unpack_list(memoryview(first)[HEADER_BYTES:])
    try:
        return header, _READERS[header[0]](body, frames[1:], now - header[7] / 1000)
    except MISFITS as error:
        raise ProtocolError(f"{header.type.name}: {error}") from error


def encode(message: Message, now: float = 0.0) -> Encoded:
    """Write one message. What this accepts, `decode` accepts.

    Args:
        message: what to say.
        now: local monotonic time in seconds; deadlines become budgets by it.

    Raises:
        ProtocolError: a limit is broken; `bundles.refusal` tells which row of a bundle did it.
    """
    kind = _TYPES[type(message)]
    try:
        if type(message) is Tasks:
            body, frames = bundles.pack_tasks(message, now)
        elif type(message) is Outcomes:
            body, frames = bundles.pack_outcomes(message)
        else:
            body, frames = _write(kind, message, now)
        if frames or len(body) > INLINE_BYTES:
            check_size(body, frames)
    except MISFITS as error:
        raise ProtocolError(f"{kind.name} can not be sent: {error}") from error
    return _new_tuple(Encoded, (kind, body, frames))


def _write(kind: Type, message: Message, now: float) -> tuple[bytes, list[Frame]]:
    if isinstance(message, Answer):
        return bundles.pack_outcomes(Outcomes([message.outcome]))
    fields, frames = _WRITERS[kind](message)
    body = pack(fields)
    # Control messages are few: the reader itself is asked, so that no limit is written twice.
    _READERS[kind](unpack_list(memoryview(body)), frames, now)
    return body, frames


# --- the control messages, one writer and one reader each -------------------------------------


def _write_hello(m: Hello) -> tuple[list[Any], list[Frame]]:
    fields = [int(m.role), m.nonce, m.mesh, m.versions, m.known, m.received]
    return [*fields, m.feed, m.stage, words(m.host), m.pid, m.owners, m.parent], []


def _read_hello(body: Body, frames: Sequence[Frame], now: float) -> Hello:
    role, nonce, mesh, versions, known, received, feed, stage, host, pid, owners, parent = body[:12]
    return Hello(
        _read_role(role),
        u64(nonce),
        text(mesh),
        u64s(versions),
        u64(known),
        u64(received),
        text(feed),
        None if stage is None else _read_stage(stage),
        text(host),
        u64(pid),
        u64s(owners),
        u64(parent),
    )


def _read_role(role: Any) -> Role:
    return Role(u64(role))


def _read_stage(fields: Body) -> StageFacts:
    name, revision, batch, timeout, pool, repeatable, wants_meta = fields[:7]
    content_type, schema, version, routes = fields[7:11]
    if type(repeatable) is not bool or type(wants_meta) is not bool:
        raise TypeError("the stage's facts have wrong types")
    return StageFacts(
        text(name),
        text(revision),
        u64(batch),
        seconds(timeout),
        u64(pool),
        repeatable,
        wants_meta,
        text(content_type),
        text(schema, MAX_BODY_BYTES),
        text(version),
        text(routes),
    )


def _write_welcome(m: Welcome) -> tuple[list[Any], list[Frame]]:
    return [m.nonce, m.version, int(m.role), m.received, m.resumed, m.timeout], []


def _read_welcome(body: Body, frames: Sequence[Frame], now: float) -> Welcome:
    nonce, version, role, received, resumed, timeout = body[:6]
    if type(resumed) is not bool:
        raise TypeError("resumed is true or false")
    heard = u64(received)
    return Welcome(u64(nonce), u64(version), _read_role(role), heard, resumed, seconds(timeout))


def _write_part(m: Part) -> tuple[list[Any], list[Frame]]:
    return [m.transfer, m.total, m.offset], [m.slice]


def _read_part(body: Body, frames: Sequence[Frame], now: float) -> Part:
    transfer, total, offset = u64s(body[:3])
    (piece,) = frames
    if not piece or offset + len(piece) > total:
        raise ValueError(f"{len(piece)} bytes at {offset} do not fit into {total}")
    return Part(transfer, total, offset, piece)


def _write_death_notice(m: Death) -> tuple[list[Any], list[Frame]]:
    return [m.incarnation, m.stage, m.signal, m.code, m.computing], []


def _read_death_notice(body: Body, frames: Sequence[Frame], now: float) -> Death:
    incarnation, stage, signal, code, computing = body[:5]
    ids = [(u64(owner), u64(number)) for owner, number, *_later in computing]
    return Death(u64(incarnation), text(stage), u64(signal), u64(code), ids)


def _write_submit(m: Submit) -> tuple[list[Any], list[Frame]]:
    buffers, frames = pack_buffers(m.buffers)
    return [m.number, m.route, m.budget, m.priority, m.trace, buffers], frames


def _read_submit(body: Body, frames: Sequence[Frame], now: float) -> Submit:
    number, route, budget, priority, trace, buffers = body[:6]
    rest = iter(frames)
    payload = unpack_buffers(buffers, rest)
    check_all_used(rest)
    asked = u64(number), text(route), u64(budget), u64(priority)
    return Submit(*asked, None if trace is None else text(trace), payload)


def _read_answer(body: Body, frames: Sequence[Frame], now: float) -> Answer:
    (outcome,) = bundles.read_outcomes(body[:5], frames, now).outcomes
    return Answer(outcome)


def _write_cancel(m: Cancel) -> tuple[list[Any], list[Frame]]:
    return [m.owner, m.numbers], []


def _read_cancel(body: Body, frames: Sequence[Frame], now: float) -> Cancel:
    owner, numbers = body[:2]
    return Cancel(u64(owner), list(u64s(numbers)))


def _write_peers(m: Peers) -> tuple[list[Any], list[Frame]]:
    return [m.version, m.peers], []


def _read_peers(body: Body, frames: Sequence[Frame], now: float) -> Peers:
    version, peers = body[:2]
    return Peers(u64(version), [_read_peer(*peer[:5]) for peer in peers])


def _read_peer(address: Any, incarnation: Any, role: Any, stage: Any, revision: Any) -> Peer:
    return Peer(text(address), u64(incarnation), _read_role(role), text(stage), text(revision))


def _write_ping(m: Ping) -> tuple[list[Any], list[Frame]]:
    stamps, running = [m.stamp, m.echo, m.held], [m.queued, m.running, m.allowed]
    return [*stamps, *running, m.owners, *pack_load(m.load)], []


def _read_ping(body: Body, frames: Sequence[Frame], now: float) -> Ping:
    stamp, echo, held, queued, running, allowed = u64s(body[:6])
    return Ping(stamp, echo, held, queued, running, allowed, u64s(body[6]), read_load(body[7:]))


def _read_credit(body: Body, frames: Sequence[Frame], now: float) -> Credit:
    return Credit(read_load(body))


def _read_drain(body: Body, frames: Sequence[Frame], now: float) -> Drain:
    (last,) = body[:1]
    return Drain(u64(last))


def _write_bye(m: Bye) -> tuple[list[Any], list[Frame]]:
    return [words(m.reason)], []


def _read_bye(body: Body, frames: Sequence[Frame], now: float) -> Bye:
    (reason,) = body[:1]
    return Bye(text(reason))


def _write_err(m: Err) -> tuple[list[Any], list[Frame]]:
    return [m.sequence, words(m.reason)], []


def _read_err(body: Body, frames: Sequence[Frame], now: float) -> Err:
    sequence, reason = body[:2]
    return Err(u64(sequence), text(reason))


# A message's class and its type bear the same name.
_TYPES: dict[type[Any], Type] = {one: Type[one.__name__.upper()] for one in get_args(Message)}
_WRITERS: dict[Type, Callable[[Any], tuple[list[Any], list[Frame]]]] = {
    Type.HELLO: _write_hello,
    Type.WELCOME: _write_welcome,
    Type.PART: _write_part,
    Type.CREDIT: lambda m: (list(pack_load(m.load)), []),
    Type.DEATH: _write_death_notice,
    Type.SUBMIT: _write_submit,
    Type.CANCEL: _write_cancel,
    Type.PEERS: _write_peers,
    Type.PING: _write_ping,
    Type.DRAIN: lambda m: ([m.last], []),
    Type.BYE: _write_bye,
    Type.WHO: lambda _: ([], []),
    Type.ERR: _write_err,
}
_READERS: dict[Type, Callable[[Body, Sequence[Frame], float], Message]] = {
    Type.HELLO: _read_hello,
    Type.WELCOME: _read_welcome,
    Type.TASKS: bundles.read_tasks,
    Type.PART: _read_part,
    Type.CREDIT: _read_credit,
    Type.OUTCOMES: bundles.read_outcomes,
    Type.DEATH: _read_death_notice,
    Type.SUBMIT: _read_submit,
    Type.ANSWER: _read_answer,
    Type.CANCEL: _read_cancel,
    Type.PEERS: _read_peers,
    Type.PING: _read_ping,
    Type.DRAIN: _read_drain,
    Type.BYE: _read_bye,
    Type.WHO: lambda body, frames, now: Who(),
    Type.ERR: _read_err,
}

__all__ = ["MAX_BODY_BYTES", "VERSION", "Encoded", "decode", "encode", "open_header", "seal"]
