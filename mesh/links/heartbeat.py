"""How often a process sends signs of life, and how long it waits for those of its peers. Pure."""

from __future__ import annotations

from typing import Final

PING_INTERVAL_S: Final = 1.0
MIN_TIMEOUT_S: Final = 0.75  # seconds: a timeout below it makes signs of life no more frequent
SILENCE_S: Final = 3.0
# Seconds that a payload may take to arrive, at least: otherwise as long as a request lives.
LEAST_PAYLOAD_S: Final = 30.0
MOST_PAYLOAD_S: Final = 600.0  # however long requests live: a gateway may claim any timeout


class Heartbeat:
    """Follows from the default request timeout: a process's own, or that of its gateways.

    Where gateways differ, we send as often as the shortest timeout asks, and wait as long as the
    longest allows. So no gateway can make another peer look silent.

    Args:
        timeout: seconds that a request lives by default, until a gateway says otherwise.

    Attributes:
        ping_every: seconds between two signs of life.
        silence: seconds of quiet after which a peer counts as silent.
        patience: seconds for which an incomplete payload is kept.

    Example:
        >>> heartbeat = Heartbeat(6.0)
        >>> heartbeat.ping_every, heartbeat.silence
        (0.5, 2.0)
    """

    __slots__ = ("_timeout", "_timeouts", "patience", "ping_every", "silence")

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._timeouts: dict[int, float] = {}
        self.ping_every = self.silence = 0.0
        self._follow()

    def welcomed(self, gateway: int, timeout: float) -> bool:
        """Take a gateway's default request timeout from its WELCOME.

        Returns:
            Whether signs of life are due more or less often now.
        """
        self._timeouts[gateway] = timeout
        return self._follow()

    def lost(self, peer: int) -> bool:
        """Forget a gateway whose session ended; without effect for other peers.

        Returns:
            As `welcomed`.
        """
        return self._timeouts.pop(peer, None) is not None and self._follow()

    def _follow(self) -> bool:
        former = self.ping_every, self.silence
        said = self._timeouts.values() or (self._timeout,)
        self.silence = min(SILENCE_S, max(MIN_TIMEOUT_S, max(said)) / 3)
        self.ping_every = min(PING_INTERVAL_S, max(MIN_TIMEOUT_S, min(said)) / 12)
        self.patience = min(max(LEAST_PAYLOAD_S, max(said)), MOST_PAYLOAD_S)
        return former != (self.ping_every, self.silence)
