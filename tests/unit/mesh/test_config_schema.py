"""How values of each kind are read from a file, a text and Python."""

from dataclasses import dataclass
from typing import Any

import pytest

from mesh.config import schema
from mesh.config.schema import (
    Choice,
    Duration,
    Endpoint,
    Endpoints,
    Environments,
    HttpAddress,
    Size,
    Switch,
    Text,
    Texts,
    ValueKind,
    Whole,
)

NAMES = Text(r"[a-z]+", "small letters")
LISTED = Texts("[a-z]+", "small letters")
LEVEL_WORDS = Choice(("debug", "info"), "level", {"20": "info"})
WORDS = Choice(("warning", "error"), "level", {"warn": "warning"})


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [
        (Duration(), "10ms", 0.01),
        (Size(), "1KiB", 1024),
        (Whole(1), 3, 3),
        (Whole(1, most=64), 64, 64),
        (Switch(), True, True),
        (NAMES, "abc", "abc"),
        (WORDS, "error", "error"),
        (WORDS, " WARN ", "warning"),
        (LISTED, [], ()),
        (LISTED, ["abc", "d"], ("abc", "d")),
        (HttpAddress(), "[::1]:80", "[::1]:80"),
        (HttpAddress(optional=True), "", ""),
        (HttpAddress(optional=True), "unix:/run/a.sock", "unix:/run/a.sock"),
        (HttpAddress(optional=True), "localhost:80", "localhost:80"),
        (Endpoint(), "tcp://*:0", "tcp://*:0"),
        (Endpoint(), "tcp://*:*", "tcp://*:*"),
        (Endpoint(), "ipc:///run/x.sock", "ipc:///run/x.sock"),
        (Endpoint(), "", ""),
        (Endpoints(), ["tcp://a:1", "tcp://b:2"], ("tcp://a:1", "tcp://b:2")),
        (Endpoints(), ["file:///run/gateways"], ("file:///run/gateways",)),
        (Environments(), [{"A": "1"}], ({"A": "1"},)),
    ],
)
def test_values_in_a_file(kind: ValueKind, value: object, kept: object) -> None:
    assert kind.read(value) == kept


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (Duration(), 10, "needs a unit and quotes"),
        (Duration(0.001), "0s", "at least 1ms"),
        (Size(), 1024, "needs a unit and quotes"),
        (Size(1024), "1B", "at least 1KiB"),
        (Whole(), "3", "whole number, not '3'"),
        (Whole(), True, "whole number, not True"),
        (Whole(1), 0, "at least 1, not 0"),
        (Whole(1, most=64), 65, "at most 64, not 65"),
        (Switch(), "yes", "true or false"),
        (NAMES, "Abc", "must be small letters, not 'Abc'"),
        (NAMES, 1, "must be small letters"),
        (WORDS, "loud", "must be one of warning, error, not 'loud'"),
        (WORDS, 1, "must be one of warning, error, not 1"),
        (LISTED, "abc", "must be a list, each of it small letters"),
        (LISTED, ["abc", "D"], "must be small letters, not 'D'"),
        (HttpAddress(), "", "must look like"),
        (HttpAddress(), "unix:/run/a.sock", "must look like"),
        (HttpAddress(optional=True), "unix:a.sock", "must look like"),
        (HttpAddress(), 8000, 'such as "127.0.0.1:8000"'),
        (HttpAddress(), "8000", "must look like"),
        (HttpAddress(), "host:http", "must look like"),
        (HttpAddress(), "host:99999", "must look like"),
        (HttpAddress(), "host:80/path", "must look like"),
        (HttpAddress(), "me@host:80", "must look like"),
        (Endpoint(), 7000, "must be a text"),
        (Endpoint(), "127.0.0.1:7000", "must be tcp://host:port or ipc:///path"),
        (Endpoint(), "tcp://:7000", "must look like"),
        (Endpoints(), "tcp://a:1", "must be a list of addresses"),
        (Endpoints(), ["a"], "must be tcp://"),
        (Endpoints(), ["file://here"], "must be tcp://"),
        (Environments(), {"A": "1"}, "one per replica"),
        (Environments(), [{}, "A=1"], "entry 2 must be a table"),
        (Environments(), [{"A": 1}], "entry 1: A must be a text, not 1"),
        (Environments(), [{1: "A"}], "entry 1"),
    ],
)
def test_wrong_values_in_a_file(kind: ValueKind, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kind.read(value)


@pytest.mark.parametrize(
    ("kind", "text", "kept"),
    [
        (LISTED, "abc, d,", ("abc", "d")),
        (Duration(), "3s", 3.0),
        (Size(), "10MiB", 10 * 2**20),
        (Whole(), " 12 ", 12),
        (Switch(), "Yes", True),
        (WORDS, "Error", "error"),
        (Switch(), "0", False),
        (NAMES, "abc", "abc"),
        (HttpAddress(), "0.0.0.0:80", "0.0.0.0:80"),
        (Endpoint(), " tcp://a:1 ", "tcp://a:1"),
        (Endpoints(), "tcp://a:1, tcp://b:2,", ("tcp://a:1", "tcp://b:2")),
    ],
)
def test_values_in_a_text(kind: ValueKind, text: str, kept: object) -> None:
    assert kind.parse(text) == kept


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        (Whole(), "1.5", "whole number"),
        (Switch(), "maybe", "true or false"),
        (Environments(), "A=1", "in mesh.toml and in Python only"),
    ],
)
def test_wrong_values_in_a_text(kind: ValueKind, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kind.parse(text)


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (Duration(), "3s", "a number of seconds"),
        (Duration(), True, "a number of seconds"),
        (Duration(), float("nan"), "at least 0s"),
        (Duration(), float("inf"), "at least"),
        (Size(), "1KiB", "a number of bytes"),
        (Size(), 1.5, "at least 1B"),
        (Size(), 0, "at least 1B, not 0"),
    ],
)
def test_wrong_values_in_python(kind: ValueKind, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        kind.check(value)


def test_python_values_are_in_our_units() -> None:
    assert (Duration().check(2), Size().check(1024.0)) == (2.0, 1024)


def test_a_setting_is_declared_once() -> None:
    @dataclass(frozen=True)
    class Declared:
        name: str
        limit: Any = schema.setting(3, Whole(), "how many", "--limit", "bytes")  # noqa: RUF009

    assert schema.entries(Declared) == {
        "limit": schema.SettingDeclaration("limit", 3, Whole(), "how many", "--limit", "bytes")
    }
    assert Declared("x").limit == 3


def test_the_nearest_word() -> None:
    assert schema.nearest("repplicas", ["replicas", "timeout"]) == "replicas"
    assert schema.nearest("zzz", ["replicas"]) is None


def test_addresses_are_taken_apart() -> None:
    assert schema.split_http("[::1]:8000") == ("::1", 8000)
    assert schema.split_tcp("tcp://*:*") == ("*", 0)


@pytest.mark.parametrize(
    ("host", "near"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("localhost", True), ("::1", True), ("*", False)],
)
def test_loopback(host: str, near: bool) -> None:
    assert schema.is_loopback(host) is near


def test_a_word_may_also_be_a_number() -> None:
    assert LEVEL_WORDS.check(20) == LEVEL_WORDS.parse("20") == "info"
    for value in (True, 20.0, 30):
        with pytest.raises(ValueError, match="must be one of debug, info, not "):
            LEVEL_WORDS.check(value)
