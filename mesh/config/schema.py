"""Declares settings, and reads their values from files, texts and Python. Pure.

A setting is a field of a frozen dataclass in `mesh/config/settings.py`. `setting` declares it once:
its default, its `ValueKind` (which reads and checks values) and a line of documentation. File,
environment, flags and Python arguments all derive from this declaration.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from mesh.config.units import parse_duration, parse_size, show_duration, show_size

LOOPBACK = ("localhost", "::1")


class ValueKind(Protocol):
    """The values that a setting accepts. Every method raises ValueError with a text for people."""

    @property
    def noun(self) -> str:
        """The name of the kind in the documentation: ``duration``, ``size``, ..."""
        ...

    def read(self, value: object) -> Any:
        """Check a value from mesh.toml, and convert it."""
        ...

    def parse(self, text: str) -> Any:
        """Parse a text from the environment or a flag, and check it."""
        ...

    def check(self, value: object) -> Any:
        """Check a value given in Python, in the unit of the setting."""
        ...


def setting(default: Any, kind: ValueKind, doc: str, flag: str = "", unit: str = "") -> Any:
    """Declare a setting; use the result as the default of a dataclass field.

    Args:
        default: the value if the user sets none, in the unit of the setting (seconds or bytes).
        kind: the values that it accepts.
        doc: one line of documentation.
        flag: the flag of scripts that call `Server()`, "" if there is none.
        unit: the unit of a bare number in that flag, e.g. ``ms``.
    """
    metadata = {"kind": kind, "doc": doc, "flag": flag, "unit": unit}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class SettingDeclaration:
    """The declaration of one setting, from which file, environment and flags derive."""

    name: str
    default: Any
    kind: ValueKind
    doc: str
    flag: str
    unit: str


def entries(owner: type) -> dict[str, SettingDeclaration]:
    """Return the settings that a dataclass declares, by name, in order of declaration."""
    return {
        one.name: SettingDeclaration(one.name, one.default, **one.metadata)
        for one in dataclasses.fields(owner)
        if "kind" in one.metadata
    }


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known word that a user who wrote `word` most likely meant, if any.

    Example:
        >>> nearest("max_batchsize", ["max_batch_size", "timeout"])
        'max_batch_size'
    """
    return next(iter(difflib.get_close_matches(word, list(known), 1, cutoff)), None)


def _number(value: object, what: str) -> float:
    # A bool is an int in Python, but a user who writes `replicas = true` does not mean 1.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be {what}, not {value!r}")
    return value


@dataclass(frozen=True)
class Duration:
    """A duration in seconds."""

    least: float = 0.0
    noun: str = "duration"

    def read(self, value: object) -> float:
        """Read a text with a unit, such as ``"10ms"``."""
        if not isinstance(value, str):
            raise ValueError(f'needs a unit and quotes, such as "10ms" or "3s", not {value!r}')
        return self.parse(value)

    def parse(self, text: str) -> float:
        """Parse a text with a unit."""
        return self.check(parse_duration(text))

    def check(self, value: object) -> float:
        """Check a number of seconds."""
        seconds = float(_number(value, "a number of seconds"))
        if not self.least <= seconds < float("inf"):
            raise ValueError(f"must be at least {show_duration(self.least)}, not {value!r}")
        return seconds


@dataclass(frozen=True)
class Size:
    """A number of bytes."""

    least: int = 1
    noun: str = "size"

    def read(self, value: object) -> int:
        """Read a text with a unit, such as ``"10MiB"``."""
        if not isinstance(value, str):
            raise ValueError(f'needs a unit and quotes, such as "10MiB", not {value!r}')
        return self.parse(value)

    def parse(self, text: str) -> int:
        """Parse a text with a unit."""
        return self.check(parse_size(text))

    def check(self, value: object) -> int:
        """Check a number of bytes; a float must be whole."""
        size = _number(value, "a number of bytes")
        if size != int(size) or size < self.least:
            raise ValueError(f"must be at least {show_size(self.least)}, not {value!r}")
        return int(size)


