"""A drawn mesh: hosts with supervisors, gateways, replicas, clients; everything from one seed.

A request's body says what its forwards shall do (`raise@b`, `poison@b`, `hang@b`), each forward
appends its stage's name, so the right answer is a known function of the request. The world keeps
what the checks in `checks.py` need: who was asked, what was answered, what was computed where.
"""

import hashlib
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import crowd
from hostile import Hoarder, Hostile
from members import KILL_GRACE, NEVER, Forward, Gateway, Mesh, Rep, Supervision

from gateway.requests.in_flight import InFlightTable
from mesh.links.dispatcher import _is_free
from mesh.links.events import SessionLost, SessionSilent
from mesh.links.session import Session
from mesh.protocol.hold_off import FIRST_PAUSE_S
from mesh.protocol.messages import (
    Cancel,
    Death,
    OutcomeKind,
    Outcomes,
    Peers,
    Ping,
    Role,
    Submit,
    Tasks,
)
from mesh.supervision.events import (
    Begin,
    Computes,
    Exit,
    Exited,
    Kill,
    ProcessPlan,
    Ready,
    Slot,
    Start,
    Stop,
    Terminate,
    Tick,
)
from mesh.supervision.supervisor import Supervisor
from mesh.transport.memory import FakeClock, MemoryNetwork
from stage.item_outcome import ItemOutcome

LOOK = 1.0  # seconds between two looks at the batch records
NOTICED = 0.008  # seconds after a replica's links are closed that its supervisor sees it end
HUNG = 1.0  # seconds that a replica has to end a hung forward before its supervisor does
GRACE = 8.0  # seconds that stopping may take
FORGOTTEN = 0.2  # seconds after which every queue knows that a client has left
SICK = ItemOutcome(code="decoding_error", text="not here")
TOLD = 0.05  # seconds after which what a replica does is known where nothing is delayed
HEARTBEAT = 2.5  # seconds without libzmq's heartbeats after which a link is closed


# What each core may hear of whom, by hand: the product's table must not be its own judge.
HEARD = {
    (Role.GATEWAY, Role.REPLICA): (Outcomes,),
    (Role.GATEWAY, Role.SUPERVISOR): (Death,),
    (Role.GATEWAY, Role.CLIENT): (Submit, Cancel),
    (Role.REPLICA, Role.GATEWAY): (Tasks, Cancel, Peers),
    (Role.REPLICA, Role.REPLICA): (Tasks,),
}


class Broken(BaseException):  # or a turn that bears whatever comes would bear it, too
    """A promise was not kept.

    Attributes:
        check: which one.
    """

    def __init__(self, check, text):
        super().__init__(f"{check}: {text}")
        self.check = check


@dataclass
class Asked:
    """A request, and all that became of it."""

    gateway: object
    number: int
    body: bytes
    at: float
    deadline: float
    timeout: float = 3.0
    left_at: float = NEVER
    request_id: str | None = None  # that the client chose
    answers: list = field(default_factory=list)

    @property
    def key(self):
        return self.gateway.me, self.number


@dataclass
class Draw:
    """What a history is like; `faults.py` draws it.

    Attributes:
        stages: per stage its name and what `World.start` needs.
        hosts: per host how many replicas of each stage it runs.
        anchored: on the first host nothing is ever harmed, so that a healthy replica exists.
    """

    seed: int
    profile: str
    timeout: float = 3.0
    gateways: int = 1
    attempts: int = 3
    stages: list = field(default_factory=list)
    hosts: list = field(default_factory=list)
    delay: float = 0.0002
    jitter: float = 0.0002
    requests: list = field(default_factory=list)  # (at, gateway, body, timeout, leaves after)
    faults: list = field(default_factory=list)  # (at, name, arguments)
    once: str = ""
    small_parts: bool = False
    hostile: list = field(default_factory=list)  # roles, each of one that keeps no rule
    hoarders: list = field(default_factory=list)  # the same, of those that end no payload
    memory: int = 0  # bytes that may have come of payloads that are not whole, 0 for the usual


@dataclass
class StageDraw:
    name: str
    batch: int
    mean: float  # seconds of a forward
    spread: float
    limit: float
    pool: int
    feeds: bool = True
    slow: float = 0.0  # chance of a forward ten times as long


