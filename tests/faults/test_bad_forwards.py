"""Forwards that hang, are deaf, hold the interpreter's lock, suddenly take long, or crash."""

import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from fleet import answer, fleet
from load import Load, under_load


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    # Three of each: a poison request takes two along, and one must be left for the others.
    with fleet(tmp_path_factory.mktemp("computing"), replicas=3, limit="1s") as made:
        yield made


def asked(port, number, **more):
    """Status, and the answer or the code of the error."""
    body = json.dumps({"n": number, **more}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/inference", data=body)
    try:
        with urllib.request.urlopen(request, timeout=60.0) as got:
            return got.status, json.loads(got.read())["n"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())["error"]["code"]


def deed(shared, unharmed, what, wanted, **more):
    """One request does harm under load; the load hears nothing of it."""
    with under_load(shared, unharmed, what) as load, ThreadPoolExecutor(1) as pool:
        culprit = pool.submit(asked, shared.port, 3, **more)
        load.run(2.0)
        got = culprit.result()
    assert got in wanted, got


@pytest.mark.parametrize("stage", ["first", pytest.param("second", marks=pytest.mark.chaos)])
def test_a_forward_that_hangs_in_python(shared, unharmed, stage):
    what = f"a forward of `{stage}` that hangs in Python"
    deed(shared, unharmed, what, [(504, "forward_timeout")], at=stage, deed="hang")


@pytest.mark.chaos
def test_a_forward_that_hangs_in_c(shared, unharmed):
    wanted = [(504, "forward_timeout"), (500, "poison_request"), (502, "lost")]
    deed(shared, unharmed, "a forward that hangs in C", wanted, at="first", deed="deaf")


def test_a_poison_request(shared, unharmed):
    wanted = [(500, "poison_request")]
    deed(shared, unharmed, "a request that kills its process", wanted, at="second", deed="poison")


@pytest.mark.chaos
def test_a_forward_that_takes_a_hundred_times_as_long(shared, unharmed):
    wanted = [(200, answer(3))]
    more = {"at": "second", "deed": "sleep", "seconds": 0.5}
    deed(shared, unharmed, "a forward of 0.5 s among those of 5 ms", wanted, **more)


@pytest.mark.chaos
def test_the_interpreters_lock_held_for_six_seconds_kills_nobody(tmp_path, unharmed):
    with fleet(tmp_path) as made, Load([made.port]) as load:
        load.warm()
        pids = sorted(made.pids("first") + made.pids("second"))
        with ThreadPoolExecutor(1) as pool:
            more = {"at": "first", "deed": "hold", "seconds": 6.0}
            culprit = pool.submit(asked, made.port, 3, **more)
            load.run(7.0)
            assert culprit.result() == (200, answer(3))
        made.until_whole()
        assert sorted(made.pids("first") + made.pids("second")) == pids
        load.run(0.5)
        load.stop()
        unharmed("the interpreter's lock held for 6 s", made, load)


@pytest.mark.chaos
def test_batch_mates_of_a_poison_request_are_unharmed(shared):
    items = [{}] * 7 + [{"at": "first", "deed": "poison"}] + [{}] * 8
    with ThreadPoolExecutor(len(items)) as pool:
        got = list(pool.map(lambda n: asked(shared.port, n, **items[n]), range(len(items))))
    wanted = [(200, answer(n)) for n in range(len(items))]
    wanted[7] = (500, "poison_request")
    assert got == wanted
    shared.until_whole()
