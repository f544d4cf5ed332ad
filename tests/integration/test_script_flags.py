"""What a script's flags do to the running service, and how it shows itself to people."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from example_runs import MESH, free_port, metric

from mesh import Client

PATIENCE = 40.0
WAIT = 300  # milliseconds
SERVICE = """
import time
from mesh import Server, Worker

class Nap(Worker):
    def forward(self, seconds):
        time.sleep(seconds)
        return seconds

class Gather(Worker):
    def forward(self, values):
        return values

if __name__ == "__main__":
    server = Server()
    server.append_worker(Nap)
    server.append_worker(Gather, max_batch_size=8)
    server.run()
"""
TEXT_LINE = r"\d\d:\d\d:\d\d (\x1b\[\d+m)?(debug|info|warning|error) *(\x1b\[0m)? +[a-z/0-9]+ +\S.*"


class Site:
    """A running script whose stderr is a terminal, and what it has written there."""

    def __init__(self, folder: Path, runs: Path, *flags: str) -> None:
        (folder / "service.py").write_text(SERVICE)
        self.runs, self.port = runs, free_port()
        command = [sys.executable, "service.py", "--port", str(self.port), "--path", str(runs)]
        ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*command, *flags], cwd=folder, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        self._terminal, self._shown = ours, b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                some = os.read(self._terminal, 65536)
            except OSError:  # the last process that had it is gone
                return
            self._shown += some

    def client(self, host: str) -> Client:
        return Client(f"http://{host}:{self.port}", timeout=PATIENCE)

    def stop(self) -> list[str]:
        """End it in order; returns the lines on the terminal."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(PATIENCE) == 0, self._shown.decode()
        self._reader.join()
        return self._shown.decode().replace("\r\n", "\n").splitlines()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        os.close(self._terminal)


@pytest.fixture
def runs() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="r") as folder:
        yield Path(folder) / "below"


def test_every_flag_of_a_script_does_what_it_says(tmp_path: Path, runs: Path) -> None:
    flags = (
        f"--address 127.0.0.2 --timeout 1500 --capacity 1 --max-request-size 1000 "
        f"--namespace shop --wait {WAIT} --debug --access-log"
    )
    site = Site(tmp_path, runs, *flags.split())
    try:
        with site.client("127.0.0.2") as client:
            client.wait_ready(PATIENCE)
            look_at(site, client)
        lines = site.stop()
    finally:
        site.close()
    assert list(runs.iterdir()) == []
    stacks = tuple(line for line in lines if line.startswith("  "))  # of what was interrupted
    assert [line for line in lines if not re.fullmatch(TEXT_LINE, line)] == [*stacks]
    text = "\n".join(lines)
    assert re.search(r" debug +server +nap/1 started as process \d+", text)
    assert re.search(r" info +gateway +POST /inference 200 \d+ bytes \d+\.\d\d ms [0-9a-f-]+", text)
    assert re.search(r"POST /inference 504 ", text)


def look_at(site: Site, client: Client) -> None:
    """Ask the running service for all that its flags set."""
    assert [folder.name.startswith("meshline-") for folder in runs_of(site)] == [True]
    with site.client("127.0.0.1") as elsewhere, pytest.raises(Exception, match="refused"):
        elsewhere.get("/health")
    answer = client.post("/inference", 0)
    assert answer.timings["gather-queue"] >= 0.9 * WAIT
    assert client.post("/inference", b"1" * 1001).status == 413
    with ThreadPoolExecutor(1) as pool, site.client("127.0.0.2") as other:
        asked = pool.submit(other.post, "/inference", 9)
        while not metric(client, "shop_inflight"):
            assert not asked.done()
        assert client.post("/inference", 0).status == 429
        assert asked.result(PATIENCE).status == 504
    assert metric(client, "shop_throughput_total", code="504") == 1
    shown = subprocess.run(
        [MESH, "status", "--url", client.url], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    at = shown.index("replicas")
    assert shown[at + 1].split()[:2] == ["stage", "replica"]
    assert {line.split()[0] for line in shown[at + 2 : at + 4]} == {"nap", "gather"}


def runs_of(site: Site) -> list[Path]:
    return list(site.runs.iterdir())


def test_a_higher_log_level_says_nothing_of_an_ordinary_life(tmp_path: Path, runs: Path) -> None:
    site = Site(tmp_path, runs, "--log-level", "error")
    try:
        with site.client("127.0.0.1") as client:
            client.wait_ready(PATIENCE)
        assert site.stop() == []
    finally:
        site.close()


def test_a_wrong_file_is_named_with_table_key_and_line(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text('[gateway]\n\ntimeout = "soon"\n')
    ran = subprocess.run(
        [MESH, "check", "-c", "shop.toml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "shop.toml, line 3: [gateway] timeout: " in ran.stderr
    assert "Traceback" not in ran.stderr
