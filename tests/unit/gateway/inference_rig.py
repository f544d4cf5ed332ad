"""An inference service over a real core, with a connection that keeps what is written."""

import json

from gateway.inference import InferenceService
from gateway.requests.admission import Admission
from gateway.requests.core import GatewayCore
from gateway.requests.route import InferenceRoute
from gateway.web.exchange import Exchange
from gateway.web.failure_log import FailureLog
from mesh.links.events import Identity, SessionStarted
from mesh.links.links import Links
from mesh.links.session import Session
from mesh.protocol.messages import Outcome, OutcomeKind, Role, StageFacts

PATH = (("a", ""), ("b", ""))
NOW = 50.0


class Wire:
    """The connection that every exchange of a test came by."""

    special = False

    def __init__(self):
        self.pending = []
        self.written = []
        self.transport = self

    def write(self, piece):
        self.written.append(bytes(piece))

    def release(self):
        while self.pending and self.pending[0].flush(self):
            del self.pending[0]

    def answers(self):
        """Status, headers and body of each answer."""
        text, self.written = b"".join(self.written), []
        found = []
        while text:
            head, _, text = text.partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            length = int(headers.get("Content-Length", 0))
            found.append((int(first.split()[1]), headers, text[:length]))
            text = text[length:]
        return found


class InferenceRig:
    def __init__(self, capacity=10):
        links = Links(Identity(0xABC, Role.GATEWAY), lambda: 0.5)
        self.core = GatewayCore(links, {"/inference": PATH}, 3, NOW)
        self.admission = Admission(capacity, 1 << 20)
        self.route = InferenceRoute("/inference", PATH, self.admission)
        self.woken = 0
        self.service = InferenceService(
            self.core, [self.route], 3.0, self.wake, lambda: NOW + 1, FailureLog(lambda: NOW + 1)
        )
        self.wire = Wire()

    def wake(self):
        self.woken += 1

    def exchange(self, body=b"{}", at=NOW, target=b"/inference"):
        made = Exchange(self.wire, self.route, target, at, b"")
        made.body = body
        self.wire.pending.append(made)
        return made

    def submit(self, *arguments, **more):
        made = self.exchange(*arguments, **more)
        self.service.submit(made)
        return made

    def hear(self, outcome):
        """Whoever holds a request says what became of it."""
        in_flight = self.core.in_flight
        ended = in_flight.settle(outcome, in_flight.requests[outcome.number])
        self.core.ended.append(ended)

    def end(self, exchange, kind=OutcomeKind.RESULT, **more):
        outcome = Outcome(exchange.request.number, 1, kind, more.pop("hop", 1), **more)
        self.hear(outcome)
        self.service.answers.write(self.core.take_ended())
        ((status, headers, body),) = self.wire.answers()
        return status, headers, body

    def learn(self, facts):
        self.core.replicas.facts.update(facts)
        self.service.learn()

    def refused(self):
        ((status, headers, body),) = self.wire.answers()
        return status, json.loads(body)["error"], headers


def fill(rig, inside=100, rate=50.0):
    """Many are inside, leave at a known rate, and wait since nobody gives credit."""
    first = [rig.submit(at=NOW) for _ in range(inside)]
    rig.admission.rate = rate
    rig.wire.pending.clear()
    rig.core.advance(NOW)
    return first


def facts(stage, **more):
    return StageFacts(stage, "", 1, 3.0, 1 << 20, **more)


def move(rig):
    """A later version takes over; its results are images, and it wants to know of the requests."""
    more = {"content_type": "image/png", "version": "2", "wants_meta": True}
    later = StageFacts("b", "2", 1, 3.0, 1 << 20, **more)
    rig.learn({("b", "2"): later})
    rig.core.replicas.move(later, NOW)
    rig.core.queues.move(rig.core.replicas.routes)
    rig.service.learn()


def replica(rig, incarnation=0x3F, stage="a"):
    session = Session(0xABC, incarnation, Role.REPLICA, 1 << 20, now=NOW)
    session.link, session.host, session.pid = incarnation, "gpu-1", 812
    session.stage = StageFacts(stage, "", 4, 3.0, 1 << 20)
    rig.core.links.sessions[incarnation] = session
    rig.core.handle_news(SessionStarted(session, False), NOW)
    return session
