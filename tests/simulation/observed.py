"""Watches what becomes of requests, sessions and replicas, and which function did it.

The functions that a table of transitions names are watched. Each change of state belongs to the
innermost of them that was running then, so that none of another function, or by way of none, goes
unnoticed.
"""

import contextlib
from functools import wraps

import state_diagrams

from gateway.requests.core import GatewayCore
from gateway.requests.states import TRANSITIONS as OF_REQUESTS
from mesh.links.links import Links
from mesh.links.states import START
from mesh.links.states import TRANSITIONS as OF_SESSIONS
from stage.replica import Replica
from stage.states import TRANSITIONS as OF_REPLICAS

INSIDE = {"Queued": "Waiting", "Parked": "Waiting"}
NOBODY = "none of the functions that the table names"


def request_states(core):
    """The state of each request of a gateway; of those that wait also where."""
    waiting = [dispatcher.waiting for dispatcher in core.queues.dispatchers.values()]
    places = {id(task): "Queued" for queue in waiting for task in queue}
    places |= {id(task): "Parked" for queue in core.queues.parked.values() for task in queue}
    return {
        number: _request_state(request, places.get(id(request), "Waiting"))
        for number, request in core.in_flight.requests.items()
    }


def _request_state(request, place):
    if request.holder:
        return "Held"
    return "HandedBack" if request.at else place


def session_states(links):
    """The state of each session of a process."""
    return {session: _session_state(session) for session in links.sessions.values()}


def _session_state(session):
    if session.is_parting:
        return "Parting"
    if session.link is None:
        return "Detached"
    return "Silent" if session.vitals.silent else "Connected"


def replica_states(replica):
    """The state of a replica whose worker stands."""
    if replica._parted:
        return {replica: "Parting"}
    computes = replica.running is not None
    if replica.draining:
        return {replica: "Finishing" if computes else "Draining"}
    return {replica: "Computing" if computes else "Free"}


# What follows the last state that a thing is seen in.
ENDS = {request_states: "Ended", session_states: "Over", replica_states: "Ended"}


class Watched:
    """One gateway, process or replica, and the states that it was seen in last."""

    def __init__(self, subject, states, last, seen):
        self.subject, self.states, self.last, self.seen = subject, states, last, seen
        self.running = [NOBODY]

    def look(self):
        """Add what has changed to what was seen, as done by whoever runs now."""
        last, now, by = self.last, self.states(self.subject), self.running[-1]
        for each in [each for each in now if each not in last and now[each] == "Detached"]:
            del now[each]  # a session begins with its first link
        for each in {*last, *now}:
            before, after = last.get(each, START), now.get(each, ENDS[self.states])
            if before != after:
                self.seen.add((before, after, by))
        self.last = now

    def call(self, by, function, *arguments, **named):
        """Run a function that is watched."""
        self.look()
        self.running.append(by)
        try:
            return function(*arguments, **named)
        finally:
            self.look()
            self.running.pop()


class Observer:
    """Collects (state before, state after, function) of all that a table is about.

    Args:
        transitions: the table.
        cls: what has the states.
        states: finds them.
        parts: attributes of it that have watched functions of their own.
    """

    def __init__(self, transitions, cls, states, *parts):
        self.seen = set()
        self._cls, self._states, self._parts = cls, states, parts
        self._names = {each.by for each in transitions}
        self._watched = {}

    def watch(self, patch):
        """Watch from now on, until `patch` is undone."""
        begin = self._cls.__init__

        @wraps(begin)
        def begun(subject, *arguments, **named):
            begin(subject, *arguments, **named)
            self._enter(subject)

        patch.setattr(self._cls, "__init__", begun)
        for by in sorted(self._names):
            owner = state_diagrams.find(by.rpartition(".")[0]) if "." in by.split(":")[1] else None
            if owner is not None:
                name = by.rpartition(".")[2]
                patch.setattr(owner, name, self._wrapped(by, getattr(owner, name)))

    def _enter(self, subject):
        states = self._states
        watched = Watched(subject, states, states(subject), self.seen)
        for part in (subject, *(getattr(subject, name) for name in self._parts)):
            self._watched[id(part)] = watched, part  # kept, so that no other has its address

    def _wrapped(self, by, function):
        @wraps(function)
        def watched(part, *arguments, **named):
            links = getattr(part, "links", None)  # where a core ends a session
            entry = self._watched.get(id(part)) or self._watched.get(id(links))
            if entry is None:
                return function(part, *arguments, **named)
            return entry[0].call(by, function, part, *arguments, **named)

        return watched


def missing(observer, transitions):
    """What was seen and is in no table, as (state before, state after, function)."""
    known = {(each.state, each.next, each.by) for each in transitions}
    return {seen for seen in observer.seen if not _is_known(seen, known)}


def _is_known(seen, known):
    before, after, by = seen
    outer = INSIDE.get(before, before), INSIDE.get(after, after)
    if outer[0] == outer[1] and outer[0] in (before, after):
        return True  # into an inner state, or out of one
    return seen in known or (outer[0] != outer[1] and (*outer, by) in known)


@contextlib.contextmanager
def observed(patch):
    """Observers of requests, sessions and replicas."""
    found = (
        Observer(OF_REQUESTS, GatewayCore, request_states, "in_flight", "queues", "retries"),
        Observer(OF_SESSIONS, Links, session_states),
        Observer(OF_REPLICAS, Replica, replica_states),
    )
    for one in found:
        one.watch(patch)
    yield found