@dataclass(frozen=True)
class Whole:
    """A whole number from `least` to `most`."""

    least: int = 0
    noun: str = "number"
    most: int | None = None

    def read(self, value: object) -> int:
        """Check a number; a bool is refused."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"must be a whole number, not {value!r}")
        if value < self.least:
            raise ValueError(f"must be at least {self.least}, not {value}")
        if self.most is not None and value > self.most:
            raise ValueError(f"must be at most {self.most}, not {value}")
        return value

    def parse(self, text: str) -> int:
        """Parse decimal digits, with or without a sign."""
        if not re.fullmatch(r"[+-]?\d+", text.strip()):
            raise ValueError(f"must be a whole number, not {text!r}")
        return self.read(int(text))

    check = read


@dataclass(frozen=True)
class Switch:
    """Yes or no."""

    noun: str = "true/false"

    def read(self, value: object) -> bool:
        """Check a bool; values that Python would convert to one are refused."""
        if not isinstance(value, bool):
            raise ValueError(f"must be true or false, not {value!r}")
        return value

    def parse(self, text: str) -> bool:
        """Parse true, 1, yes, false, 0 or no, in upper or lower case."""
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if text.strip().lower() not in words:
            raise ValueError(f"must be true or false, not {text!r}")
        return words[text.strip().lower()]

    check = read


@dataclass(frozen=True)
class Text:
    """A text that matches a pattern; `form` describes the pattern for people."""

    pattern: str = r".*"
    form: str = "a text"
    noun: str = "text"

    def read(self, value: object) -> str:
        """Check that the whole text matches the pattern."""
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            raise ValueError(f"must be {self.form}, not {value!r}")
        return value

    def parse(self, text: str) -> str:
        """The text itself."""
        return self.read(text)

    check = read


@dataclass(frozen=True)
class Texts:
    """Several texts that match a pattern; `form` describes the pattern for people."""

    pattern: str
    form: str
    noun: str = "list"

    def read(self, value: object) -> tuple[str, ...]:
        """Check a list of texts."""
        if not isinstance(value, list | tuple):
            raise ValueError(f"must be a list, each of it {self.form}, not {value!r}")
        one = Text(self.pattern, self.form)
        return tuple(one.read(text) for text in value)

    def parse(self, text: str) -> tuple[str, ...]:
        """Parse texts separated by commas."""
        return self.read([one.strip() for one in text.split(",") if one.strip()])

    check = read


@dataclass(frozen=True)
class Choice:
    """One of some words, in upper or lower case; `others` maps aliases and numbers to these
    words."""

    words: tuple[str, ...]
    noun: str
    others: Mapping[str, str] = field(default_factory=dict)

    def read(self, value: object) -> str:
        """Return the word as it is spelt in `words`."""
        text = str(value) if type(value) is int else value
        text = text.strip().lower() if isinstance(text, str) else ""
        word = self.others.get(text, text)
        if word not in self.words:
            raise ValueError(f"must be one of {', '.join(self.words)}, not {value!r}")
        return word

    def parse(self, text: str) -> str:
        """Return the word as it is spelt in `words`."""
        return self.read(text)

    check = read


@dataclass(frozen=True)
class HttpAddress:
    """``host:port`` to listen on, kept as written; `split_http` parses it.

    An `optional` address may be empty, or ``unix:`` and the absolute path of a socket.
    """

    noun: str = "host:port"
    optional: bool = False

    def read(self, value: object) -> str:
        """Check a text that `split_http` can parse."""
        if not isinstance(value, str):
            raise ValueError(f'must be a text such as "127.0.0.1:8000", not {value!r}')
        if not (self.optional and (not value or value.startswith("unix:/"))):
            split_http(value)
        return value

    def parse(self, text: str) -> str:
        """The text itself."""
        return self.read(text)

    check = read


@dataclass(frozen=True)
class Endpoint:
    """A mesh address, ``tcp://host:port`` or ``ipc:///path``, or empty."""

    noun: str = "address"

    def read(self, value: object) -> str:
        """Check a text: ``tcp://host:port``, an absolute ``ipc://`` path, or empty."""
        if not isinstance(value, str):
            raise ValueError(f'must be a text such as "tcp://127.0.0.1:7000", not {value!r}')
        if value.startswith("ipc:///") or not value:
            return value
        split_tcp(value)
        return value

    def parse(self, text: str) -> str:
        """Parse a text; surrounding space is removed."""
        return self.read(text.strip())

    check = read


@dataclass(frozen=True)
class Endpoints:
    """Several mesh addresses, or ``file:///path`` of a file that lists them."""

    noun: str = "addresses"

    def read(self, value: object) -> tuple[str, ...]:
        """Check a list of addresses."""
        if not isinstance(value, list | tuple):
            raise ValueError(f"must be a list of addresses, not {value!r}")
        return tuple(one if _is_file(one) else Endpoint().read(one) for one in value)

    def parse(self, text: str) -> tuple[str, ...]:
        """Parse addresses separated by commas."""
        return self.read([one.strip() for one in text.split(",") if one.strip()])

    check = read


def _is_file(value: object) -> bool:
    return isinstance(value, str) and value.startswith("file:///")


@dataclass(frozen=True)
class Environments:
    """One table of environment variables per replica."""

    noun: str = "list of tables"

    def read(self, value: object) -> tuple[dict[str, str], ...]:
        """Check a list of tables of texts."""
        if not isinstance(value, list | tuple):
            raise ValueError("must be a list of tables, one per replica")
        for number, variables in enumerate(value, 1):
            self._check_one(number, variables)
        return tuple(dict(variables) for variables in value)

    def parse(self, text: str) -> tuple[dict[str, str], ...]:
        """Raise ValueError: tables cannot be set by a variable or a flag."""
        raise ValueError("can be set in mesh.toml and in Python only")

    def _check_one(self, number: int, variables: object) -> None:
        if not isinstance(variables, Mapping):
            raise ValueError(f"entry {number} must be a table, not {variables!r}")
        for name, value in variables.items():
            if not isinstance(name, str) or not isinstance(value, str):
                raise ValueError(f"entry {number}: {name} must be a text, not {value!r}")

    check = read


def split_http(address: str) -> tuple[str, int]:
    """Parse ``host:port`` (an IPv6 host in brackets); ValueError if it has another form.

    Example:
        >>> split_http("[::1]:8000")
        ('::1', 8000)
    """
    return _split_host_port("//" + address, address, "127.0.0.1:8000")


def split_tcp(address: str) -> tuple[str, int]:
    """Parse ``tcp://host:port``; port 0 or ``*`` means any free port."""
    if not address.startswith("tcp://"):
        raise ValueError(f"must be tcp://host:port or ipc:///path, not {address!r}")
    plain = address.removesuffix(":*") + (":0" if address.endswith(":*") else "")
    return _split_host_port(plain[4:], address, "tcp://127.0.0.1:7000")


def is_loopback(host: str) -> bool:
    """Return whether only processes of this machine can reach this host name or address."""
    return host in LOOPBACK or bool(re.fullmatch(r"127(\.\d{1,3}){3}", host))


def _split_host_port(url: str, shown: str, example: str) -> tuple[str, int]:
    wrong = ValueError(f'must look like "{example}", not {shown!r}')
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    extra = parts.path or parts.query or parts.fragment or parts.username
    if not host or port is None or extra:
        raise wrong
    return host, port
