"""Whoever has a key and says what it may not is expelled, counted and logged, and nobody else.

A gateway, a replica of each of two stages and a supervisor, on real sockets with keys; beside them
rogues that have a key, too: for each type that their role may not say there is one that says it.
"""

import itertools
import random
import time
from contextlib import ExitStack
from typing import NamedTuple

import pytest
import zmq
from members import Gateway, Mesh, Rep, Supervision
from wire_samples import BY_HAND, PATH, in_words, may_say, samples, sequence_of

from mesh.links.expulsions import ExpulsionLog
from mesh.protocol.hold_off import HoldOff
from mesh.protocol.messages import Err, Header, Hello, Role, StageFacts, Welcome
from mesh.protocol.wire import VERSION, decode, encode, seal
from mesh.transport.curve import Keys, generate, read_pair
from mesh.transport.zeromq import ZmqNetwork

ANY_PORT = "tcp://127.0.0.1:*"
PATIENCE_S = 10.0
PROMPT_S = 2.0  # an honest request takes a few ms; the machine may be busy
NUMBERS = itertools.count(0xBAD00)
TYPES = samples(0, PATH)
# By which key, listening or dialling, a row's speaker is let in.
KEYS = {
    (Role.GATEWAY, Role.REPLICA, False): "gateway",
    (Role.GATEWAY, Role.SUPERVISOR, False): "gateway",
    (Role.REPLICA, Role.REPLICA, False): "feed",
    (Role.REPLICA, Role.REPLICA, True): "stage",
    (Role.REPLICA, Role.GATEWAY, True): "stage",
    (Role.SUPERVISOR, Role.GATEWAY, True): "supervisor",
    (Role.CLIENT, Role.GATEWAY, True): "client",
}


class RealClock:
    """Time as it is."""

    @property
    def now(self):
        return time.monotonic()


class Seat(ZmqNetwork):
    """A network that looks at all of its sockets in each turn, as no loop watches them."""

    def __init__(self, name, keys):
        super().__init__(time.monotonic, keys=keys)
        self.name = name

    def receive(self, ready=()):
        self._look_at_router = self._router is not None
        self._touched.update(self._dialled.values())
        return super().receive(ready)


class KeyedMesh(Mesh):
    """The honest ones."""

    def __init__(self, folder):
        super().__init__(RealClock(), None, random.Random(1))
        generate(folder, ())
        self.folder, self.context = folder, zmq.Context()
        self.log = ExpulsionLog()
        self.expulsions = []
        self.gateway = self.join(Gateway(self, ANY_PORT, {"/inference": PATH}, 3.0, 3))
        self.addresses = {self.gateway.port._bound}
        self.first = self._replica("a", ANY_PORT)
        self.second = self._replica("b", "")
        self.supervisor = self.join(Supervision(self, sorted(self.addresses), 3.0))
        self.asked = {}
        self.took = []
        self.until(lambda: self.took)

    def port(self, kind):
        dials, serves = {
            "gateway": ((), "gateway"),
            "a": (["stage"], "feed"),
            "b": (["stage"], ""),
            "supervisor": (["supervisor"], ""),
        }[kind]
        return Seat(kind, Keys(str(self.folder), dials, serves))

    def _replica(self, name, feed):
        rep = Rep(self, (name, "r"), sorted(self.addresses), feed, takes=lambda size: 0.001)
        rep.core.links.identity.feed = rep.port._bound
        self.tell_gateways(rep, self.addresses)
        return self.join(rep)

    def tell_gateways(self, member, addresses):
        """These are all the gateways that a member's settings name."""
        member.port.trust(set(addresses), ())
        member.core.links.gateways = frozenset(addresses)
        if isinstance(member, Rep):
            member.core.know_gateways(sorted(addresses), self.now)
        else:
            member.core.dial(sorted(addresses), self.now)

    def expelled(self, member, session, reason, fault):
        self.expulsions.append((member, session.peer, reason, fault))
        self.log.record(session, reason, fault)

    def listener(self, row):
        return {
            Role.GATEWAY: self.gateway,
            Role.SUPERVISOR: self.supervisor,
            Role.REPLICA: self.first if row[2] else self.second,
        }[row[1]]

    def until(self, holds):
        """Turn until something holds; honest requests go on meanwhile."""
        end = self.now + PATIENCE_S
        while not holds():
            assert self.now < end, "it did not come"
            for member in self.members:
                member.turn()
            self._go_on()
            time.sleep(0.001)

    def _go_on(self):
        for number in [each for each in self.asked if each in self.gateway.answers]:
            outcome = self.gateway.answers[number]
            assert b"".join(outcome.buffers) == b"xab", outcome
            self.took.append(self.now - self.asked.pop(number))
        if not self.asked:
            self.asked[self.gateway.submit()] = self.now

    def close(self):
        for member in self.members:
            member.port.close()
        self.context.term()


