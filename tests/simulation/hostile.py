"""Members that say whatever the wire can carry: each plays a role, and keeps to none of its rules.

One knows what such a process may know. Every number of a request that its place cannot lead it to
has to be guessed; of those that the rules must keep from it without that secret it is told all. It
grants no credit: whoever takes a task may do with it what it likes, which no rule can mend.

What it says is either made to be believed, or drawn as the tests of the wire draw it
(`tests/unit/mesh/wire_strategies.py`), with numbers in it that mean something here.
"""

from dataclasses import replace

from drawn_messages import drawn_messages
from wire_samples import BY_HAND, may_say, samples

from mesh.errors import ProtocolError
from mesh.protocol.fields import Transfer
from mesh.protocol.messages import (
    RELIABLE,
    BatchStats,
    Cancel,
    Death,
    Err,
    HandoffNotice,
    Header,
    Hello,
    Outcome,
    OutcomeKind,
    Outcomes,
    Part,
    Peer,
    Peers,
    Role,
    StageFacts,
    Task,
    Tasks,
    Type,
    Welcome,
    Who,
)
from mesh.protocol.permissions import MAX_PEERS
from mesh.protocol.wire import VERSION, decode, encode, seal
from mesh.transport.network import NetworkEvent

EVERY = 0.015  # seconds between two things that one says, at most twice that
SLICE = 4096  # bytes of a slice, of a transfer that claims to be larger
HOARD = 4096  # the same of one who hoards them
MANY_AT_ONCE = 4  # that he begins
RARELY = 0.5  # seconds between two things that one does who is tired
GUESSES = 60
BOUND = 0.8  # chance that it says something of a type that its role may say
DRAWN = 0.3  # chance that it is drawn, and not made to be believed
HONEST = 0.6  # chance that its HELLO or its WELCOME is like an honest process's
MOST_LINKS = 8  # that it dials
MANY = 12  # numbers that it names at once


