"""Validation of the batch statistics that replicas report. Pure.

A *breach* is a report that no honest process makes. An honest replica may report very long times,
because it was stopped for minutes, and very large sizes, because it also serves gateways with
higher limits. So times and bytes are clamped to what a request can have at this gateway.
"""

from __future__ import annotations

from typing import Final

from mesh.links.session import Session
from mesh.protocol.messages import MOST_SINGLES, REASONS, BatchStats
from mesh.protocol.permissions import Breach

MOST_MADE: Final = 2**36  # bytes of one task's outputs; reporting more is a breach


def believed(
    session: Session, stats: list[BatchStats], longest_s: float, most_bytes: int
) -> list[BatchStats]:
    """Return the statistics with times and sizes clamped to what a request can have here.

    Args:
        session: the session of the replica that reports them.
        stats: the reported statistics.
        longest_s: limit of each time, in seconds.
        most_bytes: limit of one task's outputs, in bytes.

    Raises:
        Breach: they are of another stage, or impossible for a batch of this stage.

    Example:
        >>> from mesh.protocol.messages import Role, StageFacts
        >>> session = Session(1, 2, Role.REPLICA, 0)
        >>> session.stage = StageFacts("a", "r", 4, 3.0, 1 << 20)
        >>> believed(session, [BatchStats("a", 1, 0, 9_000_000, "idle")], 3.0, 1 << 20)[0].compute
        3000000
    """
    facts = session.stage
    own, most = ("", 0) if facts is None else (facts.name, facts.batch)
    if most == 1:
        most = MOST_SINGLES
    longest, usual = int(longest_s * 1e6), True
    for stage, size, wait, compute, reason, _, _, nbytes, gather in stats:
        if stage != own:
            raise Breach("it tells of batches of another stage")
        if reason not in REASONS:
            raise Breach("it tells of a batch that was closed for no known reason")
        if not 1 <= size <= most:
            raise Breach("it tells of a batch of a size that it cannot have")
        if gather > wait:
            raise Breach("it tells of a batch that gathered for longer than it waited")
        if nbytes > size * MOST_MADE:
            raise Breach("it tells of a batch that made more than any can")
        usual = usual and wait <= longest and compute <= longest and nbytes <= size * most_bytes
    return stats if usual else [_bounded(each, longest, most_bytes) for each in stats]


def _bounded(each: BatchStats, longest: int, most_bytes: int) -> BatchStats:
    return each._replace(
        wait=min(each.wait, longest),
        compute=min(each.compute, longest),
        gather=min(each.gather, longest),
        nbytes=min(each.nbytes, each.size * most_bytes),
    )
