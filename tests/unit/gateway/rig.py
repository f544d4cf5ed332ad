"""A gateway's core with the replicas that a test wants; its parts may be asked one by one."""

from gateway.requests.core import GatewayCore
from gateway.requests.in_flight import Request
from mesh.links.events import Delivery, Identity, SessionLost, SessionStarted
from mesh.links.links import Links
from mesh.links.session import Session
from mesh.protocol.messages import Death, Outcomes, Role, StageFacts, Tasks

A, B = ("a", ""), ("b", "")
PATH = (A, B)
ROUTES = {"/inference": PATH}
TWO = {11: A, 12: B}
ME, POOL = 1, 1 << 20
PARENT = 77  # the incarnation of the supervisor that started all replicas


class Rig:
    """A gateway.

    Args:
        replicas: stages of those that are there, by incarnation; the sessions of the first two are
            `first` and `second`.
        routes: as the core takes them.
        attempts: as the core takes them.
        version: as the core takes it.
        facts: of all replicas' stages but the first.
    """

    def __init__(self, replicas=TWO, routes=ROUTES, attempts=3, version="", **facts):
        self.links = Links(Identity(ME, Role.GATEWAY), lambda: 0.5)
        self.core = GatewayCore(self.links, routes, attempts, 0.0, version=version)
        self.in_flight, self.replicas, self.queues = (
            self.core.in_flight,
            self.core.replicas,
            self.core.queues,
        )
        self.dispatchers = self.core.dispatchers
        self.retries, self.outliers = self.core.retries, self.core.outliers
        self.sessions = {
            peer: self.meet(peer, hop, **facts if hop != A else {})
            for peer, hop in (replicas or {}).items()
        }
        self.first, self.second = (*self.sessions.values(), None, None)[:2]

    def session(self, peer, hop, role=Role.REPLICA, **facts):
        """One that the core does not know yet."""
        session = Session(ME, peer, role, POOL, now=0.0)
        session.link, session.feed = peer, f"tcp://{peer}"
        usual = {"batch": 4, "timeout": 3.0, "pool": POOL}
        session.stage = hop and StageFacts(*hop, **usual | facts)
        session.stream.granted.tasks, session.stream.granted.nbytes = 10, POOL
        session.parent = PARENT
        return session

    def meet(self, peer, hop, role=Role.REPLICA, **facts):
        session = self.session(peer, hop, role, **facts)
        self.links.sessions[peer] = session
        self.core.handle_news(SessionStarted(session, False), 0.0)
        return session

    def lose(self, session, now=0.0, orderly=False):
        self.links.sessions.pop(session.peer, None)
        session.link = None
        self.core.handle_news(SessionLost(session, "gone", orderly), now)

    def died(self, peer, computing=(), supervisor=None, **how):
        """A supervisor, the replica's own unless another is named, tells of a death."""
        if supervisor is None:
            supervisor = Session(ME, PARENT, Role.SUPERVISOR, POOL, now=0.0)
        death_notice = Death(peer, "a", how.pop("signal", 0), how.pop("code", 0), list(computing))
        self.core.delivered(Delivery(supervisor, (), death_notice), 0.0)
        return death_notice

    def made(self, hops=PATH, deadline=90.0, **more):
        """A request with the next number, of which the core does not know yet."""
        return Request(ME, self.in_flight.next_number(), hops, 0, 1, deadline, [b"x"], 1, **more)

    def entered(self, hops=PATH, **more):
        """A request that is in the in-flight table, and waits nowhere."""
        made = self.made(hops, **more)
        self.in_flight.enter(made)
        return made

    def submit(self, deadline=90.0, **more):
        request = self.made(deadline=deadline, **more)
        self.core.submit(request)
        return request

    def hear(self, session, *outcomes, **more):
        message = Outcomes(list(outcomes), **more)
        self.core.delivered(Delivery(session, (), message), 0.0)

    def sent(self, session, kind=Tasks, now=0.0):
        self.core.advance(now)
        return [message for message in session.stream.unacked() if type(message) is kind]

    def tasks(self, session, now=0.0):
        return [task for message in self.sent(session, now=now) for task in message.tasks]

    def waiting(self, hop):
        return list(self.dispatchers[hop].waiting)

    def takers(self, hop=A):
        return sorted(session.peer for session in self.dispatchers[hop].sessions)

    def endings(self):
        return [(e.request.number, e.outcome.label) for e in self.core.take_ended()]
