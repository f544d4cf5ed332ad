"""What a history is like: everything drawn from its seed, and how each fault is done.

A *profile* says which kinds of fault a history has, and so what must not happen in it: the kinder
the faults, the stricter the checks.
"""

import random

from members import NEVER
from world import HEARTBEAT, Draw, StageDraw

from mesh.protocol.messages import Role

SETTLED = 100.7  # when everybody has met everybody
APART = 0.3  # seconds within which a link is surely resumed
BLINK = 0.2  # seconds that a partition of which nobody is given up lasts at most
SLOW = 0.02  # seconds that a slow link delays what it carries at most
DOZE = 2.4  # seconds that a replica dozes at most; its heartbeats go on
SICKNESS = 0.05  # seconds for which it then fails
MEMORY = 64 * 1024  # bytes for payloads that are not whole, where some hoard them
BUSY = 1.0  # seconds during which requests come and most faults begin

# Profile: its share of all histories, and the faults that it draws from.
PROFILES = {
    "calm": (1, ()),
    "long": (1, ("cut", "slow")),
    "storm": (1, ("kill", "freeze", "partition", "kill")),
    "links": (2, ("cut", "cut_all", "slow")),
    "blinks": (1, ("blink", "slow")),
    "deaths": (3, ("cut", "kill", "kill", "kill_supervisor")),
    "lapses": (1, ("lapse", "lapse", "slow")),
    "drains": (2, ("drain", "drain", "drain_host", "cut", "slow")),
    "silence": (3, ("freeze", "stall", "partition", "one_way")),
    "dozes": (2, ("doze", "doze", "blink", "kill")),
    "work": (2, ("cut", "slow")),
    "bugs": (1, ("cut", "slow")),
    "renewals": (2, ("renew", "renew", "cut", "slow", "kill", "drain")),
    "hostile": (1, ("slow", "blink")),
    "hoards": (1, ("slow", "blink")),
    "usurpers": (1, ("kill", "freeze", "kill", "slow")),
    "once": (2, ("cut", "kill", "freeze", "partition", "drain")),
    "chaos": (
        4,
        (
            "cut cut_all slow blink kill kill_supervisor kill_gateway drain drain_host freeze "
            "stall partition one_way freeze_gateway stall_gateway refuse renew"
        ).split(),
    ),
}
# Seconds of a forward. Where replicas doze, the attempt that replaces theirs is not quickly over.
MEANS = {"work": (0.0005, 0.003, 0.01), "dozes": (0.01, 0.04, 0.08), "usurpers": (0.01, 0.04, 0.08)}
ANCHORED = frozenset({"deaths", "lapses", "silence", "dozes", "drains", "renewals", "usurpers"})
# What else than the right answer may come, by profile.
ALLOWED = {
    "calm": (),
    "long": (),
    "storm": ("lost", "deadline_exceeded", "no_replica", "poison_request"),
    "links": (),
    "blinks": (),
    "deaths": (),
    "lapses": (),
    "drains": (),
    "silence": (),
    "dozes": (),
    "work": (),
    "bugs": ("lost", "deadline_exceeded", "no_replica", "poison_request"),
    "renewals": (),
    "hostile": (),
    "hoards": (),
    "usurpers": (),
    "once": ("lost", "deadline_exceeded", "no_replica"),
    "chaos": ("lost", "deadline_exceeded", "no_replica", "poison_request", "forward_timeout"),
}


def draw_history(seed, profile=None):
    """Draw all that a history is made of."""
    chance = random.Random(seed)
    names = list(PROFILES)
    drawn = chance.choices(names, [PROFILES[name][0] for name in names])[0]
    draw = Draw(seed, profile or drawn)
    _draw_mesh(draw, chance)
    _draw_requests(draw, chance)
    _draw_faults(draw, chance)
    return draw