_worlds = {}  # by owner


class WatchedBook(InFlightTable):
    """Keeps account of who gave which request back, or was lost with it; and looks at notes."""

    __slots__ = ()

    def returned(self, request, holder):
        _worlds[self.owner].returns[self.owner, request.number].add(holder)
        super().returned(request, holder)

    def hedge(self, request):
        holder = request.holder
        super().hedge(request)
        _worlds[self.owner].hedged(holder)

    def moved(self, request, notice):
        before = request.holder, request.at
        moved = super().moved(request, notice)
        if (request.holder, request.at) != before:
            if request.at < before[1]:
                _worlds[self.owner].complain("forward only", f"{notice} after {before}")
            if notice.attempt != request.attempt:
                _worlds[self.owner].complain("newest only", f"{notice}, not {request.attempt}")
        return moved


class Host:
    """A machine with one supervisor: the real decisions, processes of memory."""

    def __init__(self, world, number, counts, version=1):
        self.world, self.number, self.counts, self.version = world, number, counts, version
        self.alive = False
        self.running = {}  # slot -> Rep, None while it loads its worker
        self.start()

    def start(self):
        slots = {
            Slot(name, index + 1): 60.0
            for name, count in self.counts.items()
            for index in range(count)
        }
        limits = {slot: self.world.stages[slot.stage].limit + KILL_GRACE + HUNG for slot in slots}
        self.supervisor = Supervisor(ProcessPlan(slots, grace=GRACE, limits=limits))
        world = self.world
        self.link = world.join(Supervision(world, world.dialled, world.draw.timeout))
        self.alive = True
        self.running = {}
        self.feed(Begin())
        self.look(self.link)

    def feed(self, event):
        if not self.alive:
            return
        for instruction in self.supervisor.handle(event, self.world.now):
            self.carry_out(instruction)
        due = self.supervisor.next_due()
        if due < NEVER:
            self.world.at(max(due, self.world.now), self.tick)

    def tick(self):
        if self.alive and self.supervisor.next_due() <= self.world.now:
            self.feed(Tick())

    def carry_out(self, instruction):
        match instruction:
            case Start(slot):
                self.running[slot] = None
                takes = self.world.chance.uniform(0.05, 0.3)
                self.world.at(self.world.now + takes, lambda: self.constructed(slot))
            case Terminate(slot):
                self.terminate(slot)
            case Kill(slot):
                if self.running.get(slot) is not None:
                    self.world.die(self.running[slot], signal=9)
            case Exit(_):
                self.alive = False
                self.world.leave(self.link)

    def terminate(self, slot):
        rep = self.running.get(slot)
        if rep is not None:
            self.world.drain(rep)
        elif slot in self.running:
            del self.running[slot]
            self.feed(Exited(slot, 0, 15))

    def constructed(self, slot):
        if slot in self.running and self.running[slot] is None and self.alive:
            self.running[slot] = self.world.start(self, slot)
            self.feed(Ready(slot))

    def look(self, link):
        """Judge by the batch records who hangs, again and again until this life ends."""
        if self.link is not link or not self.alive:
            return
        for slot, rep in list(self.running.items()):
            computing = None if rep is None else rep.batch_record.read()
            if computing is not None:
                self.feed(Computes(slot, self.world.now - computing.since))
        self.world.at(self.world.now + LOOK, lambda: self.look(link))

    def ended(self, rep, code, signal):
        if self.alive and rep in self.running.values():  # and not a former life's
            computing = rep.batch_record.read()
            ids = [] if computing is None else computing.ids
            death_notice = Death(rep.me, rep.core.facts.name, signal, code, ids)
            # The kernel closes a process's sockets before it tells the parent of the end.
            link, noticed = self.link, self.world.now + self.world.chance.uniform(0.0, NOTICED)
            self.world.at(noticed, lambda: self.report(link, death_notice))
        for slot, one in list(self.running.items()):
            if one is rep:
                del self.running[slot]
                self.feed(Exited(slot, code, signal))

    def report(self, link, death_notice):
        """Tell the gateways of a death, if the supervisor that saw it lives."""
        if self.link is not link or not self.alive:
            return
        link.core.died(death_notice, self.world.now)
        link.known = None
        if link.wakes_at <= self.world.now:
            link.node.flush(self.world.now)

    def die(self):
        """The supervisor is killed: its replicas notice that their parent is gone, and leave."""
        self.alive = False
        self.world.leave(self.link)
        for rep in list(self.running.values()):
            if rep is not None:
                self.world.drain(rep)
        self.running = {}

    def stop(self):
        self.feed(Stop())


