"""How many files this process may open: raised where it helps, refused where it does not."""

import errno
import resource
from collections.abc import Iterator

import pytest

from mesh.errors import StartError
from mesh.process.limits import (
    demand_free_files,
    demand_open_files,
    free_files,
    raise_descriptor_limit,
    shortage_as_start_error,
)

FOREVER = resource.RLIM_INFINITY


class Limit:
    """The limit of open files, of a process that is no more than this test's idea of one."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now, self.set = (1024, 4096), []
        patch.setattr(resource, "getrlimit", lambda _which: self.now)
        patch.setattr(resource, "setrlimit", lambda _which, limits: self.set.append(limits))


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Limit]:
    with monkeypatch.context() as patch:
        yield Limit(patch)


def test_the_soft_limit_of_descriptors_is_raised_to_the_hard_one(limit: Limit) -> None:
    assert raise_descriptor_limit() == 4096
    limit.now = (4096, 4096)
    raise_descriptor_limit()
    assert limit.set == [(4096, 4096)]


def test_what_is_enough_is_left_alone(limit: Limit) -> None:
    demand_open_files({"the gateway": 1024})
    limit.now = (FOREVER, FOREVER)
    demand_open_files({"the gateway": 1 << 40})
    assert limit.set == []


@pytest.mark.parametrize(
    ("hard", "need", "soft"),
    [(600, 500, 600), (FOREVER, 500, 4096), (1 << 30, 9000, 9000), (500, 500, 500)],
)
def test_a_low_soft_limit_is_raised(limit: Limit, hard: int, need: int, soft: int) -> None:
    limit.now = (100, hard)
    demand_open_files({"the gateway": need, "the supervisor": 20})
    assert limit.set == [(soft, hard)]


def test_a_low_hard_limit_is_refused_with_what_is_needed(limit: Limit) -> None:
    limit.now = (20, 24)
    with pytest.raises(StartError, match="may have 24 open files, and the gateway needs about 45"):
        demand_open_files({"the supervisor": 40, "the gateway": 45})


def test_what_a_worker_has_opened_is_told(limit: Limit) -> None:
    limit.now = (FOREVER, FOREVER)
    demand_free_files(1000, "the worker")
    limit.now = (20, 20)
    with pytest.raises(StartError, match=r"20 open files; the worker left -?\d+ of them, and 1000"):
        demand_free_files(1000, "the worker")


def test_how_many_are_left(limit: Limit) -> None:
    left = free_files()
    with open("/dev/null"):
        assert free_files() == left - 1
    assert 0 < left < 1024
    limit.now = (0, 0)
    assert free_files() < 0


def test_that_there_are_no_more_is_said_with_the_way_out(limit: Limit) -> None:
    with (
        pytest.raises(StartError, match="may have 1024; allow more: `ulimit -n"),
        shortage_as_start_error(),
    ):
        raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "Permission denied"), ValueError("no")])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, shortage_as_start_error():
        raise error
    assert raised.value is error