def _draw_mesh(draw, chance):
    depths = {"dozes": (2, 3), "usurpers": (3,)}.get(draw.profile, (1, 1, 2, 2, 3))
    depth = chance.choice(depths)
    draw.gateways = chance.choice((1, 1, 1, 2))
    draw.delay = chance.choice((0.0001, 0.0005, 0.003))
    draw.jitter = draw.delay * chance.choice((0.0, 1.0, 3.0))
    draw.timeout = 3.0
    draw.attempts = chance.choice((1, 2)) if draw.profile == "bugs" else 3
    draw.small_parts = chance.random() < 0.15 or draw.profile == "hoards"
    for name in "abc"[:depth]:
        batch = chance.choice((1, 2, 4, 8))
        means = MEANS.get(draw.profile, (0.0005, 0.003, 0.01, 0.04))
        mean = chance.choice(means) * (1 if batch > 1 else 0.5)
        if draw.profile == "long":
            batch, mean = 4, 0.25
        limit = {"work": 0.15, "chaos": chance.choice((0.3, 1.0, 3.0))}.get(draw.profile, 3.0)
        feeds = chance.random() < 0.85
        draw.stages.append(StageDraw(name, batch, mean, 0.5, limit, 1 << 22, feeds))
        steady = draw.profile in ("work", "long", "dozes", "usurpers")
        # Drains may leave a stage one replica: with many slow forwards 504 would be right.
        often = 0.02 if draw.profile == "drains" else 0.1
        draw.stages[-1].slow = 0.0 if steady else chance.choice((0.0, 0.0, often))
    if draw.profile == "hostile":
        draw.hostile = [chance.choice(list(Role)) for _ in range(chance.randint(1, 3))]
    if draw.profile == "hoards":
        draw.hoarders = [chance.choice((Role.GATEWAY, Role.REPLICA)) for _ in range(3)]
        draw.memory = MEMORY
    if draw.profile == "usurpers":
        draw.hostile = [Role.REPLICA] * 3
    if draw.profile == "once":
        draw.once = chance.choice("abc"[:depth])
    least = 2 if draw.profile in ANCHORED else 1
    for n in range(chance.randint(least, max(least, 2))):
        counts = {stage.name: chance.choice((1, 1, 2)) for stage in draw.stages}
        if n and draw.profile not in ANCHORED and chance.random() < 0.3:
            counts.pop(chance.choice(sorted(counts)))
        draw.hosts.append(counts)


def _draw_requests(draw, chance):
    counts = {"long": (8,), "lapses": (40,), "dozes": (3, 8)}.get(draw.profile, (3, 8, 20, 40))
    count = chance.choice(counts)
    for n in range(count):
        body = b"%d" % n
        if chance.random() < 0.08:
            body += b" raise@" + chance.choice(draw.stages).name.encode()
        elif draw.profile == "bugs" and chance.random() < 0.2:
            body += b" bug@" + chance.choice(draw.stages).name.encode()
        elif draw.profile in ("work", "chaos") and chance.random() < 0.06:
            kinds = (b" poison@", b" hang@", b" deaf@", b" stall@")
            body += chance.choice(kinds) + chance.choice(draw.stages).name.encode()
        if draw.small_parts and chance.random() < (0.8 if draw.hoarders else 0.3):
            body = body.ljust(chance.randint(65, 1500), b".")
        timeout = draw.timeout
        if draw.profile == "chaos" and chance.random() < 0.2:
            timeout = chance.uniform(0.02, 1.0)
        leaving = 0.5 if draw.profile == "long" else 0.07
        leaves = chance.uniform(0.0, 0.1) if chance.random() < leaving else 0.0
        at = SETTLED + chance.random() * BUSY if chance.random() < 0.7 else SETTLED
        draw.requests.append((at, chance.randrange(draw.gateways), body, timeout, leaves))
    draw.requests.sort(key=lambda request: request[0])


def _draw_faults(draw, chance):
    kinds = PROFILES[draw.profile][1]
    counts = (0, 0, 1, 3) if draw.profile in ("hostile", "hoards") else (1, 2, 3, 5)
    many = 12 if draw.profile == "storm" else chance.choice(counts)
    for _ in range(many if kinds else 0):
        at = SETTLED + chance.uniform(-0.3 if draw.profile == "chaos" else 0.0, BUSY)
        draw.faults.append((at, chance.choice(kinds), chance.getrandbits(32)))
    draw.faults.sort()
    if draw.profile in ("links", "long"):
        # A link that is cut again while it is being resumed may be lost.
        for n, (at, *fault) in enumerate(draw.faults):
            draw.faults[n] = (at + n * APART, *fault)


