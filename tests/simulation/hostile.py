"""Members that say whatever the wire can carry: each plays a role, and keeps to none of its rules.

One knows what such a process may know. Every number of a request that its place cannot lead it to
has to be guessed; of those that the rules must keep from it without that secret it is told all. It
grants no credit: whoever takes a task may do with it what it likes, which no rule can mend.
"""

from mesh.errors import ProtocolError
from mesh.protocol.messages import (
    Answer,
    Bye,
    Cancel,
    Credit,
    Drain,
    Err,
    Figures,
    Header,
    Hello,
    Kind,
    Note,
    Obituary,
    Outcome,
    Outcomes,
    Part,
    Peer,
    Peers,
    Ping,
    Role,
    StageFacts,
    Submit,
    Task,
    Tasks,
    Welcome,
    Who,
)
from mesh.protocol.permissions import MOST_PEERS
from mesh.protocol.wire import VERSION, decode, encode, seal
from mesh.transport.network import Happened

EVERY = 0.015  # seconds between two things that one says, at most twice that
SLICE = 4096  # bytes of a slice, of a transfer that claims to be larger
HOARD = 4096  # the same of one who hoards them
MANY_AT_ONCE = 4  # that he begins
RARELY = 0.5  # seconds between two things that one does who is tired
GUESSES = 60
BOUND = 0.8  # chance that it says something of a type that its role may say
MANY = 12  # numbers that it names at once


