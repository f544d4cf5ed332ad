"""Escapes control characters in texts from outside, for terminals and logs. Pure.

Texts of a client, a peer or a worker's exception may contain sequences that move a terminal's
cursor
or set its title (C0 and C1 controls), line ends followed by a forged line, and direction marks that
make a text read as another. Each of our outputs passes through one of these functions last.
Harmless texts are unchanged.
"""

from __future__ import annotations

import re
from typing import Final

# C1 and DEL; direction marks; line and paragraph separators; half surrogate pairs.
_BEYOND: Final = "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_HARMFUL: Final = re.compile(f"[\x00-\x1f{_BEYOND}]")
_HARMFUL_IN_LINES: Final = re.compile(f"[\x00-\x09\x0b-\x1f{_BEYOND}]")
_HARMFUL_IN_JSON: Final = re.compile(f"[{_BEYOND}]")
_SHORT: Final = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def in_one_line(text: str) -> str:
    """Escape a text that becomes part of one line.

    Example:
        >>> in_one_line("a\\x1b[2J\\nb")
        'a\\\\x1b[2J\\\\nb'
    """
    return text if text.isprintable() else _HARMFUL.sub(_escaped, text)


def in_lines(text: str) -> str:
    """Escape a text of several lines, such as a traceback."""
    return _HARMFUL_IN_LINES.sub(_escaped, text)


def in_json(written: bytes) -> bytes:
    """Escape JSON in UTF-8 from an encoder that escapes only what JSON demands.

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
