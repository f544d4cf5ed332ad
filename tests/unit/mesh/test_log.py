"""Log lines: for people on a terminal, for machines anywhere else."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from mesh import log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The loggers as they were, for other tests."""
    loggers = [log.get_logger(), *map(logging.getLogger, ("asyncio", "tornado"))]
    before = [(one.level, one.propagate, list(one.handlers)) for one in loggers]
    yield
    for one, was in zip(loggers, before, strict=True):
        one.level, one.propagate, one.handlers = was


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