class Rogue:
    """Somebody with a key who says one thing.

    Args:
        site: where.
        row: what it plays.
        kind: the type that it says.
        address: whom it dials; "" where it is dialled.
    """

    def __init__(self, site, row, kind, address):
        self.row, self.kind, self.me = row, kind, next(NUMBERS)
        own = read_pair(site.folder / f"{KEYS[row]}.key")
        self.socket = site.context.socket(zmq.DEALER if address else zmq.ROUTER)
        self.socket.linger = 0
        self.socket.curve_publickey = own.public.encode()
        self.socket.curve_secretkey = own.secret.encode()
        self.address, self.peer, self.told = "", [], ""
        self.met = False
        if address:
            listens = "gateway" if row[1] is Role.GATEWAY else "feed"
            server = read_pair(site.folder / f"{listens}.key")
            self.socket.curve_serverkey = server.public.encode()
            self.socket.connect(address)
            self.say(Hello(row[0], 5, "mesh", (VERSION,), stage=self.facts(site, row)))
        else:
            self.socket.curve_server = True
            self.socket.bind(ANY_PORT)
            self.address = self.socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()

    @staticmethod
    def facts(site, row):
        if row[0] is not Role.REPLICA:
            return None
        return StageFacts("b" if row[1] is Role.REPLICA else "a", "r", 4, 3.0, 1 << 20)

    def turn(self, expected):
        """Greet whom we expect; note what it tells us."""
        while self.socket.poll(0):
            frames = self.socket.recv_multipart()
            identity = [] if self.socket.type == zmq.DEALER else [frames.pop(0)]
            header, message = decode(frames, 0.0)
            if header.sender != expected:
                continue
            if type(message) is Hello:
                self.peer = identity
                self.say(Welcome(message.nonce, VERSION, self.row[0], 0, False, 3.0))
                self.met = True
            elif type(message) is Welcome:
                self.met = True
            elif type(message) is Err:
                self.told = message.reason

    def misbehave(self):
        self.say(samples(self.me, PATH)[self.kind], sequence_of(self.kind))

    def say(self, message, sequence=0):
        encoded = encode(message)
        frames = seal(Header(encoded.type, self.me, 0, sequence), encoded)
        self.socket.send_multipart([*self.peer, *map(bytes, frames)])


class Court(NamedTuple):
    """The rogues of one row, and whom they speak to."""

    site: KeyedMesh
    rogues: list
    listener: object

    def until(self, holds):
        def all_hold():
            for rogue in self.rogues:
                rogue.turn(self.listener.me)
            return all(map(holds, self.rogues))

        self.site.until(all_hold)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = KeyedMesh(tmp_path_factory.mktemp("keys"))
    yield made
    made.close()


@pytest.fixture
def court(site, row):
    """For each type that a row's speaker may not say one who is about to, all of them met."""
    listener, forbidden = site.listener(row), [kind for kind in TYPES if not may_say(row, kind)]
    address = listener.port._bound if row[2] else ""
    with ExitStack() as stack:
        rogues = [Rogue(site, row, kind, address) for kind in forbidden]
        for rogue in rogues:
            stack.callback(rogue.socket.close)
        addresses = {rogue.address for rogue in rogues if rogue.address}
        if row[0] is Role.GATEWAY:
            site.tell_gateways(listener, site.addresses | addresses)
        elif addresses:
            listener.core.links.dial(
                [*site.addresses, site.first.port._bound, *addresses], site.now
            )
        yield Court(site, rogues, listener)
    for member in site.members:
        member.core.links.held_off = HoldOff()
    if row[0] is Role.GATEWAY:
        site.tell_gateways(listener, site.addresses)


@pytest.mark.parametrize("row", KEYS, ids=in_words)
def test_each_forbidden_type_costs_its_speaker_its_session_alone(site, court, row, caplog):
    links = court.listener.core.links
    court.until(lambda rogue: rogue.met and rogue.me in links.sessions)
    rogues = {rogue.me for rogue in court.rogues}
    honest = {peer: one.nonce for peer, one in links.sessions.items() if peer not in rogues}
    breaches, expulsions = links.breaches, len(site.expulsions)
    site.took.clear()
    for rogue in court.rogues:
        rogue.misbehave()
    court.until(lambda rogue: rogue.told)
    reasons = {rogue.me: f"it may not say {rogue.kind.name}" for rogue in court.rogues}
    assert {rogue.me: rogue.told for rogue in court.rogues} == {
        me: f"you are expelled for 1 s: {reason}" for me, reason in reasons.items()
    }
    assert rogues & links.sessions.keys() == set()
    assert links.breaches - breaches == len(court.rogues)
    said = site.expulsions[expulsions:]
    assert {peer: reason for _, peer, reason, _ in said} == reasons
    assert {(member, fault) for member, _, _, fault in said} == {(court.listener, None)}
    lines = [line for line in caplog.messages if line.startswith("expelled ")]
    assert len(lines) == len(court.rogues)
    assert all(any(reason in line for line in lines) for reason in reasons.values())
    answered = len(site.took)
    site.until(lambda: len(site.took) > answered + 3)
    assert max(site.took) < PROMPT_S
    assert {peer: links.sessions[peer].nonce for peer in honest} == honest


def test_each_row_that_a_process_can_hear_is_played():
    unheard = {row for row in BY_HAND if row[1] is Role.CLIENT}  # a client is no process of ours
    assert set(KEYS) == set(BY_HAND) - unheard
