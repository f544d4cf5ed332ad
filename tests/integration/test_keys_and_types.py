"""Each key says each type of message to a gateway with real sockets: what its role may say."""

import itertools
import time

import pytest
import zmq
from wire_samples import in_words, may_say, samples, sequence_of

from gateway.requests.core import GatewayCore
from mesh.errors import ProtocolError
from mesh.links.events import Identity
from mesh.links.links import Links
from mesh.links.node import Node
from mesh.protocol.hold_off import SPARED_BREACHES
from mesh.protocol.messages import (
    Cancel,
    Err,
    Header,
    Hello,
    Ping,
    Role,
    StageFacts,
    Type,
    Welcome,
)
from mesh.protocol.wire import VERSION, decode, encode, seal
from mesh.transport.curve import Keys, generate, read_pair
from mesh.transport.zeromq import ZmqNetwork

PATH = (("echo", "r"),)
ROLES = {"stage": Role.REPLICA, "supervisor": Role.SUPERVISOR, "client": Role.CLIENT}
PATIENCE = 10.0
NUMBERS = itertools.count(0xBAD00)
# Those whose effect a PING that follows can show.
TYPES = set(samples(0, PATH)) - {Type.DRAIN, Type.BYE, Type.WHO, Type.ERR}


class KeyedGateway:
    """A gateway's core on real sockets with keys."""

    def __init__(self, folder):
        self.folder = folder
        generate(folder, ())
        self.links = Links(Identity(1, Role.GATEWAY), lambda: 0.5)
        core = GatewayCore(self.links, {"/inference": PATH}, 3, time.monotonic())
        keys = Keys(str(folder), (), "gateway")
        self.network = ZmqNetwork(time.monotonic, keys=keys)
        self.links.admits, self.links.source = self.network.objection, self.network.source
        self.address = self.network.listen("tcp://127.0.0.1:*")
        self.node = Node(core, self.network)
        self.context = zmq.Context()

    def close(self):
        self.network.close()
        self.context.term()

    def until(self, holds):
        """Turn until something holds; returns it."""
        end = time.monotonic() + PATIENCE
        while not (found := holds()):
            assert time.monotonic() < end, "it did not come"
            self.network._look_at_router = True
            self.node.turn(time.monotonic())
            time.sleep(0.001)
        return found


class Speaker:
    """Somebody with a key."""

    def __init__(self, site, key, me):
        self.site, self.me, self.sequence = site, me, 0
        own = read_pair(site.folder / f"{key}.key")
        self.socket = site.context.socket(zmq.DEALER)
        self.socket.curve_publickey = own.public.encode()
        self.socket.curve_secretkey = own.secret.encode()
        self.socket.curve_serverkey = read_pair(site.folder / "gateway.key").public.encode()
        self.socket.connect(site.address)

    def greet(self, role):
        """Say HELLO; returns what is answered."""
        facts = StageFacts("echo", "r", 4, 3.0, 1 << 20) if role is Role.REPLICA else None
        self.say(Hello(role, 5, "mesh", (VERSION,), stage=facts))
        return self.site.until(self.heard)

    def heard(self):
        while self.socket.poll(0):
            try:
                _, message = decode(self.socket.recv_multipart(), 0.0)
            except ProtocolError:
                continue
            if type(message) in (Welcome, Err):
                return message
        return None

    def say(self, message, sequence=0):
        encoded = encode(message)
        frames = seal(Header(encoded.type, self.me, 1, sequence), encoded)
        self.socket.send_multipart([bytes(frame) for frame in frames])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = KeyedGateway(tmp_path_factory.mktemp("keys"))
    yield made
    made.close()


@pytest.fixture
def speak(site):
    """Makes a speaker with a key, and a number of its own."""
    site.links.held_off = type(site.links.held_off)()  # what other tests did is forgotten
    made = []

    def speaker(key):
        made.append(Speaker(site, key, next(NUMBERS)))
        return made[-1]

    yield speaker
    for one in made:
        one.socket.close(0)


@pytest.mark.parametrize("kind", sorted(TYPES), ids=in_words)
@pytest.mark.parametrize("key", ROLES)
def test_a_key_says_what_its_role_may_and_loses_its_session_for_more(site, speak, key, kind):
    role, speaker = ROLES[key], speak(key)
    me = speaker.me
    assert isinstance(speaker.greet(role), Welcome)
    breaches = site.links.breaches
    speaker.say(samples(me, PATH)[kind], sequence_of(kind))
    owes = kind is not Type.PART or role is Role.REPLICA
    if may_say((role, Role.GATEWAY, True), kind) and owes:
        speaker.say(Ping(7))
        session = site.links.sessions[me]
        site.until(lambda: site.links._stamps.get(me, (0, 0))[0] == 7)
        assert site.links.sessions[me] is session
        assert site.links.breaches == breaches
    else:
        told = site.until(speaker.heard)
        assert told.reason.startswith("you are expelled for ")
        assert me not in site.links.sessions
        assert site.links.breaches == breaches + 1


@pytest.mark.parametrize("claim", Role, ids=lambda role: role.name)
@pytest.mark.parametrize("key", ["gateway", "feed", *ROLES])
def test_a_key_is_no_more_than_the_list_says(speak, key, claim):
    told = speak(key).greet(claim)
    assert isinstance(told, Welcome) is (ROLES.get(key) is claim)


def test_a_key_that_comes_back_with_other_numbers_is_held_off_itself(site, speak):
    for _ in range(SPARED_BREACHES + 1):
        rogue = speak("supervisor")
        assert isinstance(rogue.greet(Role.SUPERVISOR), Welcome)
        rogue.say(Cancel(rogue.me, [1]), 1)
        assert isinstance(site.until(rogue.heard), Err)
    told = speak("supervisor").greet(Role.SUPERVISOR)
    assert told.reason.startswith("you were expelled; come again in ")
    assert isinstance(speak("stage").greet(Role.REPLICA), Welcome)


def test_a_hello_out_of_its_ranges_costs_its_key_what_any_breach_does(site, speak):
    facts = StageFacts("echo", "r", 0, 3.0, 1 << 20)
    breaches, told = site.links.breaches, []
    for _ in range(SPARED_BREACHES + 1):
        rogue = speak("stage")
        rogue.say(Hello(Role.REPLICA, 5, "mesh", (VERSION,), stage=facts))
        told.append(site.until(rogue.heard).reason)
        assert rogue.me not in site.links.sessions
    assert told == ["you are expelled for 1 s: batch is 0, not within 1 to 65536"] * len(told)
    assert site.links.breaches == breaches + SPARED_BREACHES + 1
    held_off = speak("stage").greet(Role.REPLICA)
    assert held_off.reason.startswith("you were expelled; come again in ")
    assert isinstance(speak("supervisor").greet(Role.SUPERVISOR), Welcome)


def test_from_one_key_and_address_come_so_many_and_others_still_may(site, speak, monkeypatch):
    monkeypatch.setattr("mesh.links.handshake.MOST_FROM_ONE_SOURCE", 8)
    site.links.sessions.clear()
    for _ in range(8):
        assert isinstance(speak("stage").greet(Role.REPLICA), Welcome)
    refused = speak("stage").greet(Role.REPLICA)
    assert refused.reason.startswith("8 processes are connected with your key from your address")
    assert isinstance(speak("client").greet(Role.CLIENT), Welcome)
