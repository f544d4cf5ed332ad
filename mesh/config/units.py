"""Parses and formats durations and sizes: ``"10ms"``, ``"3s"``, ``"10MiB"``. Pure.

Inside the mesh a duration is a float in seconds and a size an int in bytes. A bare number has no
unit and is refused: a reader of ``timeout = 3000`` cannot know what it means.
"""

from __future__ import annotations

import re

SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
BYTES = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_duration(text: str) -> float:
    """Parse a text such as ``"10ms"`` into seconds; ValueError says what to write instead.

    Example:
        >>> parse_duration("1.5 min")
        90.0
    """
    number, factor = _split(text, SECONDS, "10ms")
    return number * factor


def parse_size(text: str) -> int:
    """Parse a text such as ``"10MiB"`` into bytes; ValueError says what to write instead.

    Example:
        >>> parse_size("64KiB")
        65536
    """
    number, factor = _split(text, BYTES, "10MiB")
    size = number * factor
    if size != int(size):
        raise ValueError(f"{text.strip()!r} is not a whole number of bytes")
    return int(size)


def show_duration(seconds: float) -> str:
    """Format a duration in seconds as the shortest text that `parse_duration` reads back.

    Example:
        >>> show_duration(0.01), show_duration(90)
        ('10ms', '90s')
    """
    unit = "s" if seconds >= 1 or seconds == 0 else "ms" if seconds >= 1e-3 else "us"
    return f"{round(seconds / SECONDS[unit], 6):.12g}{unit}"


def show_size(size: int) -> str:
    """Format a size in bytes, in the largest unit that divides it exactly.

    Example:
        >>> show_size(10 * 2**20), show_size(1000)
        ('10MiB', '1000B')
    """
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % BYTES[unit] == 0:
            return f"{size // BYTES[unit]}{unit}"
    return f"{size}B"


def _split(
    text: str, units: dict[str, float] | dict[str, int], example: str
) -> tuple[float, float]:
    """Return the number in a quantity and the factor of its unit, in upper or lower case."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a number with a unit, such as {example!r}")
    number, unit = match.groups()
    if not unit:
        raise ValueError(f"{text!r} needs a unit, such as {example!r}")
    for known, factor in units.items():
        if known.lower() == unit.lower():
            return float(number), factor
    raise ValueError(f"{unit!r} is no unit here; there are {', '.join(units)}")
