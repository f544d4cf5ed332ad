"""Outlier detection: replicas that only fail answer fastest, and would attract all tasks. Pure.

For each replica that fails, the share of failures among its recent outcomes is tracked. If its
share is high while a sibling's is low, the replica leaves its dispatcher. It then gets one task at
a time as a probe of its recovery.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.requests.in_flight import Request
from gateway.requests.replicas import Replicas
from mesh.links.dispatcher import DispatchedBundle, Dispatcher
from mesh.links.session import Session
from mesh.protocol.messages import Hop, Outcome

WINDOW = 32  # number of outcomes over which the share is averaged
SUSPECT_SHARE = 0.5  # above this share, a replica is ejected
SIBLING_SHARE = 0.25  # but only if a sibling's share is below this fraction of its own
FORGIVEN_SHARE = 0.4  # below this share, it is trusted again
SHARE_DECAY = 0.999  # factor per sweep: old failures lose their weight
_NEGLIGIBLE = 0.01
# Failures that the replica causes; all others are caused by the request.
_ITS_OWN = frozenset({"server_error", "encoding_error"})


class OutlierDetection:
    """Tracks the failures of replicas, and ejects outliers from their dispatchers.

    Args:
        replicas: the replica registry.
        dispatchers: by stage.

    Attributes:
        failing: the ejected replicas, by incarnation.
    """

    def __init__(self, replicas: Replicas, dispatchers: Mapping[Hop, Dispatcher]) -> None:
        self.failing: dict[int, Session] = {}
        self._replicas = replicas
        self._dispatchers = dispatchers
        self._shares: dict[int, float] = {}

    def learn(self, session: Session, outcomes: Iterable[Outcome], count: int) -> None:
        """Learn from a bundle of outcomes.

        Args:
            session: the session of the replica that sent it.
            outcomes: the failures in it.
            count: all outcomes and handoff notices in it, at least 1.
        """
        # Only the status tells what an error code of the worker's own means.
        failures = sum(one.label in _ITS_OWN or one.status >= 500 for one in outcomes)
        share = self._shares.get(session.peer, 0.0)
        if not failures and not share:
            return
        share += min(1.0, count / WINDOW) * (failures / count - share)
        self._shares[session.peer] = share
        self._judge(session, share)

    def _judge(self, session: Session, share: float) -> None:
        hop = self._replicas.hop_of(session)
        if hop is None:
            self.forget(session)
        elif share > SUSPECT_SHARE and self._best_of_others(session, hop) < SIBLING_SHARE * share:
            self.failing[session.peer] = session
            self._dispatchers[hop].leave(session)
        elif share < FORGIVEN_SHARE:
            if self.failing.pop(session.peer, None) is not None:
                self._dispatchers[hop].join(session)
            if share < _NEGLIGIBLE:
                del self._shares[session.peer]

    def _best_of_others(self, session: Session, hop: Hop) -> float:
        others = (s.peer for s in self._dispatchers[hop].sessions if s is not session)
        return min((self._shares.get(peer, 0.0) for peer in others), default=1.0)

    def forget(self, session: Session) -> None:
        """Remove a replica that is gone."""
        self._shares.pop(session.peer, None)
        self.failing.pop(session.peer, None)

    def probe(self, requests: Iterable[Request]) -> list[DispatchedBundle]:
        """Let old observations decay, and send a probe to each idle ejected replica.

        Returns:
            The dispatched bundles, each of one waiting task.
        """
        for peer, share in list(self._shares.items()):
            self._shares[peer] = share * SHARE_DECAY
            session = self._replicas.sessions.get(peer)
            if session is not None:
                self._judge(session, share * SHARE_DECAY)
        if not self.failing:
            return []
        busy = {request.holder for request in requests}
        bundles = []
        for peer, session in self.failing.items():
            hop = self._replicas.hop_of(session)
            if peer not in busy and hop is not None and not session.vitals.silent:
                bundles += self._dispatchers[hop].give_one(session)
        return bundles
