"""What one end of a session has learnt of whether the other runs, and of how busy it is. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mesh.protocol.messages import Ping

# Seconds between two probes of a port: a process that dies may be refused a moment later than its
# links are cut.
PROBE_INTERVAL_S: Final = 0.02
# Seconds that are believed: a peer that is gone is awaited for four of them, and it says itself
# how long they are.
MAX_ROUND_TRIP_S: Final = 2.5


@dataclass(slots=True)
class VitalSigns:
    """Signs of life of a peer. `Links` feeds them with what comes.

    Attributes:
        listens: whether a probe found that the peer's port is open.
        probe_at: when to probe again while there is no connection.
        busy_until: until when the peer may compute and send nothing, as it said.
        silent: whether it has been quiet for too long.
        round_trip: seconds to the peer and back, as last measured; 0 before the first.
        queued: tasks that the peer said it holds and has not begun.

    Example:
        >>> signs = VitalSigns()
        >>> signs.judge(silent=True), signs.judge(silent=True), signs.silent
        (True, False, True)
    """

    listens: bool = False
    probe_at: float = 0.0
    busy_until: float = 0.0
    silent: bool = False
    round_trip: float = 0.0
    queued: int = 0

    def pinged(self, ping: Ping, now: float, longest: float) -> None:
        """Take what a PING says.

        Args:
            ping: the message.
            now: local monotonic time in seconds.
            longest: seconds for which the peer may at most compute and send nothing.
        """
        self.queued = ping.queued
        left = (ping.allowed - ping.running) / 1000 if ping.running else 0.0
        self.busy_until = now + min(left, longest)
        if ping.echo:
            measured = now - (ping.echo + ping.held) / 1e6
            self.round_trip = min(max(0.0, measured), MAX_ROUND_TRIP_S)

    def judge(self, *, silent: bool) -> bool:
        """Record whether the peer is silent; returns whether that changed."""
        changed = self.silent is not silent
        self.silent = silent
        return changed

    def is_probe_due(self, now: float) -> bool:
        """Whether to probe the peer's port now; the next probe is due an interval later."""
        if now < self.probe_at:
            return False
        self.probe_at = now + PROBE_INTERVAL_S
        return True
