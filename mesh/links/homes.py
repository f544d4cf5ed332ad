"""Which replicas a producer tries first, so that several producers do not meet at the same. Pure.

Each producer knows exactly what it has sent, and of the others only what a replica said a moment
ago. So of the idle replicas it prefers its own share of them, its homes. Every producer computes
the same shares from the same lists, without a message.
"""

from __future__ import annotations

from collections.abc import Collection


def homes(me: int, producers: Collection[int], replicas: Collection[int]) -> frozenset[int]:
    """Return the homes of one producer, which are only a preference.

    The replicas are dealt out in order, like cards. If there are more producers than replicas,
    each producer has one home, which it shares.

    Args:
        me: the producer's incarnation.
        producers: incarnations of all producers of the stage; `me` may be missing.
        replicas: incarnations of the stage's replicas.

    Example:
        >>> sorted(homes(1, [1, 2], [11, 12, 13]))
        [11, 13]
        >>> sorted(homes(3, [1, 2, 3], [11, 12]))
        [11]
    """
    dealt = sorted(replicas)
    rivals = sorted({*producers, me})
    place = rivals.index(me)
    if len(dealt) < len(rivals):
        return frozenset(dealt[place % len(dealt) :][:1]) if dealt else frozenset()
    return frozenset(dealt[place :: len(rivals)])
