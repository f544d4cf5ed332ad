"""Crashes and hangs of real replicas, and what their supervisor tells the gateway of them."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from site_runs import running

from mesh import Client

SERVICE = '''
import ctypes
import os
import re
import time

from mesh import Worker


class Fragile(Worker):
    """An item may crash the process, hold the interpreter's lock for ever, or wait for mates."""

    def forward(self, items):
        if "mate" in items:
            time.sleep(0.05)
        if "poison" in items:
            os.abort()
        if "hang" in items:
            re.match(r"(a+)+$", "a" * 60 + "b")  # years, in C, holding the lock
        return items
'''
FILE = """
[gateway]
timeout = "20s"

[stages.fragile]
worker = "service:Fragile"
replicas = 2
max_batch_size = 8
max_wait_time = "50ms"
timeout = "1s"
kill_grace = "0.2s"

[routes]
"/inference" = ["fragile"]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running(tmp_path_factory.mktemp("fragile"), SERVICE, FILE) as site:
        yield site


def asked(site, item):
    """The answer, or the code of the error."""
    with Client(site.url, timeout=30.0) as client:
        try:
            return client.infer(item)
        except Exception as error:  # noqa: BLE001 - whichever it is
            return getattr(error, "code", repr(error))


def test_a_poison_request_is_given_up_and_its_mates_are_unharmed(site):
    items = [*["mate"] * 7, "poison", *["mate"] * 7]
    with ThreadPoolExecutor(len(items)) as pool:
        answers = list(pool.map(lambda item: asked(site, item), items))
    wanted = ["poison_request" if item == "poison" else "mate" for item in items]
    assert answers == wanted, site.log()
    assert site.metric("mesh_deaths_total", cause="signal") == 2


def test_a_replica_that_holds_the_interpreters_lock_is_killed_by_its_supervisor(site):
    with ThreadPoolExecutor(2) as pool:
        hangs = pool.submit(asked, site, "hang")
        assert asked(site, "mate") == "mate"
        assert hangs.result() in ("poison_request", "forward_timeout")
    assert "and is killed" in site.log()
