"""What must hold after each history. Each check has a name, by which a mutant's table knows it."""

from faults import ALLOWED
from world import SICK, Broken

from gateway.requests import retries as retries
from mesh.links.dialer import DialState
from mesh.protocol.messages import REASONS, OutcomeKind, Role
from mesh.protocol.permissions import MAX_BATCH

# Profiles in which nobody is lost.
GENTLE = ("calm", "links", "blinks", "long", "hostile", "hoards")
# Deaths over one request of which nobody is told what was computed: for each of its attempts so
# many that are told at all and one that is not, and two of which its owner does not know, since the
# output had not been acked.
UNNAMED, UNKNOWN = 3 + 1, 2
MANY_LINES = 100  # addresses that a process has beside those that one gateway names
PRODUCERS = (Role.GATEWAY, Role.REPLICA)
PROMPT = 0.05  # seconds: a few turns of a busy link
LATE = 1.0  # seconds after its deadline at which every request has its answer


def one_answer(world):
    """Exactly one answer per accepted request: none where its gateway died or its client left."""
    for asked in world.asked.values():
        count = len(asked.answers)
        may_have_none = asked.gateway in world.past or asked.left_at < world.now
        if count > 1 or (not count and not may_have_none):
            raise Broken("one answer", f"{_name(asked)} has {count} answers")
        if count and asked.left_at < asked.answers[0][0]:
            raise Broken("one answer", f"{_name(asked)} was answered, and its client had left")


def right_answer(world):
    """A result is the right one, and so is a failure that the worker raised."""
    allowed = ALLOWED[world.draw.profile]
    for asked in world.asked.values():
        for _, outcome in asked.answers:
            label, body, hop = world.expected(asked.body)
            if outcome.kind is OutcomeKind.RESULT:
                got = b"".join(outcome.buffers)
                if label or got != body:
                    raise Broken(
                        "right answer", f"{_name(asked)} got {got!r:.80}, not {body!r:.80}"
                    )
            elif outcome.label == "validation_error":
                if (outcome.label, outcome.hop) != (label, hop):
                    raise Broken("right answer", f"{_name(asked)} failed at {outcome.hop}: {label}")
            elif outcome.label not in allowed and outcome.label not in _excused(world, asked):
                text = f"{_name(asked)} got {outcome.label}: {outcome.text}"
                raise Broken("no needless error", text)


def _excused(world, asked):
    """Errors that this very request may bring upon itself."""
    died_in = world.crashed[asked.key]
    if len(died_in) > 1 and 1 in died_in[1:]:  # killed twice over it, the second time alone
        return ("poison_request", *_brought_upon(world, asked))
    return _brought_upon(world, asked)


def _brought_upon(world, asked):
    body = asked.body
    if world.has_been_sick and any(outcome.label == SICK.code for _, outcome in asked.answers):
        return (SICK.code,)  # of the newest attempt, or `conduct` complains
    if b"poison@" in body:
        return ("poison_request", "lost", "deadline_exceeded", "no_replica")
    if b"hang@" in body or b"deaf@" in body or b"stall@" in body:
        return ("forward_timeout", "poison_request", "lost", "deadline_exceeded", "no_replica")
    if world.draw.profile == "work" and any(b"@" in one.body for one in world.asked.values()):
        return ("deadline_exceeded", "no_replica")  # whoever waits behind what hangs or crashes
    if asked.timeout < world.draw.timeout:
        return ("deadline_exceeded",)
    return ()


def in_time(world):
    """None later than its deadline and a second, the gateway's own sleep aside."""
    for asked in world.asked.values():
        slept = getattr(asked.gateway, "slept", 0.0)
        for at, _ in asked.answers:
            if at > asked.deadline + LATE + slept:
                raise Broken("in time", f"{_name(asked)} took until {at - asked.deadline:.2f} s")


def prompt(world, twin):
    """Who keeps no rule makes no request slow.

    A gateway that has a key may send tasks of its own, and so may a feed: each takes at most the
    share of one producer. Beyond that the slowest request of all waits no longer than it does in
    the same history without them. Neither history has other faults.
    """
    producers = sum(one.role in PRODUCERS for one in world.hostiles)
    most = (1 + producers) * _slowest(twin) + PROMPT
    slowest = _slowest(world)
    if slowest > most:
        raise Broken("prompt", f"the slowest took {slowest:.3f} s, not at most {most:.3f} s")


