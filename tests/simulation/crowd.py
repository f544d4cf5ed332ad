"""One member that says nothing wrong but too much: many sessions, and as many addresses as feeds.

Beside it, from elsewhere, HELLO comes again and again that says what none may say.
"""

from mesh.protocol.messages import Header, Hello, Role, StageFacts, Welcome
from mesh.protocol.wire import VERSION, decode, encode, seal
from mesh.transport.network import NetworkEvent

SHARE = 0.5  # of the histories in which members keep no rule
EVERY = 0.01  # seconds between two deeds
MANY = 30  # sessions that it tries to have
# What these histories have instead of the product's numbers, so that few sessions are many.
MOST_PEERS, MOST_FROM_ONE_SOURCE, MOST_NAMED = 16, 20, 24


class Crowd:
    """Opens sessions with all gateways, as replicas of the first stage."""

    role = Role.REPLICA

    def __init__(self, world, chance):
        self.world, self.chance = world, chance
        self.port = world.port("crowd")
        self.rude = world.port("hostile-hello")  # nobody can tell where it comes from
        self.rude_me = self.draw()
        self.dialled = 0

    def draw(self):
        number = self.chance.getrandbits(62) | 1
        self.world.hostile.add(number)
        return number

    def act(self):
        """Greet whoever lets us in, dial once more, and come again soon."""
        if self.port is None:
            return
        for happened, link, _ in self.port.receive():
            if happened is NetworkEvent.OPENED:
                self.say(self.port, link, self.draw(), self.hello(batch=4))
        for happened, link, frames in self.rude.receive():
            if happened is NetworkEvent.OPENED:
                self.say(self.rude, link, self.rude_me, self.hello(batch=0))
            elif happened is NetworkEvent.MESSAGE:
                self.look_at(frames)
        self.dialled -= 1
        if -self.dialled <= MANY * len(self.world.addresses):
            self.port.dial(self.dialled, self.chance.choice(self.world.addresses))
        if self.chance.random() < 0.1:
            self.rude.dial(self.dialled, self.chance.choice(self.world.addresses))
        self.world.at(self.world.now + EVERY * (1 + self.chance.random()), self.act)

    def hello(self, batch):
        name, revision = self.world.hops[0]
        facts = StageFacts(name, revision, batch, 3.0, 1 << 20)
        feed = f"tcp://10.1.0.{-self.dialled}:{self.chance.randrange(1, 9)}"
        nonce = self.chance.getrandbits(50) + 1
        return Hello(Role.REPLICA, nonce, "mesh", (VERSION,), feed=feed, stage=facts)

    def say(self, port, link, me, message):
        encoded = encode(message, self.world.now)
        port.send(link, seal(Header(encoded.type, me, 0), encoded))

    def look_at(self, frames):
        if type(decode(frames, self.world.now)[1]) is Welcome:
            self.world.complain("ranges", "a HELLO out of its ranges is welcome")

    def leave(self):
        """It is gone for good; whom it could crowd out is looked at first."""
        self.world.look_at_named()
        self.rude.close()
        self.port.close()
        self.port = None
