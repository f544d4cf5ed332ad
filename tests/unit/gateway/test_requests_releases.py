"""Where the routes led, and where they may lead again."""

from gateway.requests.releases import (
    FIRST_PAUSE_S,
    MAX_FALLEN,
    MAX_FORMER,
    MAX_PAUSE_S,
    Release,
    Releases,
)

ONE, TWO, THREE = (Release(str(n), f"r{n}") for n in (1, 2, 3))


def test_the_last_ones_are_remembered_each_once():
    releases = Releases()
    releases.moved(ONE, TWO)
    releases.moved(TWO, THREE)
    assert releases.former == [ONE, TWO]
    assert releases.is_former("r1")
    releases.moved(THREE, ONE)
    assert releases.former == [TWO, THREE]
    assert not releases.is_former("r1")
    for n in range(10):
        releases.moved(Release("x", f"x{n}"), ONE)
    assert len(releases.former) == MAX_FORMER


def test_one_that_went_is_not_followed_for_a_growing_time():
    releases, now, pauses = Releases(), 100.0, []
    for _ in range(7):
        releases.moved(ONE, TWO)
        releases.went_back(TWO, ONE, now)
        assert releases.former == []
        assert not releases.may_lead("r2", now)
        assert releases.may_lead("r1", now)
        pause = next(s for s in range(1, 100) if releases.may_lead("r2", now + s))
        pauses.append(float(pause))
        now += pause
    assert pauses == [FIRST_PAUSE_S, 4.0, 8.0, 16.0, 32.0, MAX_PAUSE_S, MAX_PAUSE_S]


def test_so_many_are_remembered():
    releases = Releases()
    for n in range(3 * MAX_FALLEN):
        releases.went_back(Release("x", f"x{n}"), ONE, 0.0)
    assert len(releases._fallen) == MAX_FALLEN
    assert releases.may_lead("x0", 0.0)
