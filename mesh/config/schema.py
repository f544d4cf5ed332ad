"""How one setting is declared, and how its value is read from a file, a text or Python. Pure.

A setting is a field of a frozen dataclass in `mesh/config/settings.py`, declared once by `setting`:
its default, its `ValueKind` (which reads and checks values) and a line of documentation. File,
environment, flags and Python arguments all derive from that.
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
    """What values a setting takes. Every method raises ValueError with a text for people."""

    @property
    def noun(self) -> str:
        """What such a value is, for documentation: ``duration``, ``size``, ..."""
        ...

    def read(self, value: object) -> Any:
        """The checked value for one that stands in mesh.toml."""
        ...

    def parse(self, text: str) -> Any:
        """The checked value for a text from the environment or a flag."""
        ...

    def check(self, value: object) -> Any:
        """The checked value for one given in Python, in the unit that we keep it in."""
        ...


def setting(default: Any, kind: ValueKind, doc: str, flag: str = "", unit: str = "") -> Any:
    """Declare a setting: to be used as the default of a dataclass field.

    Args:
        default: the value where the user sets none, in the unit that we keep it in.
        kind: what values it takes.
        doc: one line for people.
        flag: the script's flag for it (`Server`), where there is one.
        unit: what a bare number means in that flag, e.g. ``ms``.
    """
    metadata = {"kind": kind, "doc": doc, "flag": flag, "unit": unit}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class SettingDeclaration:
    """One setting as declared: what the file, the environment and the flags are made of."""

    name: str
    default: Any
    kind: ValueKind
    doc: str
    flag: str
    unit: str


def entries(owner: type) -> dict[str, SettingDeclaration]:
    """The settings that a dataclass declares, by name, in their order."""
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
    # A bool is an int to Python, but nobody who writes `replicas = true` means 1.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be {what}, not {value!r}")
    return value


@dataclass(frozen=True)
class Duration:
    """A time span, kept in seconds."""

    least: float = 0.0
    noun: str = "duration"

    def read(self, value: object) -> float:
        """A text with a unit, such as ``"10ms"``."""
        if not isinstance(value, str):
            raise ValueError(f'needs a unit and quotes, such as "10ms" or "3s", not {value!r}')
        return self.parse(value)

    def parse(self, text: str) -> float:
        """A text with a unit."""
        return self.check(parse_duration(text))

    def check(self, value: object) -> float:
        """A number of seconds."""
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
        """A text with a unit, such as ``"10MiB"``."""
        if not isinstance(value, str):
            raise ValueError(f'needs a unit and quotes, such as "10MiB", not {value!r}')
        return self.parse(value)

    def parse(self, text: str) -> int:
        """A text with a unit."""
        return self.check(parse_size(text))

    def check(self, value: object) -> int:
        """A number of bytes; a float only if it is whole."""
        size = _number(value, "a number of bytes")
        if size != int(size) or size < self.least:
            raise ValueError(f"must be at least {show_size(self.least)}, not {value!r}")
        return int(size)


@dataclass(frozen=True)
class Whole:
    """A whole number, `most` at most where that is given."""

    least: int = 0
    noun: str = "number"
    most: int | None = None

    def read(self, value: object) -> int:
        """A number; a bool is none."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"must be a whole number, not {value!r}")
        if value < self.least:
            raise ValueError(f"must be at least {self.least}, not {value}")
        if self.most is not None and value > self.most:
            raise ValueError(f"must be at most {self.most}, not {value}")
        return value

    def parse(self, text: str) -> int:
        """Decimal digits, with a sign or without."""
        if not re.fullmatch(r"[+-]?\d+", text.strip()):
            raise ValueError(f"must be a whole number, not {text!r}")
        return self.read(int(text))

    check = read


@dataclass(frozen=True)
class Switch:
    """Yes or no."""

    noun: str = "true/false"

    def read(self, value: object) -> bool:
        """A bool, and nothing that merely counts as one."""
        if not isinstance(value, bool):
            raise ValueError(f"must be true or false, not {value!r}")
        return value

    def parse(self, text: str) -> bool:
        """One of true, 1, yes, false, 0, no, in either case."""
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if text.strip().lower() not in words:
            raise ValueError(f"must be true or false, not {text!r}")
        return words[text.strip().lower()]

    check = read


@dataclass(frozen=True)
class Text:
    """A text that a pattern describes; `form` says in words what it must look like."""

    pattern: str = r".*"
    form: str = "a text"
    noun: str = "text"

    def read(self, value: object) -> str:
        """A text that the pattern describes as a whole."""
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            raise ValueError(f"must be {self.form}, not {value!r}")
        return value

    def parse(self, text: str) -> str:
        """The text itself."""
        return self.read(text)

    check = read