class Hostile:
    """One process that keeps no rule.

    Args:
        world: that it is let loose in.
        role: what it says it is.
        seed: of all that it says.
    """

    def __init__(self, world, role, chance):
        self.world, self.role, self.chance = world, role, chance
        self.port = world.port(f"hostile-{role.name.lower()}")
        self.me = self.draw()
        self.links = {}  # link -> incarnation of the other, 0 while it is not known
        self.sequences = {}
        self.received = {}
        self.dialled = 0
        self.feed = f"tcp://{self.port.name}"
        self.address = f"tcp://{self.port.name}:gateway"
        if role is Role.GATEWAY:
            self.port.listen(self.address)
        if role is Role.REPLICA:
            self.port.listen(self.feed)
        self.victim = world.gateways[0]  # the gateway whose requests it speaks of
        self.stage = chance.choice([*world.stages, "nowhere"])

    def draw(self):
        """A new incarnation, of which the world knows that no rule is kept."""
        number = self.chance.getrandbits(62) | 1
        self.world.hostile.add(number)
        return number

    # --- connections -----------------------------------------------------------------------------

    def act(self):
        """Hear, say one thing somewhere, and come again soon."""
        if self.port is None:
            return
        self.hear()
        self.world.look_at_slices(self)
        if self.role is not Role.GATEWAY and (len(self.links) < 2 or self.chance.random() < 0.1):
            self.dial()
        if self.links:
            self.say_something(self.chance.choice(sorted(self.links)))
        self.world.at(self.world.now + EVERY * (1 + self.chance.random()), self.act)

    def dial(self):
        feeds = [rep.core.links.identity.feed for rep in self.world.reps()]
        places = [*self.world.addresses, *filter(None, feeds)]
        self.dialled -= 1
        self.port.dial(self.dialled, self.chance.choice(places))

    def hear(self):
        for happened, link, frames in self.port.receive():
            if happened is Happened.OPENED:
                self.links[link] = 0
                self.say(link, self.hello())
            elif happened is Happened.CLOSED:
                self.links.pop(link, None)
            elif happened is Happened.MESSAGE:
                self.answer(link, frames)

    def answer(self, link, frames):
        try:
            header, message = decode(frames, self.world.now)
        except ProtocolError:
            return
        self.links[link] = header.sender
        self.received[link] = max(self.received.get(link, 0), header.sequence)
        if type(message) is Hello:
            self.sequences.pop(link, None)
            self.say(link, Welcome(message.nonce, VERSION, self.role, 0, False, 3.0))
        elif type(message) in (Who, Err) and link < 0:
            if self.chance.random() < 0.5:
                self.me = self.draw()
            self.sequences.pop(link, None)
            self.say(link, self.hello())

    def say(self, link, message, sequence=0):
        try:
            encoded = encode(message, self.world.now)
        except ProtocolError:
            return
        receipt = self.received.get(link, 0)
        header = Header(encoded.type, self.me, self.links.get(link, 0), sequence, receipt, 0, 0)
        self.port.send(link, seal(header, encoded))

    def leave(self):
        """It is gone for good."""
        self.port.close()
        self.port = None

    # --- what it says ----------------------------------------------------------------------------

    def hello(self):
        pick, facts = self.chance.choice, None
        if self.role is Role.REPLICA:
            revision = self.world.path[0][1]
            batch, limit, pool = pick((1, 65_536)), pick((1e-6, 2e6)), pick((1, 1 << 60))
            facts = StageFacts(self.stage, revision, batch, limit, pool)
        victim = pick(self.world.reps() or [self]).me
        parents = [host.link.me for host in self.world.hosts]
        return Hello(
            self.role,
            self.chance.getrandbits(50) + 1,
            "mesh",
            (VERSION,),
            feed=self.feed if facts else "",
            stage=facts,
            host="",
            pid=pick((0, 1)),
            owners=(*(g.me for g in self.world.gateways if g), victim),
            parent=0 if facts else pick(parents),
        )

    def numbers(self):
        """Of requests that it may speak of: a few guesses, or what the rules must keep from it."""
        guesses = [self.chance.randrange(1, GUESSES) for _ in range(MANY)]
        first = self.world.draw.stages[0].name
        if self.role is Role.REPLICA and self.stage not in (first, "nowhere"):
            return guesses
        gateway = self.victim = self.chance.choice(self.world.gateways)
        known = list(gateway.core.book.requests)[-MANY:]
        return known or guesses

    def owner(self):
        return self.victim.me

    def say_something(self, link):
        own = OWN[self.role] if self.chance.random() < BOUND else SAYINGS
        if self.role is Role.REPLICA and link > 0:  # it is dialled as a feed
            own = OWN[Role.GATEWAY]
        message = self.chance.choice(own)(self)
        sequence = 0
        if not isinstance(message, (Credit, Ping, Drain, Bye, Who, Err, Peers)):
            sequence = self.sequences[link] = self.sequences.get(link, 0) + 1
        if self.chance.random() < 0.02:
            sequence += 1
        self.say(link, message, sequence)

    def tasks(self):
        numbers = self.numbers()[:2]
        path = self.chance.choice((self.world.path, self.world.path[1:] or self.world.path, X))
        now, hop = self.world.now, self.chance.choice((0, 1, 7))
        return Tasks(
            [
                Task(
                    self.chance.choice((self.me, self.owner())), n, path, hop, 1, now + 0.1, JUNK, 4
                )
                for n in numbers
            ]
        )

    def outcomes(self):
        """Of one sort, as they would be that are meant to be believed."""
        pick, last = self.chance.choice, len(self.world.path) - 1
        likely = (Kind.RESULT, last), (Kind.FAILURE, 0), (Kind.HANDBACK, 1), (Kind.UNSTARTED, 0)
        kind, hop = pick((*likely, (pick(list(Kind)), pick((0, 1, 2, 9)))))
        attempt, label = pick((1, 1, 2, 9)), "server_error" if kind is Kind.FAILURE else ""
        return Outcomes(
            [
                Outcome(n, attempt, kind, hop, buffers=list(JUNK), label=label)
                for n in self.numbers()
            ]
        )

    def notes(self):
        holders = [member.me for member in self.world.members]
        pick = self.chance.choice
        return Outcomes(
            notes=[Note(n, 1, pick((0, 1, 2, 9)), pick(holders)) for n in self.numbers()]
        )

    def figures(self):
        stage = self.chance.choice((self.stage, *self.world.stages, f"x{self.chance.random()}"))
        return Outcomes(figures=[Figures(stage, 1, 0, 2**32 - 1, "idle", nbytes=2**62)])

    def obituary(self):
        dead = self.chance.choice([rep.me for rep in self.world.reps()] or [self.me])
        numbers = self.numbers()[-2:]
        ids = [(self.owner(), n) for n in numbers]
        return Obituary(dead, self.stage, 11, 0, ids)

    def cancel(self):
        numbers = self.numbers()
        return Cancel(self.chance.choice((self.me, self.owner())), numbers)

    def peers(self):
        many = self.chance.choice((1, 1, 2 * MOST_PEERS))
        nowhere = [f"tcp://10.0.{n // 256}.{n % 256}:1" for n in range(many)]
        places = self.chance.choice((nowhere, self.world.addresses))
        return Peers(1, [Peer(place, 9, Role.REPLICA, self.stage, "r") for place in places])

    def part(self):
        return Part(self.chance.randrange(9), 1 << 22, 0, bytes(SLICE))


