"""Replicas that reach no gateway, as those see it who started them."""

import contextlib
import json
import shutil
import threading
from datetime import datetime
from itertools import pairwise

import pytest
from site_runs import Site, running, service_text, settings, stage

from benchmarks.ports import free_port
from mesh.transport.curve import draw_pair, generate, table_of, write_pair

STAGES = {"first": stage("Echo", replicas=2), "second": "Echo"}
UNREACHED = "no gateway is reached"
MET = "connected with the gateway at"


def described(port, name="mesh", **more):
    bind = f"tcp://127.0.0.1:{port}"
    return settings(STAGES, top={"name": name}, bind=bind, insecure=True, **more)


class Log:
    """The log of a part."""

    def __init__(self, site):
        self._site = site

    def lines(self, part):
        """Those lines that contain this, whole records of JSON."""
        lines = self._site.log().splitlines(keepends=True)
        return [json.loads(line) for line in lines if part in line and line.endswith("\n")]

    def until(self, part, count=1):
        self._site.until(lambda: len(self.lines(part)) >= count, part)
        return self.lines(part)


class Place:
    """A folder with a service, of which each part is started in a folder below."""

    def __init__(self, folder, port, name="mesh", **more):
        self.folder, self.file, self.started = folder, described(port, name, **more), 0

    @contextlib.contextmanager
    def run(self, *command):
        """Run a command of mesh; yields its log. It must end in order, when told to."""
        self.started += 1
        folder = self.folder / f"part{self.started}"
        folder.mkdir(parents=True)
        site = Site(folder, service_text("echo"), self.file)
        with contextlib.closing(site):
            site.mesh(*command)
            yield Log(site)
            site.end()
            assert "Traceback" not in site.log(), site.log()


def said(record):
    return next(value for value in record.values() if UNREACHED in str(value))


def test_replicas_that_come_before_their_gateway_say_so_and_when_it_is_there(tmp_path):
    port = free_port()
    place = Place(tmp_path, port)
    with place.run("stage", "first") as log:
        line = log.until(UNREACHED)[0]
        assert f"tcp://127.0.0.1:{port}: connection refused" in said(line)
        threading.Event().wait(2.0)
        with place.run("gateway"):
            log.until(f"{MET} tcp://127.0.0.1:{port}")
            before = len(log.lines(UNREACHED))
        log.until(UNREACHED, before + 1)
        with place.run("gateway"):
            log.until(MET, 2)
    times = [datetime.fromisoformat(line["time"]) for line in log.lines(UNREACHED)]
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    assert gaps
    assert min(gaps) > 9.9


def test_where_the_gateway_is_there_it_is_said_once(tmp_path):
    place = Place(tmp_path, free_port())
    with place.run("gateway") as gateway:
        gateway.until("serves")
        with place.run("stage", "first") as log:
            log.until("every replica")
            log.until(MET)
            assert not log.lines(UNREACHED)


def test_an_ordinary_start_says_nothing_of_it(tmp_path):
    with running(tmp_path, service_text("echo"), described(free_port())) as site:
        threading.Event().wait(1.5)
    assert UNREACHED not in site.log()
    assert MET not in site.log()


def test_the_port_of_http_is_not_that_of_the_mesh(tmp_path):
    place, http = Place(tmp_path, free_port()), free_port()
    with place.run("gateway", "--http", f"127.0.0.1:{http}") as gateway:
        gateway.until("serves")
        with place.run("stage", "first", "--gateway", f"tcp://127.0.0.1:{http}") as log:
            [line] = log.until(UNREACHED)
            assert f"tcp://127.0.0.1:{http}: HTTP is spoken there" in said(line)


def test_a_name_that_nobody_knows(tmp_path):
    place = Place(tmp_path, free_port())
    with place.run("stage", "first", "--gateway", "tcp://no-gateway.invalid:7000") as log:
        log.until("no address is known for the name no-gateway.invalid")


def test_another_mesh(tmp_path):
    port = free_port()
    with Place(tmp_path / "a", port, "ours").run("gateway") as gateway:
        gateway.until("serves")
        with Place(tmp_path / "b", port, "theirs").run("stage", "first") as log:
            log.until(f"tcp://127.0.0.1:{port}: this is mesh 'ours', not 'theirs'")


@pytest.mark.parametrize(
    ("ours", "theirs", "reason", "refused"),
    [
        ("a", "b", "it refuses our keys", "a process that expects another key than ours there"),
        ("a", "", "it demands keys", "a process without keys; copy that host's"),
        ("", "b", "it has no keys", "a process with keys, but this process has none"),
    ],
)
def test_keys_that_do_not_fit(tmp_path, ours, theirs, reason, refused):
    port = free_port()
    for name in filter(None, (ours, theirs)):
        generate(tmp_path / name, [])
    more = [{"keys": str(tmp_path / name)} if name else {} for name in (ours, theirs)]
    with Place(tmp_path / "host", port, **more[0]).run("gateway") as gateway:
        gateway.until("serves")
        with Place(tmp_path / "other", port, **more[1]).run("stage", "first") as log:
            [line] = log.until(UNREACHED)
            assert f"tcp://127.0.0.1:{port}: {reason}" in said(line)
            gateway.until(f"refused at tcp://127.0.0.1:{port}: {refused}")


def test_replicas_that_are_refused_although_their_host_is_let_in(tmp_path):
    port = free_port()
    generate(tmp_path / "keys", ["second"])
    (tmp_path / "keys/stage-first.key").write_bytes(
        (tmp_path / "keys/stage-second.key").read_bytes()
    )
    (tmp_path / "keys/stage-first.key").chmod(0o600)
    place = Place(tmp_path, port, keys=str(tmp_path / "keys"))
    with place.run("gateway") as gateway:
        gateway.until("serves")
        with place.run("stage", "first") as log:
            log.until(f"the gateway at tcp://127.0.0.1:{port} refuses the replicas of first")
            assert not log.lines(UNREACHED)


def test_replicas_whose_key_the_gateway_does_not_know_although_their_host_is_let_in(tmp_path):
    """They are connected with nobody and told nothing: their host finds out, and says so."""
    port, own = free_port(), tmp_path / "own"
    generate(tmp_path / "keys", ["second"])
    shutil.copytree(tmp_path / "keys", own)
    pair = draw_pair()  # of which the gateway has never heard
    write_pair(own / "stage-first.key", pair)
    with (own / "allowed.toml").open("a") as listed:
        listed.write(table_of("stage", pair, "first"))
    gateways = Place(tmp_path / "host", port, keys=str(tmp_path / "keys"))
    with gateways.run("gateway") as gateway:
        gateway.until("serves")
        place = Place(tmp_path / "other", port, keys=str(own))
        with place.run("stage", "first") as log, place.run("stage", "second") as well:
            text = f"the gateway at tcp://127.0.0.1:{port} refuses the replicas of first"
            log.until(f"{text}: it does not take their key")
            gateway.until("which is not allowed")
            threading.Event().wait(12.0)
            assert len(log.lines(text)) == 1
            assert not log.lines(UNREACHED)
            assert not well.lines("refuses the replicas")