def _slowest(world):
    took = [asked.answers[0][0] - asked.at for asked in world.asked.values() if asked.answers]
    return max(took, default=0.0)


def once(world):
    """A stage that must not run twice did not."""
    hops = [n for n, (name, _) in enumerate(world.hops) if name == world.draw.once]
    for (owner, number, hop), runs in world.executions.items():
        if hop in hops and len(runs) > 1:
            raise Broken("once", f"request {number} of {owner:x} ran {runs}")


def explained(world):
    """What was computed more often than once has a reason."""
    retries = sum(_again(gateway) for gateway in (*world.gateways, *world.past) if gateway)
    if world.draw.profile in GENTLE and retries:
        raise Broken("explained", f"{retries} retries although nobody died")
    for (owner, number, hop), runs in world.executions.items():
        if len(runs) > 1 and owner not in world.hostile:
            if world.draw.profile in GENTLE:
                raise Broken("explained", f"request {number} of {owner:x} ran {runs} at {hop}")
            same = len(runs) - len({attempt for attempt, _ in runs})
            same -= world.reruns[owner, number, hop]
            if same > 0 and not (hop and world.events["feed lost"]):
                raise Broken("explained", f"request {number} of {owner:x} ran {runs} at {hop}")


def _again(gateway):
    return sum(gateway.core.counts.retries.values())


def conduct(world):
    """Nothing was done on the way that must not be done."""
    for check, text in world.complaints:
        # A CANCEL is late where links are lost, and nowhere else.
        if check != "cancel" or world.draw.profile in GENTLE:
            raise Broken(check, text)


def unharmed(world):
    """What one says that keeps no rule leaves nothing behind, where it cannot be mended."""
    for gateway in filter(None, world.gateways):
        limits = gateway.core.links.identity
        for each in gateway.core.stats:
            known = each.stage in world.stages and each.reason in REASONS
            small = each.size <= MAX_BATCH and each.nbytes <= each.size * limits.pool
            if not (known and small and each.compute <= limits.timeout * 1e6):
                raise Broken("own figures", f"{gateway.name} takes {each}")
    for member in world.members:
        links = member.core.links
        if len(links._lines._addresses) > len(world.dialled) + links.most_named:
            raise Broken("addresses", f"{member.name} dials {len(links._lines._addresses)}")


def given_up(world):
    """Nothing is left of payloads that came to no end, although who began them is still there."""
    for member in world.members:
        held = member.core.links._unfinished.nbytes
        if held:
            raise Broken("given up", f"{member.name} holds {held} bytes")


def bounded(world):
    """No request is begun again and again that kills whoever gets it, without being named."""
    most = UNNAMED * world.draw.attempts + UNKNOWN
    for request, deaths in world.unnamed.items():
        if deaths > most:
            raise Broken("bounded", f"request {request[1]} has had {deaths} deaths, over {most}")


def orderly(world):
    """Who was told to stop says goodbye, and is not taken for dead."""
    kinds = {kind for _, kind, _ in world.draw.faults}
    if world.draw.profile != "drains" or kinds - {"drain", "drain_host"}:
        return
    for gateway in world.gateways:
        if gateway.core.counts.deaths:
            raise Broken("orderly", f"{gateway.name} counts {gateway.requests.core.counts.deaths}")


def budget(world):
    """Retries and hedges stay within what was at hand and what successes paid for."""
    for gateway in filter(None, (*world.gateways, *world.past)):
        counts = gateway.core.counts
        free = counts.retries["parted"] + counts.retries["version"]
        spent = sum(counts.retries.values()) - free + counts.hedges
        at_hand = max(retries.LEAST_BUDGET, gateway.peak)
        earned = at_hand + retries.EARNED_PER_SUCCESS * len(gateway.answers)
        if spent > earned:
            raise Broken("budget", f"{gateway.name} made {spent} attempts more, not {earned}")


# --- quiet ----------------------------------------------------------------------------------------


def unrest(world):
    """What is not back at its start, or ""."""
    for gateway in world.gateways:
        said = _gateway_unrest(world, gateway)
        if said:
            return f"{gateway.name}: {said}"
    for rep in world.reps():
        said = _replica_unrest(world, rep)
        if said:
            return f"{rep.name}: {said}"
    return _links_unrest(world)


