"""Crashes and hangs of real replicas, and what their supervisor tells the gateway of them."""

from concurrent.futures import ThreadPoolExecutor

from site_runs import settings, shared_site, stage

from mesh import Client

FRAGILE = stage(
    "Fragile",
    replicas=2,
    max_batch_size=8,
    max_wait_time="50ms",
    timeout="1s",
    kill_grace="0.2s",
)
FILE = settings({"fragile": FRAGILE}, timeout="20s")
site = shared_site("fragile", FILE)


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
    # Its batch is halved until it is alone: of 8 there are 4, 2, 1, and it once more.
    assert 2 <= site.metric("mesh_deaths_total", cause="signal") <= 5


def test_a_replica_that_holds_the_interpreters_lock_is_killed_by_its_supervisor(site):
    with ThreadPoolExecutor(2) as pool:
        hangs = pool.submit(asked, site, "hang")
        assert asked(site, "mate") == "mate"
        assert hangs.result() in ("poison_request", "forward_timeout")
    assert "and is killed" in site.log()