class World(Mesh):
    """A mesh as a `Draw` describes it.

    Attributes:
        log: every multipart that arrived and every fault, hashed.
        story: lines for people, if they were asked for.
    """

    def __init__(self, draw, story=None):
        clock = FakeClock(100.0)
        network = MemoryNetwork(clock, draw.seed, draw.delay, draw.jitter)
        super().__init__(clock, network, random.Random(draw.seed ^ 0x5EED))
        self.draw = draw
        self.log = hashlib.blake2b(digest_size=16)
        self.story = story
        network.tap = self._heard
        self.work = random.Random(draw.seed ^ 0xF0)
        self.asked = {}
        self.executions = defaultdict(list)  # (owner, number, hop) -> [(attempt, replica)]
        self.events = Counter()
        self.complaints = []  # (check, text)
        self.reruns = Counter()  # (owner, number, hop): as a mate of what was interrupted
        self.ended = []  # incarnations of replicas that are gone, in any way
        self.killed = Counter()
        self.crashed = defaultdict(list)  # request -> sizes of the batches that it died in
        self.unnamed = Counter()  # request -> deaths over it whose death notice named nobody
        self.blocks = Counter()
        self.dozing = {}  # by incarnation: what wakes who sleeps until it is hedged
        self.sick = set()  # incarnations whose forwards fail, whatever they are given
        self.has_been_sick = False
        self.version = 1  # the latest; gateways are told of the first
        self.revisions = {}  # (owner, number, attempt) -> of whoever computed it
        self.hops = tuple((stage.name, _revision(1)) for stage in draw.stages)
        self.stages = {stage.name: stage for stage in draw.stages}
        self.addresses = [f"tcp://gateway:{n}" for n in range(draw.gateways)]
        self.gateways = [None] * draw.gateways
        self.expelled_at = {}  # by whom and whom: when, the last time
        self.hostile = set()  # incarnations of those that keep no rule
        _worlds.clear()
        self.returns = defaultdict(set)  # by owner and number: where it was tried
        self.past = []  # gateways that died
        self.hostiles = []
        for n in range(draw.gateways):
            self.open(n)
        bad = random.Random(draw.seed ^ 0xBAD)
        self.hostiles = [Hostile(self, role, bad) for role in draw.hostile]
        self._gather(random.Random(draw.seed ^ 0xC0D))
        self.hostiles += [Hoarder(self, role, bad) for role in draw.hoarders]
        self.hosts = [Host(self, n, counts) for n, counts in enumerate(draw.hosts)]
        for one in self.hostiles:
            self.at(self.now + 0.5, one.act)

    @property
    def dialled(self):
        """Where others look for gateways; one that is hostile may be among them."""
        bad = [one.address for one in self.hostiles if one.role is Role.GATEWAY and one.port]
        return [*self.addresses, *bad]

    def banish(self):
        """Those that keep no rule are gone for good."""
        for one in self.hostiles:
            if one.port is not None:
                one.leave()
        for rep in self.reps():
            rep.core.know_gateways(self.dialled, self.now)
        for host in self.hosts:
            if host.alive:
                host.link.core.dial(self.dialled, self.now)

    def _gather(self, chance):
        """Among those that keep no rule there may be one that comes in numbers, early."""
        if self.draw.hostile and self.draw.profile == "hostile" and chance.random() < crowd.SHARE:
            self.hostiles.append(crowd.Crowd(self, chance))
            self.at(self.now, self.hostiles[-1].act)

    def look_at_named(self):
        """Each gateway names as many feeds as it may, and all that are honest."""
        for gateway in filter(None, self.gateways):
            replicas = gateway.core.replicas
            for rep in self.reps():
                session = replicas.sessions.get(rep.me)
                if session is None:
                    continue
                named = {peer.address for peer in replicas.peers_for(session)[1]}
                honest = {
                    s.feed
                    for s in replicas.feeding(session)
                    if s.feed and s.peer not in self.hostile
                }
                if len(named) > crowd.MOST_PEERS or not honest <= named:
                    text = f"{gateway.name} names {len(named)}, not {sorted(honest - named)}"
                    self.complain("fair", text)
            self._look_at_sources(gateway)

    def _look_at_sources(self, gateway):
        sources = Counter(s.source for s in gateway.core.links.sessions.values() if s.source)
        for source, count in sources.items():
            if count > crowd.MOST_FROM_ONE_SOURCE:
                self.complain("fair", f"{gateway.name} has {count} sessions of {source}")

    def look_at_memory(self):
        """No process holds, or counts, more of payloads that are not whole than it may."""
        for member in self.members:
            links = member.core.links
            limit, counted, held = links._unfinished.limit, links._unfinished.nbytes, 0
            for session in links.sessions.values():
                held += sum(each.filled for each in session.stream._incoming._open.values())
            if not held <= counted <= limit:
                self.complain("memory", f"{member.name} has {held}, counts {counted} of {limit}")

    def tire(self):
        """Those that begin payloads begin no more, and stay connected."""
        for one in self.hostiles:
            one.is_tired = True

    def look_at_slices(self):
        """Nobody holds slices of one that may owe nothing."""
        for member in self.members:
            sessions = member.core.links.sessions
            for session in [sessions[me] for me in self.hostile & sessions.keys()]:
                if session.stream._incoming.held and not session.owes_payload:
                    self.complain("slices", f"{member.name} holds some of {session}")

    def tell(self, text):
        """Something happened."""
        self.log.update(text.encode())
        if self.story is not None:
            self.story.append(f"{self.now - 100:9.4f} {text}")

    def _heard(self, source, target, frames):
        log = self.log
        log.update(f"{self.clock.now}{source}{target}".encode())
        for frame in frames:
            log.update(frame)
        if self.story is not None and len(frames):
            self.story.append(f"{self.now - 100:9.4f}   {source} -> {target}: {_show(frames)}")

    def join(self, member):
        """A member takes part; what a core hears is held to a table of the simulation's own."""
        deliver, mine = member.core.delivered, member.core.links.identity.role

        def delivered(delivery, now):
            session, _, message = delivery
            heard = HEARD.get((mine, session.role), ())
            if message is not None and type(message) not in (Ping, *heard):
                self.complain("the table", f"{member.name} hears {message} of {session}")
            deliver(delivery, now)

        member.core.delivered = delivered
        member.core.links.source = lambda link: self.source(member.port, link)
        if self.draw.profile == "hostile":
            member.core.links.most_named = crowd.MOST_NAMED
        if self.draw.memory:
            member.core.links._unfinished.limit = self.draw.memory
        return super().join(member)

    def source(self, port, link):
        """Where who dialled comes from; of most that keep no rule nobody can tell."""
        name = port.dialled_by(link)
        return "" if name.startswith("hostile-") else name

    def expelled(self, member, session, reason, fault):
        """An honest process keeps the rules, whatever befalls it; and nothing chokes anybody."""
        if fault is None and session is not None and session.peer in self.hostile:
            # A number that a session bears proves nothing of who says HELLO with it.
            borrowed = session.peer in member.core.links.sessions
            if isinstance(session, Session) or not borrowed:
                self.look_at_pause(member, session.peer)
            return
        check = "no crash" if fault is not None else "keeps the rules"
        raise Broken(check, f"{member} expels {session}: {reason}") from fault

    def look_at_pause(self, member, peer):
        """Who is expelled does not come back at once."""
        last = self.expelled_at.get((member.me, peer), -NEVER)
        self.expelled_at[member.me, peer] = self.now
        if self.now < last + FIRST_PAUSE_S:
            self.complain("held off", f"{peer:x} is back at {member.name} at once")

    # --- processes -------------------------------------------------------------------------------

    def open(self, n):
        """Start the n-th gateway."""
        routes = {"/inference": self.hops}
        draw = self.draw
        gateway = Gateway(self, self.addresses[n], routes, draw.timeout, draw.attempts, "1")
        self.gateways[n] = self.join(gateway)
        self.watch(gateway)
        self.tell(f"{gateway.name} starts: {gateway.me:x}")

    def start(self, host, slot):
        """Start a replica."""
        stage = self.stages[slot.stage]
        self._names["feed"] += 1
        feed = f"tcp://feed:{self._names['feed']}" if stage.feeds else ""
        rep = Rep(
            self,
            (stage.name, _revision(host.version)),
            self.dialled,
            feed,
            batch=stage.batch,
            work=lambda body: SICK if rep.me in self.sick else self.compute(stage.name, body),
            forward=lambda tasks: self.forward(stage, tasks),
            is_slow=lambda task: self.is_slow(stage, task),
            limit=stage.limit,
            pool=stage.pool,
            repeatable=stage.name != self.draw.once,
            parent=host.link.me,
            version=str(host.version),
        )
        rep.host = host
        self._count_losses(rep)
        self.tell(f"{rep.name} starts on host {host.number}: {rep.me:x}")
        return self.join(rep)

    def _count_losses(self, rep):
        """Outputs that were on their way to a replica that was lost are sent once more."""
        handle_news = rep.core.handle_news

        def listened(news, now):
            if isinstance(news, SessionLost | SessionSilent) and news.session.role is Role.REPLICA:
                self.events["feed lost"] += 1
            handle_news(news, now)

        rep.core.handle_news = listened

    def leave(self, member, code=0, signal=0):
        super().leave(member)
        self.tell(f"{member.name} ends ({code}, {signal})")
        if isinstance(member, Rep):
            self.ended.append(member.me)
            if signal:
                self.killed[member.me] += 1
            member.host.ended(member, code, signal)

    def die(self, member, signal=9):
        if isinstance(member, Rep) and member.running is not None:
            tasks = member.core.running.tasks
            if member.running.unnamed:
                member.batch_record.end()
                self.unnamed.update([task.id for task in tasks])
            for task in tasks:
                self.crashed[task.id].append(len(tasks))
        self.leave(member, 0, signal)

    def drain(self, rep):
        """SIGTERM."""
        if rep in self.members and not rep.core.draining:
            self.tell(f"{rep.name} drains")
            rep.core.drain(self.now)
            if rep.wakes_at <= self.now:
                rep.node.flush(self.now)
            self.at(self.now + GRACE, lambda: self.die(rep) if rep in self.members else None)

    def renew(self, seconds):
        """Start the next version beside the present one, and stop that when it is not needed.

        Args:
            seconds: after which nobody waits any more until every gateway has moved on.
        """
        self.version += 1
        former, until = self.hosts, self.now + seconds
        self.tell(f"version {self.version} starts")
        self.hosts = [
            Host(self, host.number + len(former), host.counts, self.version) for host in former
        ]
        self._retire(former, str(self.version), until)

    def _retire(self, hosts, version, until):
        behind = [g for g in self.gateways if g is not None and g.core.replicas.version != version]
        if behind and self.now < until and self.version == int(version):
            self.at(self.now + 0.02, lambda: self._retire(hosts, version, until))
            return
        for host in hosts:
            self.tell(f"host {host.number} is stopped")
            host.stop()

    def reps(self, stage=None):
        """Replicas that run, of one stage or of all."""
        return [
            m
            for m in self.members
            if isinstance(m, Rep) and (stage is None or m.core.facts.name == stage)
        ]

    # --- work ------------------------------------------------------------------------------------

    def forward(self, stage, tasks):
        """What this batch's forward is like."""
        body = b"".join(b"".join(task.buffers[:1])[:64] for task in tasks)
        here = b"@" + stage.name.encode()
        work = self.work
        if self.draw.profile == "hostile":  # the same for a request, whatever else is there
            work = random.Random(here + body)
        each = stage.mean * (1 + stage.spread * work.random())
        seconds = each * (len(tasks) if stage.batch == 1 else 1)
        if stage.slow and work.random() < stage.slow:
            seconds *= 10
        if b"poison" + here in body:
            return Forward(seconds, crashes=True)
        if b"bug" + here in body:
            return Forward(seconds, unnamed=True)
        if b"stall" + here in body:
            return Forward(NEVER, deaf=True, stalls=True)
        if b"deaf" + here in body:
            return Forward(NEVER, deaf=True)
        if b"hang" + here in body:
            return Forward(NEVER)
        return Forward(seconds)

    def is_slow(self, stage, task):
        """Whether this task's forward does not end, or ends the process."""
        marks = (b"poison@", b"bug@", b"stall@", b"deaf@", b"hang@")
        body = b"".join(task.buffers[:1])[:64]
        return any(mark + stage.name.encode() in body for mark in marks)

    def compute(self, stage, body):
        if b"raise@" + stage.encode() in body[:64]:
            return ItemOutcome(code="validation_error", text=f"no, says {stage}")
        return body + b"|" + stage.encode()

    def expected(self, body):
        """The label, body and hop of the right answer."""
        for hop, (stage, _) in enumerate(self.hops):
            result = self.compute(stage, body)
            if isinstance(result, ItemOutcome):
                return result.code, b"", hop
            body = result
        return "", body, len(self.hops) - 1

    def hedged(self, holder):
        """Somebody's silence made another attempt begin: this is when it wakes, if it dozes."""
        wake = self.dozing.pop(holder, None)
        if wake is not None:
            wake()

    def sicken(self, rep, seconds):
        """Have a replica fail all that it is given for a while."""
        self.sick.add(rep.me)
        self.has_been_sick = True
        self.at(self.now + seconds, lambda: self.sick.discard(rep.me))

    def interrupted(self, batch):
        for task in batch.tasks if len(batch.tasks) > 1 else ():
            self.reruns[(*task.id, task.hop)] += 1

    def watch(self, gateway):
        """Note what a gateway hands to whom: not to who had it, while another is free."""
        core = gateway.core
        core.in_flight.__class__ = WatchedBook
        _worlds[core.in_flight.owner] = self
        dispatch = core._dispatch

        def watched(dispatcher):
            free = [s for s in dispatcher.sessions if _is_free(s)]
            before = {s.peer: s.stream.granted.used_tasks for s in free}
            waiting = [task.number for task in dispatcher.waiting]
            idle, busy = self._placement(free)
            dispatch(dispatcher)
            idle = {s.peer for s in idle if s.stream.granted.used_tasks == before[s.peer]}
            still = {s.peer for s in free if _is_free(s)}
            for number in waiting:
                request = core.in_flight.requests.get(number)
                if request is None or request.holder not in before:
                    continue
                if request.holder in core.retries.silent:
                    self.complain("silent", f"{number} is given to {request.holder:x}")
                tried = self.returns[core.in_flight.owner, number]
                if request.holder in tried and still - tried:
                    self.complain("spread", f"{number} goes back to {request.holder:x}")
                if request.holder in busy and idle - tried:
                    self.complain("placed", f"{number} is given to {request.holder:x}, not {idle}")

        core._dispatch = watched
        move = core.queues.move

        def moved(routes):
            if core.replicas.missing():
                self.complain("stands", f"{gateway.name} moves without {core.replicas.missing()}")
            move(routes)

        core.queues.move = moved

    def _placement(self, free):
        """Of these replicas those that are idle, as their only producer must know, and the busy."""
        if self.draw.profile != "calm" or self.draw.gateways > 1:
            return [], set()
        reps = {rep.me: rep for rep in self.reps()}
        known = self.now - TOLD
        idle = [s for s in free if not reps[s.peer].holds and reps[s.peer].free_since < known]
        return idle, {s.peer for s in free if reps[s.peer].holds}

    def complain(self, check, text):
        """Something happened that must not."""
        self.complaints.append((check, f"at {self.now - 100:.4f}: {text}"))

    def _look_at(self, rep, task):
        """A forward begins: nobody may have given up on it."""
        if task.deadline <= self.now:
            self.complain("deadline", f"{task.number} is computed after its time")
        asked = self.asked.get(task.id)
        if asked is not None and asked.left_at + FORGOTTEN < self.now:
            self.complain("cancel", f"{task.number} is computed for nobody")
        if asked is not None and task.request_id != asked.request_id:
            self.complain("its own name", f"{task.number} is called {task.request_id}")
        if asked is not None and asked.answers and not task.hop:
            self._look_at_late(rep, task, asked)

    def _look_at_late(self, rep, task, asked):
        """It has its answer. Who holds it was told so, if there was a way to tell."""
        if self.draw.small_parts:
            return  # of what is on its way in slices the CANCEL comes last
        gateway, at = asked.gateway, asked.answers[0][0]
        session = gateway.core.links.sessions.get(rep.me)
        way = session is not None and session.link is not None and session.since <= at
        blocked = self.blocks.keys() & {(gateway.name, rep.name), (rep.name, gateway.name)}
        if way and not blocked and at + FORGOTTEN < self.now and not gateway.wakes_at > at:
            self.complain("called off", f"{task.number} is computed although it was answered")

    def begins(self, rep, batch):
        revision = rep.core.facts.revision
        for task in batch.tasks:
            self._look_at(rep, task)
            begun = self.revisions.setdefault((*task.id, task.attempt), revision)
            if {begun, task.hops[0][1]} != {revision}:
                self.complain("one revision", f"{task.number} of {begun} runs in {revision}")
            runs = self.executions[(*task.id, task.hop)]
            runs.append((task.attempt, rep.me))
        if self.story is not None:
            what = [(f"{t.owner & 0xFFFF:x}", t.number, t.attempt) for t in batch.tasks]
            self.tell(f"{rep.name} computes {what} for {rep.running.seconds:.4f} s")
        else:
            self.tell(f"{rep.name} computes {len(batch.tasks)}")

    # --- clients ---------------------------------------------------------------------------------

    def ask(self, n, body, timeout, leaves):
        """A client sends a request to the n-th gateway, if that one runs."""
        gateway = self.gateways[n]
        if gateway is None:
            self.events["refused"] += 1
            return
        awake = gateway.wakes_at <= self.now
        request_id = f"asked-{len(self.asked)}" if len(self.asked) % 3 else None
        number = gateway.submit(body, timeout, turn=False, request_id=request_id)
        if awake:
            gateway.turn()
        asked = Asked(gateway, number, body, self.now, self.now + timeout, timeout)
        asked.request_id = request_id
        self.asked[asked.key] = asked
        outcome = gateway.answers.get(number)
        if outcome is not None:
            asked.answers.append((self.now, outcome))
        if leaves:
            self.at(self.now + leaves, lambda: self.hang_up(asked))

    def hang_up(self, asked):
        """The client goes away, if it has no answer yet."""
        gateway = asked.gateway
        if gateway not in self.members or asked.answers:
            return
        asked.left_at = self.now
        gateway.core.gone(asked.number)
        if gateway.wakes_at <= self.now:
            gateway.turn()

    def answered_by(self, gateway, request, outcome):
        asked = self.asked.get((gateway.me, request.number))
        if asked is not None:
            asked.answers.append((self.now, outcome))
        label = outcome.label if outcome.kind is OutcomeKind.FAILURE else "result"
        if label != "result" and outcome.attempt != request.attempt:
            self.complain("newest only", f"{label} of {outcome.attempt} ends {request.attempt}")
        if self.story is not None:
            self.tell(f"{gateway.name} answers {request.number}: {label} {outcome.text}")
        else:
            self.tell(f"{gateway.name} answers {request.number}: {label}")

    # --- whose neighbours ------------------------------------------------------------------------

    def others(self, member):
        """Names of everybody else."""
        return [one.name for one in self.members if one is not member]


def _revision(version):
    return "r" if version == 1 else f"r{version}"


def _show(frames):
    from mesh.errors import ProtocolError
    from mesh.protocol.wire import decode

    try:
        header, message = decode(frames, 0.0)
    except ProtocolError as error:
        return f"unreadable: {error}"
    said = f"{header.type.name} {header.sequence or ''} (receipt {header.ack}, {header.tasks})"
    tasks = getattr(message, "tasks", None)
    if tasks is not None:
        said += f" {[(t.number, t.attempt, t.hop) for t in tasks]}"
    outcomes = getattr(message, "outcomes", None)
    if outcomes is not None:
        said += f" {[(o.number, o.attempt, o.kind.name) for o in outcomes]}"
        said += f" notes {[(*n[:3], f'{n[3]:x}') for n in message.notices]}"
    numbers = getattr(message, "numbers", None)
    return said if numbers is None else f"{said} {numbers}"
