"""Each role says each type of message to each real core that it can reach: the table, played."""

from dataclasses import replace
from itertools import product

import pytest
from members import Supervision
from small_mesh import SmallMesh
from wire_samples import BY_HAND, GREETINGS, in_words, may_say, samples, sequence_of

from mesh.protocol import permissions
from mesh.protocol.messages import Header, Hello, Role, StageFacts, Type, Welcome
from mesh.protocol.wire import VERSION, decode, encode, seal
from mesh.transport.network import NetworkEvent

ME = 0xBAD
ADDRESS = "tcp://speaker"
SAYINGS = samples(ME)
# A client's slices have nothing that they could belong to, as long as nothing is granted to it.
OWES_NOTHING = {(Role.CLIENT, Type.PART)}
# Who is a core, and can be reached, or reaches others.
PLACES = [
    (Role.GATEWAY, True),
    (Role.REPLICA, True),
    (Role.REPLICA, False),
    (Role.SUPERVISOR, False),
]
ROWS = [(speaker, *place) for speaker, place in product(Role, PLACES)]
MET = [row for row in ROWS if row in BY_HAND]


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

    def await_hello(self, listener, **told):
        """Listen until this listener dials, and welcome it, with these words in it."""
        self.port.listen(ADDRESS)
        for _ in range(40):
            for link, header, message in self.hear():
                if type(message) is Hello and header.sender == listener.me:
                    self.link = link
                    said = Welcome(message.nonce, VERSION, self.role, 0, False, 3.0)
                    self.say(replace(said, **told))
                    self.hear()
                    return

    def hear(self):
        self.mesh.run(0.1)
        found = []
        for happened, link, frames in self.port.receive():
            if happened is NetworkEvent.MESSAGE:
                header, message = decode(frames, 0.0)
                found.append((link, header, message))
        return found

    def say(self, message, sequence=0):
        encoded = encode(message)
        self.port.send(self.link, seal(Header(encoded.type, ME, 0, sequence), encoded))


def play(row, kind, **told):
    """Have a speaker meet a listener and say this type; returns what becomes of it.

    Whatever that is, an honest request is answered, and nobody else loses its session.
    """
    role, place, dials = row
    mesh = Watched()
    mesh.settle()
    speaker, listener = Speaker(mesh, role), mesh.listener(place)
    if dials:
        speaker.greet(listener)
    else:
        speaker.await_hello(listener, **told)
    links = listener.core.links
    met = ME in links.sessions
    others = {peer: session.nonce for peer, session in links.sessions.items() if peer != ME}
    number = mesh.gateway.submit()
    speaker.say(SAYINGS[kind], sequence_of(kind))
    assert [b"".join(o.buffers) for o in mesh.answered(number, within=1.0)] == [b"xab"]
    mesh.run(0.2)
    assert all(fault is None for *_, fault in mesh.expulsions)
    assert {peer: links.sessions[peer].nonce for peer in others} == others
    expelled = [(member, peer) for member, peer, _, _ in mesh.expulsions]
    assert expelled in ([], [(listener, ME)])
    return "expelled" if expelled else "heard" if met else "never met"


def verdict(row, kind):
    """What should become of it, by the table that is written by hand."""
    if row not in BY_HAND:  # who has no row may not even say HELLO
        return "expelled" if row[2] else "never met"
    return "heard" if may_say(row, kind) and (row[0], kind) not in OWES_NOTHING else "expelled"


@pytest.mark.parametrize("kind", SAYINGS, ids=in_words)
@pytest.mark.parametrize("row", ROWS, ids=in_words)
def test_whoever_says_what_it_may_not_say_is_expelled_and_harms_nobody(row, kind):
    assert play(row, kind) == verdict(row, kind)


def is_noticed(row, kind):
    """Whether what becomes of it differs from what should; or honest members cannot go on."""
    try:
        return play(row, kind) != verdict(row, kind)
    except (AssertionError, KeyError):
        return True


# Slices of who owes nothing are refused for that, too, whatever the table says.
CHANGES = [
    (row, kind)
    for row, kind in product(MET, SAYINGS)
    if kind is not Type.PART or verdict(row, kind) == "heard"
]


@pytest.mark.parametrize(("row", "kind"), CHANGES, ids=in_words)
def test_each_type_taken_out_of_a_row_or_put_into_it_is_noticed(row, kind, monkeypatch):
    table = permissions._ALLOWED
    monkeypatch.setitem(table, row, table[row] ^ {kind})
    assert is_noticed(row, kind)


@pytest.mark.parametrize(
    "told",
    [{"nonce": 9}, {"version": VERSION + 1}, {"resumed": True}],
    ids=lambda told: next(iter(told)),
)
@pytest.mark.parametrize("row", [row for row in MET if not row[2]], ids=in_words)
def test_a_welcome_that_does_not_answer_our_hello_makes_no_session(row, told):
    assert play(row, Type.PING, **told) == "never met"


@pytest.mark.parametrize("timeout", [0.0, 1e9])
@pytest.mark.parametrize("role", [Role.GATEWAY, Role.REPLICA], ids=in_words)
def test_only_a_gateway_says_how_often_signs_of_life_are_due(role, timeout):
    mesh = Watched()
    mesh.settle()
    speaker, listener = Speaker(mesh, role), mesh.first
    links = listener.core.links
    before = links.heartbeat.silence, links.heartbeat.ping_every
    speaker.await_hello(listener, timeout=timeout)
    assert ME in links.sessions
    changed = (links.heartbeat.silence, links.heartbeat.ping_every) != before
    assert changed is (role is Role.GATEWAY)


def test_each_type_that_follows_a_greeting_is_said():
    assert set(SAYINGS) == set(Type) - GREETINGS
