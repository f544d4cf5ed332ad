"""Log lines: for people on a terminal, for machines anywhere else."""

import io
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh import log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise ValueError("I/O operation on closed file")


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Loggers and streams as they were, for other tests."""
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    monkeypatch.setattr(logging, "basicConfig", logging.basicConfig)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(log, "_log", log._Log())
    yield
    log.reset()
    root.level, root.handlers = before


def test_machines_get_one_object_per_line() -> None:
    stream = io.StringIO()
    log.configure("info", "embed/1", stream)
    log.get_logger().info("loaded %d – ready", 3)
    log.get_logger().debug("not said")
    line = json.loads(stream.getvalue())
    assert line["time"].endswith("Z")
    assert {key: line[key] for key in ("level", "source", "message")} == {
        "level": "info",
        "source": "embed/1",
        "message": "loaded 3 – ready",
    }
    assert "traceback" not in line


def test_people_get_text() -> None:
    stream = Terminal()
    log.configure("debug", "gateway", stream)
    log.get_logger().debug("listening")
    log.get_logger().warning("slow")
    calm, coloured = stream.getvalue().splitlines()
    assert calm[8:].split() == ["debug", "gateway", "listening"]
    assert "\033[33mwarning\033[0m gateway" in coloured


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_a_format_may_be_asked_for(stream: io.StringIO) -> None:
    for form in ("json", "text"):
        log.configure("info", "gateway", stream, form)
        log.get_logger().info("hello")
    first, second = stream.getvalue().splitlines()
    assert json.loads(first)["message"] == "hello"
    assert second[8:] == " info    gateway    hello"


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_a_traceback_comes_along(stream: io.StringIO) -> None:
    log.configure("info", "embed/1", stream)
    try:
        raise ValueError("no such label")
    except ValueError:
        log.get_logger().exception("the worker failed")
    text = stream.getvalue()
    assert "the worker failed" in text
    assert "ValueError: no such label" in text
    if not stream.isatty():
        assert "\n" not in text.rstrip("\n")


def test_configuring_again_replaces() -> None:
    first, second = io.StringIO(), io.StringIO()
    log.configure("info", "a", first)
    log.configure("error", "b", second)
    log.get_logger().warning("too low")
    log.get_logger().error("heard once")
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1
    assert log.get_logger() is log.get_logger()


def test_complaints_of_the_event_loop_have_the_same_form() -> None:
    stream = io.StringIO()
    log.configure("error", "gateway", stream)
    logging.getLogger("asyncio").warning("slow")
    assert json.loads(stream.getvalue())["message"] == "slow"


def test_a_stream_that_is_closed_is_no_trouble() -> None:
    log.configure("info", "a", Closed())
    log.get_logger().info("to nobody")


def test_there_may_be_no_stderr_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    log.configure("info", "a")
    log.get_logger().info("to nobody")
    log.take_over()
    assert sys.stderr is None
    log.reset()


def test_unconfigured_it_is_like_any_other(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "mesh")
    log.get_logger().info("seen by whoever looks at logging")
    assert caplog.messages == ["seen by whoever looks at logging"]


def test_who_writes_many_records_needs_no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log.get_output().emit("info", "hello", {"a": 5})
    assert json.loads(stream.getvalue())["a"] == 5


# Streams and loggers that a worker uses, with files of a test in place of stdout and stderr.


class Files:
    """What is written where, while the test is inside."""

    def __init__(self, folder: Path) -> None:
        self.out, self.err = folder / "out", folder / "err"

    def __enter__(self) -> None:
        self._before = sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__
        self._open = self.out.open("w"), self.err.open("w")
        sys.stdout, sys.stderr = self._open

    def __exit__(self, *_: object) -> None:
        log.reset()
        sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__ = self._before  # type: ignore[misc]
        for file in self._open:
            file.close()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


say = print


def test_prints_are_records(files: Files) -> None:
    with files:
        log.configure("info", "embed/1")
        log.take_over()
        log.name_requests(lambda: ["a-1"])
        say("hello")
        say("begun", end="")
        say("careful", file=sys.stderr)
        say("put back", file=sys.__stdout__)
        log._end()
    out, err = (
        [json.loads(line) for line in file.read_text().splitlines()]
        for file in (files.out, files.err)
    )
    assert [line["message"] for line in out] == ["hello", "begunput back"]
    assert [(line["message"], line["stream"], line["ids"]) for line in err] == [
        ("careful", "stderr", ["a-1"])
    ]


def test_in_text_they_are_as_they_are(files: Files) -> None:
    with files:
        log.configure("info", "embed/1", form="text")
        log.take_over()
        say("hello\n\rthere")
    assert files.out.read_bytes() == b"hello\n\rthere\n"


def test_what_a_script_prints_where_its_log_goes_waits_for_nobody(files: Files) -> None:
    with files:
        sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr  # type: ignore[misc]
        log.configure("info", "server")
        log.print_without_waiting()
        stderr = sys.stderr
        assert type(stderr).__name__ == "Printed"
        log.configure("info", "server")  # a second service: the streams stay
        log.print_without_waiting()
        assert sys.stderr is stderr
        say("hello", file=sys.stderr)
        log.get_logger().info("a record")
        stderr.lines._deliver.__self__.close()  # type: ignore[union-attr]  # which nobody else does
    hello, record = files.err.read_text().splitlines()
    assert (hello, json.loads(record)["message"]) == ("hello", "a record")


def test_streams_of_a_notebook_are_left_alone(files: Files) -> None:
    with files:
        log.configure("info", "server")
        before = sys.stdout, sys.stderr
        log.print_without_waiting()
        assert (sys.stdout, sys.stderr) == before


def test_what_a_child_prints_is_its_own(files: Files) -> None:
    with files:
        log.configure("info", "embed/1")
        log.take_over()
        say("parent", end="")
        child = os.fork()
        if not child:
            say("child")
            os._exit(0)
        os.waitpid(child, 0)
        say()
    said = [json.loads(line)["message"] for line in files.out.read_text().splitlines()]
    assert said == ["child", "parent"]


def test_a_workers_loggers_are_in_our_form_and_level(files: Files) -> None:
    with files:
        log.configure("warning", "embed/1")
        log.serve_worker()
        logging.getLogger("service").warning("careful")
        logging.getLogger("service").info("not wanted")
        logging.getLogger("asyncio").warning("slow")
    said = [json.loads(line) for line in files.err.read_text().splitlines()]
    assert [(line["logger"], line["message"]) for line in said] == [
        ("service", "careful"),
        ("asyncio", "slow"),
    ]


def test_basic_config_does_what_it_says(files: Files) -> None:
    with files:
        log.configure("info", "embed/1")
        log.serve_worker()
        logging.basicConfig()  # as `logging.info` calls it: nothing is asked for
        logging.basicConfig(level="DEBUG")
        logging.getLogger("service").debug("in our form")
        stream = io.StringIO()
        logging.basicConfig(format="MINE %(message)s", stream=stream)
        logging.getLogger("service").debug("in his form")
        log.get_logger().info("ours")
    said = [json.loads(line)["message"] for line in files.err.read_text().splitlines()]
    assert said == ["in our form", "ours"]
    assert stream.getvalue() == "MINE in his form\n"


def test_a_thread_that_fails_is_one_record(files: Files) -> None:
    def fail(kind: type[BaseException]) -> None:
        raise kind("no")

    with files:
        log.configure("info", "embed/1")
        log.serve_worker()
        for kind in (ValueError, SystemExit):
            thread = threading.Thread(target=fail, args=(kind,), name="loader")
            thread.start()
            thread.join()
    (line,) = [json.loads(line) for line in files.err.read_text().splitlines()]
    assert (line["level"], line["message"]) == ("error", "the thread loader failed: ValueError")
    assert line["traceback"].endswith("ValueError: no")


def test_what_was_dropped_is_a_warning(files: Files) -> None:
    with files:
        log.configure("info", "embed/1")
        one, many = log._notice(1, "the log was not read"), log._notice(2, "the log was not read")
        assert json.loads(one)["message"] == "1 log line was dropped while the log was not read"
        assert json.loads(many)["message"] == "2 log lines were dropped while the log was not read"
        assert json.loads(many)["level"] == "warning"


def test_two_descriptors_of_one_pipe_are_one() -> None:
    read, write = os.pipe()
    second = os.dup(write)
    assert log._is_same(write, second)
    os.close(second)
    os.close(read)
    os.close(write)
    assert not log._is_same(write, second)
