"""What anybody may say of himself never moves a cursor, forges a line or turns a text round."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.logs.control_characters import in_json, in_lines, in_one_line
from mesh.logs.lines import LogLine, json_line, text_line

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
NASTY = [
    "\x1b[2J\x1b[H",  # clears a terminal
    "\x1b]0;title\x07",
    "\x9b31m",  # the same as ESC [ in one character
    "a\n12:00:01 info    gateway    all is well",
    "a\r12:00:01 info",
    "a\u2028b\u2029c\x85d\x0be\x0cf",
    "safe\u202etxt.exe",
    "\x00\x7f\x08\x08",
    *BIDI,
]
TEXTS = st.one_of(st.text(), st.sampled_from(NASTY), st.lists(st.sampled_from(NASTY)).map("".join))


def is_harmless(text: str) -> bool:
    return not any(
        unicodedata.category(one) in ("Cc", "Zl", "Zp", "Cs") or one in BIDI for one in text
    )


@given(TEXTS)
def test_one_line_is_harmless(text: str) -> None:
    shown = in_one_line(text)
    assert is_harmless(shown)
    assert shown.isprintable() or any(
        unicodedata.category(one) in ("Cf", "Cn", "Co", "Zs") for one in shown
    )
    if is_harmless(text):
        assert shown == text


@given(TEXTS)
def test_of_several_lines_only_their_ends_remain(text: str) -> None:
    shown = in_lines(text)
    assert shown.count("\n") == text.count("\n")
    assert all(is_harmless(line) for line in shown.split("\n"))


@given(TEXTS)
def test_json_says_the_same_and_is_harmless(text: str) -> None:
    written = json.dumps({"said": text}, ensure_ascii=False).encode("utf-8", "surrogatepass")
    if any(unicodedata.category(one) == "Cs" for one in text):
        return
    shown = in_json(written)
    assert is_harmless(shown.decode())
    assert json.loads(shown) == {"said": text}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("größe 大 🙂", "größe 大 🙂"),
        ("a\tb", "a\\tb"),
        ("a\nb\r", "a\\nb\\r"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b", "\\x9b"),
        ("\u202e", "\\u202e"),
        ("half \ud800", "half \\ud800"),
        ("a\\x1b", "a\\x1b"),
    ],
)
def test_how_it_is_written(text: str, shown: str) -> None:
    assert in_one_line(text) == shown


def test_what_is_harmless_is_not_copied() -> None:
    text, written = "a plain text", b'{"a":1}'
    assert in_one_line(text) is text
    assert in_json(written) is written
    assert in_json("ä".encode()) == "ä".encode()


FIELDS = st.dictionaries(TEXTS, st.one_of(TEXTS, st.lists(TEXTS)), max_size=3)


@given(TEXTS, FIELDS, TEXTS, st.booleans())
def test_a_line_of_text_is_one_line(
    message: str, fields: dict[str, object], source: str, coloured: bool
) -> None:
    line = LogLine("12:00:01", "error", source, message, fields)
    shown = text_line(line, coloured=coloured).decode()
    assert shown.endswith("\n")
    if coloured:
        assert shown.count("\033[31m") == shown.count("\033[0m") == 1
        shown = shown.replace("\033[31m", "").replace("\033[0m", "")
    assert is_harmless(shown[:-1])


@given(TEXTS, TEXTS)
def test_a_traceback_follows_in_lines_that_are_set_in(message: str, trace: str) -> None:
    shown = text_line(LogLine("12:00:01", "error", "gateway", message, {}, trace)).decode()
    first, *rest = shown.removesuffix("\n").split("\n")
    assert is_harmless(first)
    assert all(is_harmless(line) and line.startswith("  ") for line in rest)
    assert len(rest) == (trace.count("\n") + 1 if trace else 0)


@given(TEXTS, FIELDS, TEXTS)
def test_a_line_of_json_is_harmless_and_says_all(
    message: str, fields: dict[str, object], trace: str
) -> None:
    shown = json_line(LogLine("12:00", "info", "gateway", message, fields, trace)).decode()
    assert shown.endswith("\n")
    assert is_harmless(shown[:-1])
    found = json.loads(shown)
    assert found["message"] == message
    assert found.get("traceback", "") == trace