def plan(world):
    """Enter a world's requests and faults in its plan."""
    for at, n, body, timeout, leaves in world.draw.requests:
        world.at(at, lambda a=(n, body, timeout, leaves): world.ask(*a))
    for at, kind, seed in world.draw.faults:
        fault = globals()[f"_{kind}"]
        world.at(at, lambda f=fault, s=seed: f(world, random.Random(s)))


def heal(world):
    """End all faults; what is dead comes back."""
    for pair in list(world.blocks):
        world.network.unblock(*pair)
    world.blocks.clear()
    for address in list(world.network._refused):
        world.network.admit(address)
    world.network._slow.clear()
    world.banish()
    for member in world.members:
        member.wakes_at = 0.0
    for n, gateway in enumerate(world.gateways):
        if gateway is None:
            world.open(n)
    for host in world.hosts:
        if not host.alive:
            host.start()
    world.tell("all is well again")


# --- who is hit -----------------------------------------------------------------------------------


def _victims(world):
    """Replicas that may be harmed."""
    spared = world.hosts[0] if world.draw.profile in ANCHORED else None
    return [rep for rep in world.reps() if rep.host is not spared]


def _victim(world, chance):
    victims = _victims(world)
    return chance.choice(victims) if victims else None


def _pair(world, chance):
    """Two members that have a link: a replica and a gateway, or replicas of two stages."""
    rep = _victim(world, chance)
    if rep is None:
        return None
    linked = sorted(
        {
            lane.name
            for link in rep.port.links()
            for lane in (link.there.source, link.back.source)
            if lane.name != rep.name and not lane.name.startswith("hostile")
        }
    )
    return (rep, chance.choice(linked)) if linked else None


# --- faults ---------------------------------------------------------------------------------------


def _cut(world, chance):
    pair = _pair(world, chance)
    if pair is not None:
        lost = chance.randint(0, 3), chance.randint(0, 3)
        world.tell(f"cut {pair[0].name} {pair[1]} {lost}")
        world.network.cut(pair[0].name, pair[1], lost)


def _cut_all(world, chance):
    rep = _victim(world, chance)
    for other in world.others(rep) if rep is not None else ():
        world.tell(f"cut {rep.name} {other}")
        world.network.cut(rep.name, other, (chance.randint(0, 5), chance.randint(0, 5)))


def _slow(world, chance):
    pair = _pair(world, chance)
    if pair is not None:
        delay = chance.uniform(0.001, SLOW)
        world.tell(f"slow {pair[0].name} {pair[1]} {delay:.4f}")
        world.network.slow(pair[0].name, pair[1], delay)
        world.network.slow(pair[1], pair[0].name, chance.uniform(0.0, delay))


def _block(world, pairs, seconds, what):
    """Hold up these directions for a while; longer than heartbeats allow, and links close."""
    if not pairs:
        return
    world.tell(f"{what} {pairs} for {seconds:.3f} s")
    for pair in pairs:
        world.network.block(*pair)
        world.blocks[pair] += 1
    world.at(world.now + seconds, lambda: _unblock(world, pairs))
    if seconds > HEARTBEAT:
        ends = sorted({tuple(sorted(pair)) for pair in pairs})
        world.at(world.now + HEARTBEAT, lambda: [world.network.cut(*two, (99, 99)) for two in ends])


def _unblock(world, pairs):
    for pair in pairs:
        world.blocks[pair] -= 1
        if world.blocks[pair] <= 0:
            del world.blocks[pair]
            world.network.unblock(*pair)


def _blink(world, chance):
    """A partition too short for anybody to be given up."""
    pair = _pair(world, chance)
    if pair is not None:
        names = pair[0].name, pair[1]
        _block(world, [names, names[::-1]], chance.uniform(0.0, BLINK), "blink")


def _lapse(world, chance):
    """A link is cut, and can be made again only when its replica has been taken for dead."""
    pair = _pair(world, chance)
    if pair is not None:
        names = pair[0].name, pair[1]
        world.tell(f"cut {names}")
        world.network.cut(*names, (chance.randint(0, 5), chance.randint(0, 5)))
        _block(world, [names, names[::-1]], chance.uniform(0.1, 0.3), "lapse")


def _one_way(world, chance):
    pair = _pair(world, chance)
    if pair is not None:
        names = (pair[0].name, pair[1]) if chance.random() < 0.5 else (pair[1], pair[0].name)
        _block(world, [names], chance.uniform(0.0, 4.0), "one way")


