"""The shares that several producers have of the replicas of a stage."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mesh.links.homes import homes_of

INCARNATIONS = st.sets(st.integers(1, 99), min_size=1, max_size=20)


@given(INCARNATIONS, INCARNATIONS)
def test_each_replica_is_as_many_producers_home_as_any_other(
    producers: set[int], replicas: set[int]
) -> None:
    homes = {each: homes_of(each, producers, replicas) for each in producers}
    counts = Counter(home for own in homes.values() for home in own)
    assert set(counts) <= replicas
    if len(producers) <= len(replicas):
        assert counts == dict.fromkeys(replicas, 1)
    else:
        assert max(counts.values()) - min(counts.values()) <= 1
    sizes = {len(own) for own in homes.values()}
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1


@given(st.integers(1, 99), INCARNATIONS, INCARNATIONS)
def test_a_producer_that_no_replica_has_named_yet_counts(
    me: int, producers: set[int], replicas: set[int]
) -> None:
    assert homes_of(me, producers, replicas) == homes_of(me, producers | {me}, replicas)
