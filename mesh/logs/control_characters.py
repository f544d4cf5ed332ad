"""Texts of others, written so that no terminal obeys them and no line looks like another. Pure.

A client, a peer or a worker's exception may say anything: sequences that move a terminal's cursor
or set its title (C0 and C1 controls), ends of lines after which a forged line follows, marks that
turn the direction of a text round so that it reads as another. Each output of ours passes through
one of these functions, at its end; what is harmless passes untouched.
"""

from __future__ import annotations

import re
from typing import Final

# C1 and DEL; marks of direction; the separators of lines and paragraphs; half surrogate pairs.
_BEYOND: Final = "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_HARMFUL: Final = re.compile(f"[\x00-\x1f{_BEYOND}]")
_HARMFUL_IN_LINES: Final = re.compile(f"[\x00-\x09\x0b-\x1f{_BEYOND}]")
_HARMFUL_IN_JSON: Final = re.compile(f"[{_BEYOND}]")
_SHORT: Final = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def in_one_line(text: str) -> str:
    """A text as a part of one line.

    Example:
        >>> in_one_line("a\\x1b[2J\\nb")
        'a\\\\x1b[2J\\\\nb'
    """
    return text if text.isprintable() else _HARMFUL.sub(_escaped, text)


def in_lines(text: str) -> str:
    """A text of several lines, such as a traceback."""
    return _HARMFUL_IN_LINES.sub(_escaped, text)


def in_json(written: bytes) -> bytes:
    """JSON in UTF-8, as an encoder wrote it that escapes only what JSON demands.

    Example:
        >>> in_json(b'["\\xc2\\x9b"]')
        b'["\\\\u009b"]'
    """
    if written.isascii() and b"\x7f" not in written:
        return written
    return _HARMFUL_IN_JSON.sub(_json_escape, written.decode()).encode()


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    number = ord(character)
    return _SHORT.get(character) or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")


def _json_escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
