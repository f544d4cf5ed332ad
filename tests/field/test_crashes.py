"""A replica that dies without a word of its own: where it was, and over which requests."""

import re

import pytest
from site_runs import refused, running, service_text, settings, stage

SERVICE = service_text("frail")
FRAIL = stage("Frail", timeout="1s", kill_grace="0.2s")
FILE = settings({"frail": FRAIL}, timeout="30s", restart_grace="30s")
BROKEN = settings({"frail": FRAIL | {"env": [{"BREAKS": "{}"}]}}, restart_grace="30s")
CRASHED = "frail/1 crashed"


@pytest.fixture
def site(tmp_path):
    with running(
        tmp_path, SERVICE, FILE, ours=True
    ) as service:  # for each: who dies often waits longer
        yield service


@pytest.mark.parametrize(("word", "number"), [("crash", 11), ("abort", 6)])
def test_a_native_crash_shows_where_it_was_and_over_which_request(site, word, number):
    site.ask(word, f"the-{word}")
    site.until(lambda: site.messages(f"killed by signal {number} "), "nothing was said")
    (end, *_) = site.messages(f"killed by signal {number} ")
    assert f"frail/1 was killed by signal {number} while computing request the-{word}; " in end
    crashed = [one for one in site.messages(CRASHED) if f"in {word}" in one or word == "abort"]
    assert re.search(r'File ".+/service.py", line \d+ in forward', crashed[-1]), site.log()
    assert "stage/runner.py" not in crashed[-1]
    if word == "crash":  # the innermost last, as in a traceback
        assert re.search(r'in forward\n  File ".+/service.py", line \d+ in crash\n', crashed[-1])


def test_a_process_that_leaves_says_over_which_request(site):
    site.ask("leave", "the-leaver")
    said = "frail/1 exited with code 9 while computing request the-leaver; restart in"
    site.until(lambda: site.messages(said), "nothing was said")


def test_a_forward_that_swallows_its_timeout_is_shown_with_its_request(site):
    site.ask("deaf", "the-deaf")
    (told, *_) = site.until(lambda: site.messages("ignores its timeout"), "nothing was said")
    assert "terminating this replica (request the-deaf); it is here:\n" in told
    assert "time.sleep(60)" in told
    assert "stage/runner.py" not in told
    records = [one for one in site.records() if "ignores its timeout" in one["message"]]
    assert records[0]["ids"] == ["the-deaf"]


def test_a_replica_that_is_killed_for_holding_the_interpreters_lock_is_named(site):
    site.ask("hold", "the-holder")
    site.until(lambda: site.messages("and is killed"), "nothing was said")
    (told, *_) = site.messages("and is killed")
    assert re.search(r"computes one batch for [\d.]+ s and is killed \(request the-holder\)", told)


@pytest.mark.parametrize(
    ("breaks", "where"),
    [
        ("constructor", "in Frail.__init__"),
        ("crash", "in example 2 of 2"),
    ],
)
def test_a_crash_while_starting_says_in_which_step_and_line(tmp_path, breaks, where):
    code, service = refused(tmp_path, SERVICE, BROKEN.replace("{}", breaks))
    assert code == 3
    (why,) = service.messages("the service could not be started: ")
    assert f"frail/1 was killed by signal 11 while starting, {where}" in why
    assert re.search(r'service.py", line \d+ in crash', service.messages(CRASHED)[0])


def test_an_import_that_crashes_is_named(tmp_path):
    crashing = SERVICE.replace("class Frail", "crash()\n\nclass Frail")
    code, service = refused(tmp_path, crashing, FILE)
    assert code == 3
    (why,) = service.messages("the service could not be started: ")
    assert "was killed by signal 11 while starting, importing service:Frail" in why
