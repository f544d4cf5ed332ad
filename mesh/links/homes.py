"""Which replicas a producer tries first, so that several producers do not meet at the same. Pure.

Each producer knows exactly what it has sent. What the others have sent it knows only from what a
replica last said. So of the idle replicas it prefers its own share of them, its homes. Every
producer computes the same shares from the same lists, without a message.
"""

from __future__ import annotations

from collections.abc import Collection


def homes_of(me: int, producers: Collection[int], replicas: Collection[int]) -> frozenset[int]:
    """Return the homes of one producer: the replicas are dealt out in order, like cards.

    Where there are more producers than replicas, each has one home, which it shares.

    Args:
        me: the producer's incarnation.
        producers: incarnations of all producers of the stage; `me` may be missing.
        replicas: incarnations of the stage's replicas, at least one.

    Example:
        >>> sorted(homes_of(1, [1, 2], [11, 12, 13]))
        [11, 13]
        >>> sorted(homes_of(3, [1, 2, 3], [11, 12]))
        [11]
    """
    dealt, rivals = sorted(replicas), sorted({*producers, me})
    return frozenset(dealt[rivals.index(me) % len(dealt) :: len(rivals)])
