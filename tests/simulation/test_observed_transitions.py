"""Whatever happens in a history is in the tables of transitions, by the function that they name."""

import pytest
from faults import PROFILES
from history import play
from observed import OF_REPLICAS, OF_REQUESTS, OF_SESSIONS, missing, observed

SEEDS = range(2)


@pytest.mark.parametrize("profile", PROFILES)
def test_all_that_happens_is_in_the_tables(profile):
    with pytest.MonkeyPatch.context() as patch, observed(patch) as found:
        for seed in SEEDS:
            play(seed, profile)
    requests, sessions, replicas = found
    assert ("Waiting", "Held") in {(before, after) for before, after, _ in requests.seen}
    assert missing(requests, OF_REQUESTS) == set()
    assert missing(sessions, OF_SESSIONS) == set()
    assert missing(replicas, OF_REPLICAS) == set()


def test_what_is_in_no_table_is_noticed():
    with pytest.MonkeyPatch.context() as patch, observed(patch) as found:
        play(0, "drains")
    requests, sessions, _ = found
    retried = {each for each in OF_REQUESTS if each.event != "dispatched"}
    assert {by for _, _, by in missing(requests, retried)} == {
        "gateway.requests.in_flight:InFlightTable.assign"
    }
    orderly = {each for each in OF_SESSIONS if each.next != "Over"}
    assert {after for _, after, _ in missing(sessions, orderly)} == {"Over"}