class Hoarder(Hostile):
    """One that begins more large payloads than there is room for, and ends none."""

    def __init__(self, world, role, chance):
        super().__init__(world, role, chance)
        self.stage = chance.choice(list(world.stages))
        self.transfers = {}  # by link
        self.is_tired = False

    def act(self):
        if self.port is None:
            return
        self.hear()
        self.world.look_at_memory()
        if self.role is not Role.GATEWAY and (len(self.links) < 2 or self.chance.random() < 0.1):
            self.dial()
        for link in sorted(self.links):
            if self.links.get(link) and not self.is_tired:
                self.begin(link)
        pause = RARELY if self.is_tired else MANY_AT_ONCE * EVERY
        self.world.at(self.world.now + pause * (1 + self.chance.random()), self.act)

    def begin(self, link):
        """Begin more payloads on this link."""
        for _ in range(MANY_AT_ONCE):
            number = self.transfers[link] = self.transfers.get(link, -1) + 1
            self.sequences[link] = self.sequences.get(link, 0) + 1
            self.say(link, Part(number, 2 * HOARD, 0, bytes(HOARD)), self.sequences[link])

    def say(self, link, message, sequence=0):
        if isinstance(message, Hello | Welcome):
            self.transfers.pop(link, None)
        super().say(link, message, sequence)


X = (("nowhere", "r"),)
JUNK = [b"junk"]
SAYINGS = (
    Hostile.tasks,
    Hostile.outcomes,
    Hostile.outcomes,
    Hostile.notes,
    Hostile.figures,
    Hostile.obituary,
    Hostile.obituary,
    Hostile.cancel,
    Hostile.cancel,
    Hostile.peers,
    Hostile.part,
    lambda self: Submit(1, "/inference", 0, 0, None, list(JUNK)),
    lambda self: Answer(Outcome(1, 1, Kind.RESULT, buffers=list(JUNK))),
    lambda self: Ping(1, 1, 0, 2**31, 1, 2**31, (self.owner(),)),
    lambda self: Credit(),
    lambda self: Drain(self.chance.choice((0, 2**60))),
    lambda self: Err(self.chance.randrange(9), "no"),
    lambda self: Who(),
    lambda self: Bye("no"),
)
OWN = {
    Role.GATEWAY: (Hostile.cancel, Hostile.cancel, Hostile.peers, Hostile.tasks),
    Role.REPLICA: (
        Hostile.outcomes,
        Hostile.outcomes,
        Hostile.notes,
        Hostile.figures,
        Hostile.tasks,
    ),
    Role.SUPERVISOR: (Hostile.obituary,),
    Role.CLIENT: (Hostile.cancel, Hostile.part),
}
