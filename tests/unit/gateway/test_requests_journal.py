"""What the core writes down."""

from gateway.requests.journal import Counts


def test_each_core_counts_for_itself():
    one, other = Counts(), Counts()
    one.retries["lost"] += 1
    assert (one.retries, other.retries) == ({"lost": 1}, {})
