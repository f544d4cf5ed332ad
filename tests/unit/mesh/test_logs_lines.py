"""Log lines: JSON that always is JSON, text that always is one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.logs.lines import LogLine, json_line, last_state, text_line


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def read(line: bytes) -> dict[str, object]:
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    value: dict[str, object] = json.loads(line)
    return value


def test_json_has_what_is_known_in_one_line() -> None:
    line = LogLine("12:00", "info", "embed/1", "a\nb", {"labels": 3, "ids": ["1"]}, "Traceback\nx")
    assert list(read(json_line(line)).items()) == [
        ("time", "12:00"),
        ("level", "info"),
        ("source", "embed/1"),
        ("message", "a\nb"),
        ("labels", 3),
        ("ids", ["1"]),
        ("traceback", "Traceback\nx"),
    ]


def test_a_field_cannot_pose_as_one_of_ours() -> None:
    fields = {"level": "mine", "time": 5, "other": 1}
    assert read(json_line(LogLine("t", "info", "s", "m", fields))) == {
        "time": "t",
        "level": "info",
        "source": "s",
        "message": "m",
        "level_": "mine",
        "time_": 5,
        "other": 1,
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), None),
        (object, "<class 'object'>"),
        (Rude(), "<Rude>"),
        ("\ud800", "\ud800"),
        ({"a": "\ud800"}, "{'a': '\\ud800'}"),
        ([(1, "a")], [[1, "a"]]),
    ],
)
def test_any_value_can_be_written(value: object, shown: object) -> None:
    assert read(json_line(LogLine("t", "info", "s", "m", {"value": value})))["value"] == shown


@given(st.text(), st.dictionaries(st.text(), st.one_of(st.text(), st.binary(), st.floats())))
def test_json_is_always_json(message: str, fields: dict[str, object]) -> None:
    line = read(json_line(LogLine("t", "info", "s", message, fields)))
    assert line["message"] == message


def test_text_has_fields_behind_the_message() -> None:
    fields = {"logger": "service", "ids": ["a-1"], "labels": 3, "word": "two words"}
    line = LogLine("12:00:01", "info", "embed/1", "loaded", fields)
    text = b"12:00:01 info    embed/1    service: loaded labels=3 word=two words [a-1]\n"
    assert text_line(line) == text


def test_text_names_three_of_many_requests() -> None:
    line = LogLine("12:00:01", "info", "embed/1", "loaded", {"ids": ["1", "2", "3", "4", "5"]})
    assert text_line(line).endswith(b"loaded [1, 2, 3 and 2 more]\n")


def test_text_names_all_requests_of_a_traceback_up_to_a_bound() -> None:
    ids = [str(number) for number in range(300)]
    line = LogLine("12:00:01", "error", "embed/1", "failed", {"ids": ids[:30]}, "Traceback")
    assert text_line(line).endswith(f"failed [{', '.join(ids[:30])}]\n  Traceback\n".encode())
    line = line._replace(fields={"ids": ids})
    assert text_line(line).endswith(b", 255 and 44 more]\n  Traceback\n")


@pytest.mark.parametrize(
    ("ids", "shown"), [([1, 2], b"[1, 2]"), (5, b"ids=5"), (None, b"ids=None"), ((), b"[]")]
)
def test_a_users_own_field_may_hold_anything(ids: object, shown: bytes) -> None:
    line = LogLine("12:00:01", "info", "embed/1", "m", {"ids": ids, "logger": 7})
    assert text_line(line) == b"12:00:01 info    embed/1    7: m " + shown + b"\n"


def test_text_shows_a_traceback_below() -> None:
    line = LogLine("12:00:01", "error", "embed/1", "no \ud800", {}, "Traceback\n  x")
    plain, coloured = text_line(line), text_line(line, coloured=True)
    assert plain == b"12:00:01 error   embed/1    no \\ud800\n  Traceback\n    x\n"
    assert coloured == plain.replace(b"error  ", b"\033[31merror  \033[0m")


def test_only_what_calls_for_attention_is_coloured() -> None:
    line = LogLine("12:00:01", "info", "embed/1", "calm")
    assert text_line(line, coloured=True) == text_line(line)


@pytest.mark.parametrize(
    ("line", "seen"),
    [("plain", "plain"), ("1 %\r2 %", "2 %"), ("1 %\r", "1 %"), ("\r", ""), ("", "")],
)
def test_of_a_line_that_is_written_over_the_last_state_is_seen(line: str, seen: str) -> None:
    assert last_state(line) == seen
