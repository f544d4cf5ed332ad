"""A line for each handshake that fails because the two ends' keys do not fit.

libzmq gives up such a connection before it asks whose key it is, so nothing else tells of it; nor
does it say where the peer is. A peer may try as often as the network lets it: the log has
ten lines a minute of a kind, and then their number.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

from mesh.log import get_logger
from mesh.logs.limit import LogLimit

# Values of EVENT_HANDSHAKE_FAILED_PROTOCOL, as zmq.h has them.
CRYPTOGRAPHIC: Final = 0x11000001
OTHER_MECHANISM: Final = 0x11000002
_COMPARE: Final = "compare its folder of keys with ours"


class HandshakeLog:
    """Writes these lines for one listener.

    Args:
        keyed: whether keys are demanded there.
        clock: monotonic, in seconds.

    Example:
        >>> HandshakeLog(keyed=True).record("tcp://10.0.0.5:7000", 0)
    """

    def __init__(self, keyed: bool, clock: Callable[[], float] = monotonic) -> None:
        self._log = get_logger()
        self._clock = clock
        self._limit = LogLimit()
        self._reasons = {
            CRYPTOGRAPHIC: f"a process that expects another key than ours there; {_COMPARE}",
            OTHER_MECHANISM: "a process without keys; copy that host's, and name their folder there"
            if keyed
            else "a process with keys, but this process has none; give it its folder of `keys`",
        }

    def record(self, address: str, failure: int) -> None:
        """Log that a process failed to connect.

        Args:
            address: where this process listens.
            failure: the value of libzmq's event; others than keys that do not fit say nothing.
        """
        now = self._clock()
        if now >= self._limit.due:
            for kind, count in self._limit.take_left_out(now):
                self._log.warning("and %d more: refused at %s", count, kind)
        reason = self._reasons.get(failure)
        if reason is not None and self._limit.admits(f"{address}: {reason}", now):
            self._log.warning("refused at %s: %s", address, reason)
