"""What a script's flags do to the running service, and how it shows itself to people."""

from __future__ import annotations

import os
import pty
import re
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from site_runs import MESH, PATIENCE, Site, metric, service_text

from mesh import Client

WAIT = 300  # milliseconds
TEXT_LINE = r"\d\d:\d\d:\d\d (\x1b\[\d+m)?(debug|info|warning|error) *(\x1b\[0m)? +[a-z/0-9]+ +\S.*"


class Shown(Site):
    """A running script whose stderr is a terminal, and what it has written there."""

    def __init__(self, folder: Path, *flags: str) -> None:
        super().__init__(folder, service_text("nap_gather"), MESH_GATEWAY_HTTP=None)
        self.own = self.runs / "below"
        ours, theirs = pty.openpty()
        self.script("--path", self.own, *flags, stdout=theirs, stderr=theirs)
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

    def log(self) -> str:
        return self._shown.decode().replace("\r\n", "\n")

    def at(self, host: str) -> Client:
        return Client(f"http://{host}:{self.port}", timeout=PATIENCE)

    def lines(self) -> list[str]:
        """End it in order; returns the lines on the terminal."""
        self.end(signal.SIGINT)
        self._reader.join()
        return self.log().splitlines()

    def close(self) -> None:
        super().close()
        self._reader.join()
        os.close(self._terminal)


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Callable[..., Shown]]:
    with ExitStack() as held:
        yield lambda *flags: held.enter_context(closing(Shown(tmp_path, *flags)))


def test_every_flag_of_a_script_does_what_it_says(shown: Callable[..., Shown]) -> None:
    flags = (
        f"--address 127.0.0.2 --timeout 1500 --capacity 1 --max-request-size 1000 "
        f"--namespace shop --wait {WAIT} --debug --access-log"
    )
    site = shown(*flags.split())
    with site.at("127.0.0.2") as client:
        client.wait_ready(PATIENCE)
        look_at(site, client)
    lines = site.lines()
    assert list(site.own.iterdir()) == []
    stacks = tuple(line for line in lines if line.startswith("  "))  # of what was interrupted
    assert [line for line in lines if not re.fullmatch(TEXT_LINE, line)] == [*stacks]
    text = "\n".join(lines)
    assert re.search(r" debug +server +nap/1 started as process \d+", text)
    assert re.search(r" info +gateway +POST /inference 200 \d+ bytes \d+\.\d\d ms [0-9a-f-]+", text)
    assert re.search(r"POST /inference 504 ", text)


def look_at(site: Shown, client: Client) -> None:
    """Ask the running service for all that its flags set."""
    assert [one.name.startswith("meshline-") for one in site.own.iterdir()] == [True]
    with site.at("127.0.0.1") as elsewhere, pytest.raises(Exception, match="refused"):
        elsewhere.get("/health")
    answer = client.post("/inference", 0)
    assert answer.timings["gather-queue"] >= 0.9 * WAIT
    assert client.post("/inference", b"1" * 1001).status == 413
    with ThreadPoolExecutor(1) as pool, site.at("127.0.0.2") as other:
        asked = pool.submit(other.post, "/inference", 9)
        while not metric(client, "shop_inflight"):
            assert not asked.done()
        assert client.post("/inference", 0).status == 429
        assert asked.result(PATIENCE).status == 504
    assert metric(client, "shop_throughput_total", code="504") == 1
    shown = site.run(MESH, "status", "--url", client.url).stdout.splitlines()
    at = shown.index("replicas")
    assert shown[at + 1].split()[:2] == ["stage", "replica"]
    assert {line.split()[0] for line in shown[at + 2 : at + 4]} == {"nap", "gather"}


def test_a_higher_log_level_says_nothing_of_an_ordinary_life(shown: Callable[..., Shown]) -> None:
    site = shown("--log-level", "error")
    site.wait_ready()
    assert site.lines() == []


def test_a_wrong_file_is_named_with_table_key_and_line(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text('[gateway]\n\ntimeout = "soon"\n')
    with closing(Site(tmp_path)) as site:
        ran = site.run(MESH, "check", "-c", "shop.toml")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "shop.toml, line 3: [gateway] timeout: " in ran.stderr
    assert "Traceback" not in ran.stderr
