"""One `Client` for many threads, while replicas die: each answer belongs to its question."""

import contextlib
import os
import signal
import threading
from time import monotonic

from site_runs import PATIENCE, running, service_text, settings, stage

from mesh.errors import MeshError

FILE = settings({"echo": stage("Echo", replicas=2, max_batch_size=8)})
THREADS = 32
SECONDS = 4.0
DEATHS = 4


class Asker(threading.Thread):
    """Asks one distinct question after another until it is told to end."""

    def __init__(self, client, number, over):
        super().__init__()
        self.client, self.number, self.over = client, number, over
        self.right = self.failed = 0
        self.wrong = []

    def run(self):
        count = 0
        while not self.over.is_set():
            count += 1
            self.ask(f"{self.number}-{count}-" + "x" * (count % 7))

    def ask(self, question):
        try:
            answer = self.client.infer(question)
        except MeshError:
            self.failed += 1
        except Exception as error:  # noqa: BLE001 - none but ours may come out
            self.wrong.append(repr(error))
        else:
            if answer == question:
                self.right += 1
            else:
                self.wrong.append((question, answer))


def replicas(site):
    """Process ids of those that the gateway knows."""
    return [one["pid"] for one in site.status()["replicas"]]


def kill_now_and_then(site):
    """Kill a replica, wait until there are two again, and so on."""
    end = monotonic() + SECONDS
    for _ in range(DEATHS):
        site.until(lambda: len(replicas(site)) == 2 or monotonic() > end, "no second replica")
        for pid in replicas(site)[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    threading.Event().wait(max(0.0, end - monotonic()))


def test_answers_reach_the_thread_that_asked(tmp_path):
    with running(tmp_path, service_text("echo"), FILE) as site, site.client() as client:
        over = threading.Event()
        askers = [Asker(client, number, over) for number in range(THREADS)]
        for asker in askers:
            asker.start()
        kill_now_and_then(site)
        over.set()
        for asker in askers:
            asker.join(PATIENCE)
        assert [one for asker in askers for one in asker.wrong] == []
        assert all(asker.right for asker in askers)
        assert "was killed by signal 9" in site.log()
