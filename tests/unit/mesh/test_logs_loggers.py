"""Our loggers: nothing that a worker configures silences them, nothing that it logs breaks them."""

import copy
import json
import logging
import logging.config
from collections.abc import Iterator
from typing import Any

import pytest

from mesh.logs.loggers import SAID, Output, OwnLogger, Sink, colour_wanted, get_logger


class Kept:
    """A target that keeps what it is given."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, line: bytes, /) -> None:
        self.lines.append(line)

    def close(self) -> None: ...


class Rude:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def output(kept: Kept) -> Output:
    return Output(kept, "embed/1", as_json=True, coloured=False)


@pytest.fixture
def ours(output: Output) -> OwnLogger:
    logger = OwnLogger("mesh", logging.INFO)
    logger.handlers = [Sink(output, ours=True)]
    logger.propagate = False
    return logger


@pytest.fixture
def theirs(output: Output) -> Iterator[logging.Logger]:
    logger = logging.getLogger("a_users")
    before = logger.handlers, logger.propagate, logger.level
    logger.handlers, logger.propagate = [Sink(output, ours=False)], False
    logger.setLevel(logging.INFO)
    yield logger
    logger.handlers, logger.propagate, logger.level = before


def said(kept: Kept) -> list[dict[str, Any]]:
    return [json.loads(line) for line in kept.lines]


def test_nothing_silences_it(ours: OwnLogger, kept: Kept) -> None:
    ours.disabled = True
    logging.disable(logging.CRITICAL)
    try:
        ours.info("heard")
        ours.debug("not wanted")
    finally:
        logging.disable(logging.NOTSET)
    for sink in ours.handlers:
        sink.close()
    ours.info("and again")
    assert [line["message"] for line in said(kept)] == ["heard", "and again"]


def test_it_is_in_no_list_that_others_go_through(ours: OwnLogger) -> None:
    assert get_logger() not in logging.Logger.manager.loggerDict.values()
    assert ours.handlers[0] not in [reference() for reference in logging._handlerList]  # type: ignore[attr-defined]


def test_filters_count(ours: OwnLogger, kept: Kept) -> None:
    ours.addFilter(lambda record: "secret" not in record.getMessage())
    ours.info("a secret")
    ours.info("no such thing")
    ours.handlers[0].addFilter(lambda record: False)
    ours.info("nothing at all")
    assert len(kept.lines) == 1


def test_what_others_hang_into_logging_does_not_break_it(ours: OwnLogger, kept: Kept) -> None:
    def fails(*_: object, **__: object) -> Any:
        raise RuntimeError("planted")

    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(fails)
    try:
        ours.info("first", extra={"name": "a", "labels": 3})
    finally:
        logging.setLogRecordFactory(before)
    ours.addFilter(fails)
    ours.info("second")
    handler = logging.StreamHandler()
    handler.emit = fails  # type: ignore[method-assign]
    ours.addHandler(handler)
    ours.info("third")
    records = [json.loads(line) for line in kept.lines]
    assert [one["message"] for one in records] == ["first", "second", "third"]
    assert (records[0]["labels"], records[0]["name_"]) == (3, "a")


def test_a_child_and_a_copy_are_ours_too(ours: OwnLogger, kept: Kept) -> None:
    child = ours.getChild("inner")
    child.info("heard")
    child.debug("not wanted")
    assert [line["message"] for line in said(kept)] == ["heard"]
    assert copy.deepcopy({"log": get_logger()})["log"] is get_logger()


def test_a_users_record_has_its_name_and_fields(theirs: logging.Logger, kept: Kept) -> None:
    theirs.warning("loaded %d", 3, extra={"labels": 3})
    logging.getLogger("a_users").handlers[0].handle(
        logging.LogRecord("root", logging.INFO, "f", 1, "of the root", None, None)
    )
    first, second = said(kept)
    assert (first["level"], first["logger"], first["labels"]) == ("warning", "a_users", 3)
    assert "logger" not in second


@pytest.mark.parametrize(
    ("message", "arguments", "shown"),
    [
        ("%d labels", ("x",), "%d labels ('x',) (cannot be formatted: TypeError)"),
        ("%s", (Rude(),), "a str (cannot be formatted: RuntimeError)"),
        (Rude(), (), "a Rude (cannot be formatted: RuntimeError)"),
    ],
)
def test_what_cannot_be_formatted_is_one_line(
    ours: OwnLogger, kept: Kept, message: str, arguments: tuple[object, ...], shown: str
) -> None:
    ours.info(message, *arguments)
    assert [line["message"] for line in said(kept)] == [shown]


def test_tracebacks_and_stacks(ours: OwnLogger, kept: Kept) -> None:
    try:
        raise ValueError(Rude())
    except ValueError:
        ours.exception("failed")
    ours.info("here", stack_info=True)
    first, second = said(kept)
    assert "ValueError" in first["traceback"]
    assert second["traceback"].startswith("Stack (most recent call last)")


def test_a_traceback_that_cannot_be_shown(
    ours: OwnLogger, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: object, _info: object) -> str:
        raise RecursionError

    monkeypatch.setattr(logging.Formatter, "formatException", fail)
    ours.error("failed", exc_info=ValueError("x"))
    assert said(kept)[0]["traceback"] == "<class 'ValueError'>"


def test_requests_are_named_while_they_are_computed(
    ours: OwnLogger, theirs: logging.Logger, output: Output, kept: Kept
) -> None:
    output.requests = lambda: ["a-1", "a-2"]
    ours.info("ours")
    theirs.info("theirs")
    record = ours.makeRecord("mesh", logging.INFO, "f", 1, "of another thread", (), None)
    record.thread = 0
    ours.handle(record)
    theirs.info("its own", extra={"ids": ["b-1"]})
    output.requests = lambda: [][0]  # a batch that ends just then
    theirs.info("none")
    assert [line.get("ids") for line in said(kept)] == [
        ["a-1", "a-2"],
        ["a-1", "a-2"],
        None,
        ["b-1"],
        None,
    ]


def test_text_has_no_milliseconds(kept: Kept) -> None:
    output = Output(kept, "embed/1", as_json=False, coloured=False)
    output.emit("info", "hello", {})
    kept.write(output.notice("lines were dropped"))
    assert [line[8:] for line in kept.lines] == [
        b" info    embed/1    hello\n",
        b" warning embed/1    lines were dropped\n",
    ]


def test_text_does_not_repeat_what_a_message_says(kept: Kept) -> None:
    for as_json in (False, True):
        logger = OwnLogger("mesh", logging.INFO)
        output = Output(kept, "gateway", as_json=as_json, coloured=False)
        output.requests = lambda: ["a-7"]
        logger.handlers = [Sink(output, ours=True)]
        logger.error("request a-7: 500", extra={"status": 500, SAID: True})
    text, record = kept.lines
    assert text.endswith(b"request a-7: 500\n")
    shown = json.loads(record)
    assert (shown["status"], SAID in shown) == (500, False)


def test_colours_are_for_terminals_and_for_who_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert (colour_wanted(True), colour_wanted(False)) == (True, False)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colour_wanted(True)
