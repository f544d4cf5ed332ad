"""A start that does not end is ended, and says where it was."""

import threading
import time

from mesh.process.parent_link import ParentLink
from mesh.process.start_watch import StartWatch, process_age


class Told(ParentLink):
    """Remembers what would have been told to a parent."""

    def __init__(self):
        super().__init__(None, None)
        self.why = []

    def failed(self, why):
        self.why.append(why)


def test_a_start_that_takes_too_long_is_ended_and_named(caplog):
    parent_link, over = Told(), threading.Event()
    watch = StartWatch(process_age() + 0.1, parent_link, over.set)
    watch.begin()
    assert over.wait(60)  # as a model's constructor that does not return
    watch.end()
    parent_link.close()
    (why,) = parent_link.why
    assert "(start_timeout); it was in test_a_start_that_takes_too_long_is_ended_and_named" in why
    assert "(test_start_watch.py:" in why
    assert "test_start_watch.py" in caplog.text


def test_whoever_is_ready_or_has_failed_is_left_alone():
    for settle in (lambda one, _: one.ready(7), lambda _, watch: watch.end()):
        parent_link = Told()
        watch = StartWatch(process_age() + 1000.0, parent_link, lambda: None)
        watch.begin()
        settle(parent_link, watch)
        watch.end()
        parent_link.close()
        assert parent_link.why == []


def test_a_processs_age_is_that_of_the_process():
    before = process_age()
    began = time.monotonic()
    assert before > 0.0
    assert process_age() - before <= time.monotonic() - began + 0.02


def test_a_faked_clock_ages_no_process(monkeypatch):
    """As libfaketime fakes it, which shifts all clocks that a process asks for by name."""
    before = process_age()
    monkeypatch.setattr("time.clock_gettime", lambda clock: 1e9)
    assert before <= process_age() < before + 60