def _partition(world, chance):
    rep = _victim(world, chance)
    if rep is None:
        return
    others = [name for name in world.others(rep) if chance.random() < 0.6]
    pairs = [pair for name in others for pair in ((rep.name, name), (name, rep.name))]
    _block(world, pairs, chance.uniform(0.0, 4.0), "partition")


def _kill(world, chance):
    rep = _victim(world, chance)
    if rep is not None:
        world.tell(f"kill {rep.name}")
        world.die(rep)


def _kill_supervisor(world, chance):
    hosts = [host for host in world.hosts if host.alive]
    if world.draw.profile in ANCHORED:
        hosts = [host for host in hosts if host is not world.hosts[0]]
    if hosts:
        host = chance.choice(hosts)
        world.tell(f"kill supervisor {host.number}")
        host.die()
        world.at(world.now + chance.uniform(0.1, 1.0), lambda: _start_again(world, host))


def _start_again(world, host):
    if host in world.hosts and not host.alive:  # and not of a version that is over
        host.start()


def _kill_gateway(world, chance):
    n = chance.randrange(len(world.gateways))
    gateway = world.gateways[n]
    if gateway is None:
        return
    world.tell(f"kill {gateway.name}")
    world.leave(gateway)
    world.past.append(gateway)
    world.gateways[n] = None
    back = chance.uniform(0.05, 1.5)
    world.at(world.now + back, lambda: None if world.gateways[n] else world.open(n))


def _drain(world, chance):
    rep = _victim(world, chance)
    if rep is not None:
        world.drain(rep)


def _renew(world, chance):
    """A later version comes; mostly whoever began that waits until the gateways have moved on."""
    world.renew(chance.choice((0.1, NEVER, NEVER, NEVER)))


def _drain_host(world, chance):
    # To be told a second time means "at once", and is no orderly end.
    hosts = [host for host in world.hosts[1:] if not host.supervisor.stopping]
    if hosts:
        host = chance.choice(hosts)
        world.tell(f"stop host {host.number}")
        host.stop()


def _freeze(world, chance):
    _sleep(world, _victim(world, chance), chance.uniform(0.0, 4.0), heartbeats=False)


def _stall(world, chance):
    _sleep(world, _victim(world, chance), chance.uniform(0.0, 4.0), heartbeats=True)


def _doze(world, chance):
    """A replica sleeps until what it holds was hedged, and then goes on; it may fail at first."""
    rep = _victim(world, chance)
    if rep is None:
        return
    _sleep(world, rep, DOZE, heartbeats=True)
    takes, fails = chance.uniform(0.0, 0.03), chance.random() < 0.5

    def wake():
        rep.wakes_at = min(rep.wakes_at, world.now + takes)
        if fails:
            world.sicken(rep, takes + SICKNESS)

    world.dozing[rep.me] = wake


def _freeze_gateway(world, chance):
    gateway = world.gateways[chance.randrange(len(world.gateways))]
    _sleep(world, gateway, chance.uniform(0.0, 3.5), heartbeats=False)


def _stall_gateway(world, chance):
    gateway = world.gateways[chance.randrange(len(world.gateways))]
    _sleep(world, gateway, chance.uniform(0.0, 2.0), heartbeats=True)


def _sleep(world, member, seconds, *, heartbeats):
    """A process does not turn for a while. With its heartbeats gone, too, links close."""
    if member is None:
        return
    world.tell(f"{'stall' if heartbeats else 'freeze'} {member.name} for {seconds:.3f} s")
    member.wakes_at = max(member.wakes_at, world.now + seconds)
    member.slept = getattr(member, "slept", 0.0) + seconds
    if not heartbeats and seconds > HEARTBEAT:
        world.at(world.now + HEARTBEAT, lambda: _silence(world, member))


def _silence(world, member):
    if member in world.members and member.wakes_at > world.now:
        for other in world.others(member):
            world.network.cut(member.name, other, (0, 0))


def _refuse(world, chance):
    address = chance.choice(world.addresses)
    world.tell(f"refuse {address}")
    world.network.refuse(address)
    world.at(world.now + chance.uniform(0.0, 1.0), lambda: world.network.admit(address))