class Voice:
    """What it is on one link, and what was said there.

    Args:
        me: the number that it bears there.
    """

    def __init__(self, me):
        self.me, self.peer = me, 0
        self.sequence = self.received = self.transfers = 0


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
        self.voices = {}  # by link
        self.dialled = 0
        self.feed = f"tcp://{self.port.name}"
        self.address = f"tcp://{self.port.name}:gateway"
        if role is Role.GATEWAY:
            self.port.listen(self.address)
        if role is Role.REPLICA:
            self.port.listen(self.feed)
        self.victim = world.gateways[0]  # the gateway whose requests it speaks of
        later = list(world.stages)[1:] if world.draw.profile == "usurpers" else []
        self.stage = chance.choice(later or [*world.stages, "nowhere"])

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
        self.world.look_at_slices()
        if self.role is not Role.GATEWAY and self.chance.random() < self.eagerness():
            self.dial()
        if self.voices:
            self.say_something(self.chance.choice(sorted(self.voices)))
        self.world.at(self.world.now + EVERY * (1 + self.chance.random()), self.act)

    def eagerness(self):
        """The chance that it dials once more: it has two links soon, and many later."""
        dialled = sum(link < 0 for link in self.voices)
        return 1.0 if dialled < 2 else 0.1 if dialled < MOST_LINKS else 0.0

    def dial(self):
        """By another number each other time: to dial on is to have many sessions."""
        feeds = [rep.core.links.identity.feed for rep in self.world.reps()]
        places = [*self.world.addresses, *filter(None, feeds)]
        if self.chance.random() < 0.5:
            self.me = self.draw()
        self.dialled -= 1
        self.port.dial(self.dialled, self.chance.choice(places))

    def hear(self):
        for happened, link, frames in self.port.receive():
            if happened is NetworkEvent.OPENED:
                self.voices[link] = Voice(self.me)
                self.say(link, self.hello())
            elif happened is NetworkEvent.CLOSED:
                self.voices.pop(link, None)
            elif happened is NetworkEvent.MESSAGE:
                self.answer(link, frames)

    def answer(self, link, frames):
        try:
            header, message = decode(frames, self.world.now)
        except ProtocolError:
            return
        voice = self.voices.setdefault(link, Voice(self.me))
        voice.peer = header.sender
        voice.received = max(voice.received, header.sequence)
        if type(message) is Hello:
            voice.sequence = voice.transfers = 0
            self.say(link, self.welcome(message))
        elif type(message) in (Who, Err) and link < 0:
            me = self.draw() if self.chance.random() < 0.5 else voice.me
            self.voices[link] = Voice(me)
            self.say(link, self.hello())

    def say(self, link, message, sequence=0):
        try:
            encoded = encode(message, self.world.now)
        except ProtocolError:
            return
        voice = self.voices[link]
        header = Header(encoded.type, voice.me, voice.peer, sequence, voice.received, 0, 0)
        self.port.send(link, seal(header, encoded))

    def leave(self):
        """It is gone for good."""
        self.port.close()
        self.port = None

    # --- what it says ----------------------------------------------------------------------------

    def hello(self):
        """As of an honest process, but for extremes; or with whatever lies the wire can carry."""
        pick, facts = self.chance.choice, None
        if self.role is Role.REPLICA:
            revision = self.world.hops[0][1]
            batch, limit, pool = pick((1, 65_536)), pick((1e-6, 2e6)), pick((1, 1 << 60))
            facts = StageFacts(self.stage, revision, batch, limit, pool)
        victim = pick(self.world.reps() or [self]).me
        parents = [host.link.me for host in self.world.hosts]
        honest = Hello(
            self.role,
            self.chance.getrandbits(50) + 1,
            "mesh",
            (VERSION,),
            feed=self.feed if facts else "",
            stage=facts,
            owners=(*(g.me for g in self.world.gateways if g), victim),
            parent=0 if facts else pick(parents),
        )
        if self.chance.random() < HONEST:
            return honest
        drawn = pick(drawn_messages()[Hello])
        lies = ("known", "received", "host", "pid", "owners", "parent", "versions", "mesh", "stage")
        told = {name: getattr(drawn, name) for name in self.chance.sample(lies, 2)}
        return replace(honest, **told)

    def welcome(self, hello):
        """As of an honest process, or with lies in it."""
        honest = Welcome(hello.nonce, VERSION, self.role, 0, False, 3.0)
        if self.chance.random() < HONEST:
            return honest
        drawn = self.chance.choice(drawn_messages()[Welcome])
        lies = ("nonce", "version", "role", "received", "resumed", "timeout")
        told = {name: getattr(drawn, name) for name in self.chance.sample(lies, 2)}
        return replace(honest, **told)

    def numbers(self):
        """Of requests that it may speak of: a few guesses, or what the rules must keep from it."""
        self.again = {}
        gateway = self.victim = self.chance.choice(self.world.gateways)
        requests = gateway.core.in_flight.requests
        if self.is_later():
            self.again = {n: each.attempt for n, each in requests.items() if each.attempt > 1}
            return list(self.again)[-MANY:] or self.guesses()
        return list(requests)[-MANY:] or self.guesses()

    def guesses(self):
        return [self.chance.randrange(1, GUESSES) for _ in range(MANY)]

    def place(self):
        """The hop of its stage, 0 where it has none."""
        return [name for name, _ in self.world.hops].index(self.stage) if self.is_later() else 0

    def is_later(self):
        """Whether it poses as a replica that others feed, and is believed of a first attempt."""
        first = self.world.draw.stages[0].name
        return self.role is Role.REPLICA and self.stage not in (first, "nowhere")

    def owner(self):
        return self.victim.me

    def say_something(self, link):
        role = self.role
        if role is Role.REPLICA and link > 0:  # it is dialled as a feed
            role = Role.GATEWAY
        if self.chance.random() < DRAWN:
            messages = [self.drawn(role)]
        elif self.chance.random() < 0.1:
            messages = self.in_slices(self.voices[link], role)
        else:
            own = OWN[role] if self.chance.random() < BOUND else EVERYTHING
            messages = [self.chance.choice(own)(self)]
        for message in messages:
            self.say(link, message, self.number(link, message))

    def number(self, link, message):
        """The next of what is reliable; now and then one is left out."""
        if TYPE_OF[type(message)] not in RELIABLE:
            return 0
        voice = self.voices[link]
        voice.sequence += 1
        return voice.sequence + (self.chance.random() < 0.02)

    def drawn(self, role):
        """Whatever the wire can carry, mostly of a type that the role may say."""
        pool, pick = drawn_messages(), self.chance.choice
        own = SAYABLE[role] if self.chance.random() < BOUND else list(pool)
        message = pick(pool[pick(own)])
        return self.aimed(message) if self.chance.random() < 0.7 else message

    def aimed(self, message):
        """The same, of requests and of processes that there are."""
        pick, numbers = self.chance.choice, self.numbers()
        members = [member.me for member in self.world.members]
        kind = type(message)
        if kind is Tasks:
            owner, now = pick((self.me, self.owner())), self.world.now
            told = {"owner": owner, "hops": self.world.hops, "hop": 0, "deadline": now + 0.1}
            return Tasks([replace(t, number=pick(numbers), **told) for t in message.tasks])
        if kind is Outcomes:
            outcomes = [replace(each, number=pick(numbers)) for each in message.outcomes]
            notices = [
                n._replace(number=pick(numbers), holder=pick(members)) for n in message.notices
            ]
            stats = [each._replace(stage=self.stage) for each in message.stats]
            return Outcomes(outcomes, notices, stats)
        if kind is Cancel:
            return Cancel(pick((self.me, self.owner())), numbers)
        if kind is Death:
            return replace(message, incarnation=pick(members))
        return message

    def in_slices(self, voice, role):
        """All slices of a payload and what names it, or all but the last slice."""
        number, voice.transfers = voice.transfers, voice.transfers + 1
        slices = [Part(number, 2 * SLICE, at, bytes(SLICE)) for at in (0, SLICE)]
        if self.chance.random() < 0.3:
            return slices[:1]
        whole = self.tasks() if role is Role.GATEWAY else self.outcomes()
        rows = whole.tasks if type(whole) is Tasks else whole.outcomes
        if type(whole) is Tasks:
            rows[:] = [replace(rows[0], buffers=[Transfer(number, 2 * SLICE)], nbytes=2 * SLICE)]
        else:
            rows[:] = [replace(rows[0], buffers=[Transfer(number, 2 * SLICE)])]
        return [*slices, whole]

    def tasks(self):
        # What it had once it may still feed to others, as an output of the attempt that it had.
        numbers = (self.guesses() if self.role is Role.REPLICA else self.numbers())[:2]
        hops = self.chance.choice((self.world.hops, self.world.hops[1:] or self.world.hops, X))
        now, hop = self.world.now, self.chance.choice((0, 1, 7))
        return Tasks(
            [
                Task(
                    self.chance.choice((self.me, self.owner())), n, hops, hop, 1, now + 0.1, JUNK, 4
                )
                for n in numbers
            ]
        )

    def outcomes(self):
        """Of one sort, as they would be that are meant to be believed."""
        pick, last = self.chance.choice, len(self.world.hops) - 1
        here = self.place()
        lesser = (
            (OutcomeKind.FAILURE, here),
            (OutcomeKind.HANDBACK, min(here + 1, max(1, last))),
            (OutcomeKind.UNSTARTED, 0),
        )
        likely = (OutcomeKind.RESULT, last), *lesser
        kind, hop = pick((*likely, (pick(list(OutcomeKind)), pick((0, 1, 2, 9)))))
        attempt, label = pick((1, 1, 2, 9)), "server_error" if kind is OutcomeKind.FAILURE else ""
        return Outcomes(
            [
                Outcome(n, self.again.get(n, attempt), kind, hop, buffers=list(JUNK), label=label)
                for n in self.numbers()
            ]
        )

    def notices(self):
        holders = [member.me for member in self.world.members]
        pick, hops = self.chance.choice, (self.place() + 1,) if self.is_later() else (0, 1, 2, 9)
        return Outcomes(
            notices=[
                HandoffNotice(n, self.again.get(n, 1), pick(hops), pick(holders))
                for n in self.numbers()
            ]
        )

    def stats(self):
        stage = self.chance.choice((self.stage, *self.world.stages, f"x{self.chance.random()}"))
        pick = self.chance.choice
        size, reason, nbytes = pick((1, 1, 2**31)), pick(("idle", "x")), pick((2**30, 2**62))
        return Outcomes(stats=[BatchStats(stage, size, 0, 2**32 - 1, reason, nbytes=nbytes)])

    def death_notice(self):
        dead = self.chance.choice([rep.me for rep in self.world.reps()] or [self.me])
        numbers = self.numbers()[-2:]
        ids = [(self.owner(), n) for n in numbers]
        return Death(dead, self.stage, 11, 0, ids)

    def cancel(self):
        numbers = self.numbers()
        return Cancel(self.chance.choice((self.me, self.owner())), numbers)

    def peers(self):
        many = self.chance.choice((1, 1, 2 * MAX_PEERS))
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
        self.is_tired = False

    def act(self):
        if self.port is None:
            return
        self.hear()
        self.world.look_at_memory()
        if self.role is not Role.GATEWAY and (len(self.voices) < 2 or self.chance.random() < 0.1):
            self.dial()
        for link in sorted(self.voices):
            if self.voices[link].peer and not self.is_tired:
                self.begin(link)
        pause = RARELY if self.is_tired else MANY_AT_ONCE * EVERY
        self.world.at(self.world.now + pause * (1 + self.chance.random()), self.act)

    def begin(self, link):
        """Begin more payloads on this link."""
        voice = self.voices[link]
        for _ in range(MANY_AT_ONCE):
            number, voice.transfers = voice.transfers, voice.transfers + 1
            voice.sequence += 1
            self.say(link, Part(number, 2 * HOARD, 0, bytes(HOARD)), voice.sequence)


X = (("nowhere", "r"),)
JUNK = [b"junk"]
# What is made to be believed, by role.
OWN = {
    Role.GATEWAY: (Hostile.cancel, Hostile.cancel, Hostile.peers, Hostile.tasks),
    Role.REPLICA: (
        Hostile.outcomes,
        Hostile.outcomes,
        Hostile.notices,
        Hostile.stats,
        Hostile.tasks,
    ),
    Role.SUPERVISOR: (Hostile.death_notice,),
    Role.CLIENT: (Hostile.cancel, Hostile.part),
}
EVERYTHING = [saying for sayings in OWN.values() for saying in sayings]
CLASSES = {kind: type(message) for kind, message in samples(0).items()}
TYPE_OF = {Hello: Type.HELLO, Welcome: Type.WELCOME} | {of: kind for kind, of in CLASSES.items()}
# What each role may say to anybody.
SAYABLE = {
    role: [
        of
        for kind, of in CLASSES.items()
        if any(may_say(row, kind) for row in BY_HAND if row[0] is role)
    ]
    for role in Role
}
