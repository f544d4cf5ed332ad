"""Each role says each type of message to each real core that it can reach: the table, played."""

from itertools import product

import pytest
from members import Supervision
from small_mesh import SmallMesh

from mesh.protocol.messages import (
    Answer,
    Bye,
    Cancel,
    Credit,
    Drain,
    Err,
    Header,
    Hello,
    Kind,
    Obituary,
    Outcome,
    Outcomes,
    Part,
    Peers,
    Ping,
    Role,
    StageFacts,
    Submit,
    Task,
    Tasks,
    Type,
    Welcome,
    Who,
)
from mesh.protocol.permissions import MAY_SAY, permitted
from mesh.protocol.wire import VERSION, decode, encode, seal
from mesh.transport.network import Happened

ME = 0xBAD
ADDRESS = "tcp://speaker"
PATH = (("a", "r"), ("b", "r"))
# Every message is the speaker's own to say, where its role may: only the type is judged here.
SAYINGS = {
    Type.TASKS: Tasks([Task(ME, 5, PATH, 0, 1, 1e6, [b"x"], 1)]),
    Type.PART: Part(1, 4, 0, b"xx"),
    Type.CREDIT: Credit(),
    Type.OUTCOMES: Outcomes([Outcome(5, 1, Kind.RESULT)]),
    Type.OBITUARY: Obituary(99, "a", 9, 0, []),
    Type.SUBMIT: Submit(1, "/inference", 0, 0, None, [b"x"]),
    Type.ANSWER: Answer(Outcome(1, 1, Kind.RESULT)),
    Type.CANCEL: Cancel(ME, [5]),
    Type.PEERS: Peers(1, []),
    Type.PING: Ping(5),
    Type.DRAIN: Drain(0),
    Type.BYE: Bye("done"),
    Type.WHO: Who(),
    Type.ERR: Err(0, "no"),
}
UNNUMBERED = {Type.CREDIT, Type.PEERS, Type.PING, Type.DRAIN, Type.BYE, Type.WHO, Type.ERR}
# A client's slices have nothing that they could belong to, as long as nothing is granted to it.
OWED = {(Role.CLIENT, Type.PART): False}
# Who is a core, and can be reached, or reaches others.
PLACES = [
    (Role.GATEWAY, True),
    (Role.REPLICA, True),
    (Role.REPLICA, False),
    (Role.SUPERVISOR, False),
]
ROWS = [(speaker, *place) for speaker, place in product(Role, PLACES)]


class Watched(SmallMesh):
    """A mesh of two stages that writes down who is expelled by whom."""

    def __init__(self):
        super().__init__("a", "b")
        self.expulsions = []
        # Where it is a gateway or a feed, the replica dials the speaker by itself.
        self.first = self.replica("a", gateways=[*self.addresses, ADDRESS])
        self.second = self.replica("b")
        self.supervisor = self.join(Supervision(self, [*self.addresses, ADDRESS], 3.0))

    def expelled(self, member, session, reason, fault):
        self.expulsions.append((member, session.peer, reason, fault))

    def listener(self, role):
        of = {
            Role.GATEWAY: self.gateway,
            Role.REPLICA: self.first,
            Role.SUPERVISOR: self.supervisor,
        }
        return of[role]


class Speaker:
    """A port that says what it is told to."""

    def __init__(self, mesh, role):
        self.mesh, self.role = mesh, role
        self.port = mesh.network.port("speaker")
        self.link = 0

    def greet(self, listener):
        """Dial a listener and say HELLO."""
        address = getattr(listener, "address", "") or listener.core.links.identity.feed
        facts = StageFacts("a", "r", 4, 3.0, 1 << 20) if self.role is Role.REPLICA else None
        self.link = -1
        self.port.dial(-1, address)
        self.hear()
        self.say(Hello(self.role, 5, "mesh", (VERSION,), stage=facts))
        self.hear()

    def await_hello(self, listener):
        """Listen until this listener dials, and welcome it."""
        self.port.listen(ADDRESS)
        for _ in range(40):
            for link, header, message in self.hear():
                if type(message) is Hello and header.sender == listener.me:
                    self.link = link
                    self.say(Welcome(message.nonce, VERSION, self.role, 0, False, 3.0))
                    self.hear()
                    return

    def hear(self):
        self.mesh.run(0.1)
        found = []
        for happened, link, frames in self.port.receive():
            if happened is Happened.MESSAGE:
                header, message = decode(frames, 0.0)
                found.append((link, header, message))
        return found

    def say(self, message, sequence=0):
        encoded = encode(message)
        self.port.send(self.link, seal(Header(encoded.type, ME, 0, sequence), encoded))


def in_words(value):
    return value.name.lower() if isinstance(value, Role | Type) else str(value)


@pytest.mark.parametrize("kind", SAYINGS, ids=in_words)
@pytest.mark.parametrize(("role", "place", "dials"), ROWS, ids=in_words)
def test_whoever_says_what_it_may_not_say_is_expelled_and_harms_nobody(role, place, dials, kind):
    mesh = Watched()
    mesh.settle()
    speaker, listener = Speaker(mesh, role), mesh.listener(place)
    (speaker.greet if dials else speaker.await_hello)(listener)
    links = listener.core.links
    met = (role, place, dials) in MAY_SAY
    assert (ME in links.sessions) is met
    others = {peer: session.nonce for peer, session in links.sessions.items() if peer != ME}
    number = mesh.gateway.submit()
    speaker.say(SAYINGS[kind], int(kind not in UNNUMBERED))
    assert [b"".join(o.buffers) for o in mesh.answered(number, within=1.0)] == [b"xab"]
    mesh.run(0.2)
    may = kind in permitted(role, place, dialled=dials) and OWED.get((role, kind), True)
    expelled = [(member, peer) for member, peer, _, _ in mesh.expulsions]
    breaks = not may if met else dials  # who has no row may not even say HELLO
    assert expelled == ([(listener, ME)] if breaks else [])
    assert all(fault is None for *_, fault in mesh.expulsions)
    assert {peer: links.sessions[peer].nonce for peer in others} == others


def test_each_type_that_follows_a_greeting_is_said():
    assert set(SAYINGS) == set(Type) - {Type.HELLO, Type.WELCOME}
