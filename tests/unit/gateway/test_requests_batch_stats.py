"""Which figures of batches are a breach, and what the others count as."""

import pytest

from gateway.requests.batch_stats import MOST_MADE, believed
from mesh.links.session import Session
from mesh.protocol.messages import MOST_SINGLES, REASONS, BatchStats, Role, StageFacts
from mesh.protocol.permissions import Breach

MINE = BatchStats("a", 1, 500, 900, "idle", nbytes=64, gather=500)


def replica(stage="a", batch=4):
    session = Session(1, 11, Role.REPLICA, 1 << 20)
    session.stage = StageFacts(stage, "r", batch, 3.0, 1 << 20)
    return session


def judge_stats(session, stats):
    assert believed(session, stats, 3.0, MOST_MADE) is stats  # nothing is copied


def test_stats_are_of_ones_own_stage():
    judge_stats(replica(), [MINE, MINE])
    for session in replica("b"), Session(1, 3, Role.SUPERVISOR, 0):
        with pytest.raises(Breach, match="another stage"):
            judge_stats(session, [MINE])


def test_a_batch_is_closed_for_a_known_reason():
    judge_stats(replica(), [MINE._replace(reason=reason) for reason in REASONS])
    with pytest.raises(Breach, match="no known reason"):
        judge_stats(replica(), [MINE, MINE._replace(reason="x" * 4000)])


@pytest.mark.parametrize(
    ("batch", "size", "honest"),
    [
        (4, 1, True),
        (4, 4, True),
        (4, 0, False),
        (4, 5, False),
        (1, MOST_SINGLES, True),
        (1, MOST_SINGLES + 1, False),
    ],
)
def test_a_batch_has_a_size_that_its_replica_said(batch, size, honest):
    try:
        judge_stats(replica(batch=batch), [MINE._replace(size=size, nbytes=0)])
    except Breach:
        assert not honest
    else:
        assert honest


def test_what_a_batch_gathered_it_waited():
    with pytest.raises(Breach, match="longer than it waited"):
        judge_stats(replica(), [MINE._replace(gather=501)])


def test_stats_are_within_what_a_batch_can_make():
    most = MINE._replace(size=2, nbytes=2 * MOST_MADE)
    judge_stats(replica(), [most])
    with pytest.raises(Breach, match="more than any can"):
        judge_stats(replica(), [most._replace(nbytes=2 * MOST_MADE + 1)])


def test_times_and_bytes_count_as_what_a_request_can_have():
    """Who was stopped for an hour is no liar, and tells of an hour."""
    hour = 3_600_000_000
    stopped = MINE._replace(size=2, wait=hour, compute=hour, gather=hour, nbytes=MOST_MADE)
    told = believed(replica(), [MINE, stopped, MINE._replace(nbytes=99)], 3.0, 64)
    assert told[0] == MINE
    assert told[1] == BatchStats("a", 2, 3_000_000, 3_000_000, "idle", nbytes=128, gather=3_000_000)
    assert told[2].nbytes == 64


@pytest.mark.parametrize(
    ("name", "most"), [("wait", 3_000_000), ("compute", 3_000_000), ("nbytes", 64)]
)
def test_each_of_them_has_its_limit(name, most):
    at_most = [MINE._replace(**{name: most})]
    assert believed(replica(), at_most, 3.0, 64) is at_most
    told = believed(replica(), [MINE._replace(**{name: most + 1}), MINE], 3.0, 64)
    assert told == [*at_most, MINE]


def test_a_batch_of_nothing_is_none():
    with pytest.raises(Breach, match="of a size that it cannot have"):
        believed(replica(), [MINE._replace(size=0, nbytes=0)], 3.0, 64)


@pytest.mark.parametrize(
    ("told", "bounded"),
    [
        ({"wait": 3_000_001}, {"wait": 3_000_000}),
        ({"compute": 3_000_001}, {"compute": 3_000_000}),
        ({"nbytes": 65}, {"nbytes": 64}),
    ],
)
def test_one_that_is_too_large_is_enough_wherever_it_stands(told, bounded):
    large, expected = MINE._replace(**told), MINE._replace(**bounded)
    assert believed(replica(), [large, MINE], 3.0, 64) == [expected, MINE]
    assert believed(replica(), [MINE, large], 3.0, 64) == [MINE, expected]