@dataclass(frozen=True)
class Texts:
    """Several texts that a pattern describes, `form` in words; in a text separated by commas."""

    pattern: str
    form: str
    noun: str = "list"

    def read(self, value: object) -> tuple[str, ...]:
        """A list of texts."""
        if not isinstance(value, list | tuple):
            raise ValueError(f"must be a list, each of it {self.form}, not {value!r}")
        one = Text(self.pattern, self.form)
        return tuple(one.read(text) for text in value)

    def parse(self, text: str) -> tuple[str, ...]:
        """Texts with commas between them."""
        return self.read([one.strip() for one in text.split(",") if one.strip()])

    check = read


@dataclass(frozen=True)
class Choice:
    """One of some words, in upper or lower case; `others` are further words, and numbers, for some
    of them."""

    words: tuple[str, ...]
    noun: str
    others: Mapping[str, str] = field(default_factory=dict)

    def read(self, value: object) -> str:
        """The word, as it stands in `words`."""
        text = str(value) if type(value) is int else value
        text = text.strip().lower() if isinstance(text, str) else ""
        word = self.others.get(text, text)
        if word not in self.words:
            raise ValueError(f"must be one of {', '.join(self.words)}, not {value!r}")
        return word

    def parse(self, text: str) -> str:
        """The word, as it stands in `words`."""
        return self.read(text)

    check = read


@dataclass(frozen=True)
class HttpAddress:
    """``host:port`` to listen on, kept as written; `split_http` takes it apart.

    An `optional` one may be empty, or ``unix:`` and the absolute path of a socket.
    """

    noun: str = "host:port"
    optional: bool = False

    def read(self, value: object) -> str:
        """A text that `split_http` takes apart."""
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
    """A mesh address, ``tcp://host:port`` or ``ipc:///path``, or nothing."""

    noun: str = "address"

    def read(self, value: object) -> str:
        """A text: ``tcp://host:port``, an absolute ``ipc://`` path, or empty."""
        if not isinstance(value, str):
            raise ValueError(f'must be a text such as "tcp://127.0.0.1:7000", not {value!r}')
        if value.startswith("ipc:///") or not value:
            return value
        split_tcp(value)
        return value

    def parse(self, text: str) -> str:
        """The text without the space around it."""
        return self.read(text.strip())

    check = read


@dataclass(frozen=True)
class Endpoints:
    """Several mesh addresses, or ``file:///path`` that has some; in a text separated by commas."""

    noun: str = "addresses"

    def read(self, value: object) -> tuple[str, ...]:
        """A list of addresses."""
        if not isinstance(value, list | tuple):
            raise ValueError(f"must be a list of addresses, not {value!r}")
        return tuple(one if _is_file(one) else Endpoint().read(one) for one in value)

    def parse(self, text: str) -> tuple[str, ...]:
        """Addresses with commas between them."""
        return self.read([one.strip() for one in text.split(",") if one.strip()])

    check = read


def _is_file(value: object) -> bool:
    return isinstance(value, str) and value.startswith("file:///")


@dataclass(frozen=True)
class Environments:
    """One table of environment variables per replica."""

    noun: str = "list of tables"

    def read(self, value: object) -> tuple[dict[str, str], ...]:
        """A list of tables of texts."""
        if not isinstance(value, list | tuple):
            raise ValueError("must be a list of tables, one per replica")
        for number, variables in enumerate(value, 1):
            self._check_one(number, variables)
        return tuple(dict(variables) for variables in value)

    def parse(self, text: str) -> tuple[dict[str, str], ...]:
        """Nothing: tables are not written in the environment or in a flag."""
        raise ValueError("can be set in mesh.toml and in Python only")

    def _check_one(self, number: int, variables: object) -> None:
        if not isinstance(variables, Mapping):
            raise ValueError(f"entry {number} must be a table, not {variables!r}")
        for name, value in variables.items():
            if not isinstance(name, str) or not isinstance(value, str):
                raise ValueError(f"entry {number}: {name} must be a text, not {value!r}")

    check = read


def split_http(address: str) -> tuple[str, int]:
    """Host and port of ``host:port`` (an IPv6 host in brackets); ValueError if it is not that.

    Example:
        >>> split_http("[::1]:8000")
        ('::1', 8000)
    """
    return _split_host_port("//" + address, address, "127.0.0.1:8000")


def split_tcp(address: str) -> tuple[str, int]:
    """Host and port of ``tcp://host:port``; port 0 or ``*`` means any free one."""
    if not address.startswith("tcp://"):
        raise ValueError(f"must be tcp://host:port or ipc:///path, not {address!r}")
    plain = address.removesuffix(":*") + (":0" if address.endswith(":*") else "")
    return _split_host_port(plain[4:], address, "tcp://127.0.0.1:7000")


def is_loopback(host: str) -> bool:
    """Whether only processes of this machine can reach this host name or address."""
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
