"""A service that may fail: run by `mesh up`, with its log taken apart."""

import contextlib
import json
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

from example_runs import MESH, environment, free_port, wait_ready

from mesh import Client

PATIENCE = 60.0


class Service:
    """A service whose log may have tracebacks.

    Attributes:
        process: of `mesh up`.
        port: of HTTP.
    """

    def __init__(self, folder, service, file, *arguments):
        (folder / "service.py").write_text(service)
        (folder / "mesh.toml").write_text(file)
        self.port, self.folder = free_port(), folder
        self._log = folder / "log"
        with self._log.open("wb") as out:
            self.process = subprocess.Popen(
                [MESH, "up", *arguments],
                cwd=folder,
                env=environment(self.port),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def text(self):
        return self._log.read_text()

    def records(self):
        """The log's lines, each as its fields."""
        found = []
        for line in self.text().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def messages(self, containing=""):
        return [one["message"] for one in self.records() if containing in one["message"]]

    def until(self, true, what):
        end = time.monotonic() + PATIENCE
        while not (found := true()):
            assert time.monotonic() < end, f"{what}\n{self.text()}"
            threading.Event().wait(0.02)
        return found

    def ask(self, value, request_id=None, path="/inference"):
        """Status, answer and its headers."""
        headers = {} if request_id is None else {"X-Request-ID": request_id}
        asked = urllib.request.Request(self.url + path, json.dumps(value).encode(), headers)
        try:
            with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
                return answer.status, json.load(answer), answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)["error"], error.headers


@contextlib.contextmanager
def serving(folder, service, file, *arguments):
    running = Service(folder, service, file, *arguments)
    try:
        with Client(running.url, timeout=PATIENCE) as client:
            wait_ready(client, running.process, folder / "log")
        yield running
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(PATIENCE) == 0, running.text()
    finally:
        running.process.kill()
        running.process.wait()


def refused(folder, service, file):
    """Exit code and log of a service that cannot be started."""
    running = Service(folder, service, file)
    try:
        code = running.process.wait(PATIENCE)
    finally:
        running.process.kill()
        running.process.wait()
    return code, running
