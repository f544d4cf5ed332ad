"""Whether a client that has stopped sending still waits for its answer.

A client that shuts down its sending half (`nc -N`, ``shutdown(SHUT_WR)``) and one that closes its
connection look the same: the kernel reports the end of input. They differ once something is sent:
the kernel of a client that has closed answers with a reset, and poll then reports an error.

So nothing is sent while the answer may come at once. After `PROBE_DELAY_S` the connection *probes*:
it sends something that means nothing to the client, and looks whether a reset comes. The reset
takes a round trip, hence several looks; after the last of them the server's sweep goes on looking.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Final

PROBE_DELAY_S: Final = 0.05  # seconds that an answer may take before the client is probed
_LOOK_PAUSES_S: Final = (0.005, 0.015, 0.030)  # pauses after the probe, each before another look


class HalfClosed:
    """Follows one connection from the end of its input on.

    Args:
        transport: of the connection.
        probe: sends something that the client ignores, if anything can be sent now; called once.
        gone: called once it is known that the client reads no more; the connection must end then.
    """

    __slots__ = ("_gone", "_later", "_pauses", "_probe", "_transport")

    def __init__(
        self,
        transport: asyncio.Transport,
        probe: Callable[[], None],
        gone: Callable[[], None],
    ) -> None:
        self._transport, self._gone = transport, gone
        self._probe: Callable[[], None] | None = probe
        self._pauses = list(_LOOK_PAUSES_S)
        self._later = asyncio.get_running_loop().call_later(PROBE_DELAY_S, self._proceed)

    def _proceed(self) -> None:
        """Look, and come back later."""
        if self.look():
            return
        probe, self._probe = self._probe, None
        if probe is not None:
            probe()
        if self._pauses:
            loop = asyncio.get_running_loop()
            self._later = loop.call_later(self._pauses.pop(0), self._proceed)

    def look(self) -> bool:
        """End the connection if its client has closed it; says whether it has."""
        if not is_closed(self._transport):
            return False
        self.stop()
        self._gone()
        return True

    def stop(self) -> None:
        """The connection ends: look no more by itself."""
        self._later.cancel()


def is_closed(transport: asyncio.Transport) -> bool:
    """Whether the kernel knows that the client reads no more: after a reset, on a Unix socket."""
    opened = transport.get_extra_info("socket")
    if opened is None or opened.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(opened.fileno(), 0)  # errors and hang-ups are always reported
    return bool(poll.poll(0))
