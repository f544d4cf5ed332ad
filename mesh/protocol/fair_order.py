"""An order in which no group is crowded out where room is short. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Final, TypeVar

T = TypeVar("T")
_NOTHING: Final = object()


def in_turns(groups: Iterable[Iterable[T]]) -> Iterator[T]:
    """The first of each group, then the second of each, and so on.

    Its first elements, however many, take as much from each group, as far as it has any:
    one group with a thousand elements leaves the others theirs.

    Args:
        groups: in the order in which they have their turn.

    Example:
        >>> list(in_turns([[1, 2, 3, 4], [10], [20, 21]]))
        [1, 10, 20, 2, 21, 3, 4]
    """
    for row in zip_longest(*groups, fillvalue=_NOTHING):
        for element in row:
            if element is not _NOTHING:
                yield element  # type: ignore[misc]  # what is filled in is left out