def _gateway_unrest(world, gateway):
    core = gateway.core
    alive = {rep.me for rep in world.reps()}
    sizes = {
        "requests": len(core.in_flight),
        "waiting": sum(len(each.waiting) + len(each.unfit) for each in core.dispatchers.values()),
        "parked": sum(map(len, core.queues.parked.values())),
        "crowded": len(core.queues.crowded),
        "ended": len(core.ended),
        "cancels": len(core._cancels),
        "obituaries": len(core._death_notices),
        "sated": len(core._credit_paused),
        "silent": len(core.retries.silent),
        "failing": len(core.outliers.failing) + len(core.outliers._shares) + len(core._failures),
        "strangers": len(core.replicas.sessions.keys() ^ alive),
        "missing": len(core.replicas.missing()),
        "versions behind": world.version - int(core.replicas.version),
        "former stages": len(core.dispatchers) - len(world.hops),
        "unjoined": sum(len(d._sessions) for d in core.dispatchers.values()) - len(alive),
    }
    return _not_zero(sizes)


def _replica_unrest(world, rep):
    core = rep.core
    sizes = {
        "running": int(core.running is not None),
        "waiting": len(core.batcher),
        "bytes waiting": core.batcher.nbytes,
        "holdings": len(core.held) + core.held.tasks,
        "onward": len(core.forwarding),
        "homeward": len(core.reporting),
        "dropped": len(core.batcher._expired),
        "lent": len(core.forwarding._lent),
    }
    window = core.batcher.window
    for session in core._producers():
        if session.stream.allowed.tasks - session.stream.allowed.used_tasks < window:
            left = session.stream.allowed.tasks - session.stream.allowed.used_tasks
            return f"{session} has {left} tasks of credit, not {window}"
        slice_ = core.facts.pool // len(core._producers())
        if session.stream.allowed.nbytes - session.stream.allowed.used_nbytes < slice_:
            return f"{session} has less than its slice of bytes"
    return _not_zero(sizes)


def _not_zero(sizes):
    return ", ".join(f"{size} {name}" for name, size in sizes.items() if size)


def _links_unrest(world):
    alive = {member.me: member for member in world.members}
    for member in world.members:
        links = member.core.links
        strangers = [f"{peer:x}" for peer in links.sessions if peer not in alive]
        if strangers:
            return f"{member.name} remembers {strangers}"
        if len(links._by_link) != len(links.sessions) or set(links._stamps) - set(links.sessions):
            return f"{member.name}: tables of links differ"
        for line in links._lines._addresses.values():
            if line.state is not DialState.UP:
                return f"{member.name}: {line}"
        for session in links.sessions.values():
            said = _session_unrest(session, alive[session.peer].core.links.sessions.get(member.me))
            if said:
                return f"{member.name}: {said}"
    return _meetings(world)


def _session_unrest(here, there):
    if there is None or here.nonce != there.nonce:
        return f"{here} is one-sided"
    if not here.stream.is_idle():
        return f"{here} has messages left"
    if here.stream._incoming.held or here.stream._refused:
        return f"{here} holds {here.stream._incoming.held} bytes of slices"
    if (here.stream.sequence, here.stream.granted.used_tasks) != (
        there.stream.received,
        there.stream.allowed.used_tasks,
    ):
        return f"{here} and {there} have counted differently"
    if (here.stream.granted.tasks, here.stream.granted.nbytes) != (
        there.stream.allowed.tasks,
        there.stream.allowed.nbytes,
    ):
        return f"{here} does not know of its credit"
    return ""


def _meetings(world):
    """Everybody who should be is connected."""
    for rep in world.reps():
        for gateway in world.gateways:
            if gateway.me not in rep.core.links.sessions:
                return f"{rep.name} is not connected with {gateway.name}"
        for before in _fed_by(world, rep):
            if before.core.facts and before.me not in rep.core.links.sessions:
                return f"{rep.name} is not connected with {before.name}"
    return ""


def _fed_by(world, rep):
    names = [name for name, _ in world.hops]
    at = names.index(rep.core.facts.name)
    if not at or not world.stages[names[at - 1]].feeds:
        return []
    return world.reps(names[at - 1])


def _name(asked):
    return f"request {asked.number} of {asked.gateway.name} ({asked.body[:40]!r})"


AFTERWARDS = (
    one_answer,
    right_answer,
    in_time,
    once,
    explained,
    conduct,
    unharmed,
    bounded,
    orderly,
    budget,
)
