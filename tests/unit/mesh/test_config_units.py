"""Durations and sizes: what people write, and what they must not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.config.units import parse_duration, parse_size, show_duration, show_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10ms", 0.01), ("3s", 3.0), ("1.5 min", 90.0), ("250us", 0.00025), (" 2H ", 7200.0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "size"),
    [("10MiB", 10 * 2**20), ("1kb", 1000), ("1.5KiB", 1536), ("0B", 0), ("2 GiB", 2**31)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fast", "not a number with a unit, such as '10ms'"),
        ("-1s", "not a number with a unit"),
        ("3000", "needs a unit"),
        ("3 parsecs", "'parsecs' is no unit here; there are us, ms, s"),
    ],
)
def test_wrong_durations_say_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_duration(text)


def test_half_a_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="not a whole number of bytes"):
        parse_size("0.5B")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.01, "10ms"), (3.0, "3s"), (0.0005, "500us"), (90.0, "90s"), (0.0125, "12.5ms")],
)
def test_durations_are_shown_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text


def test_sizes_are_shown_exactly() -> None:
    shown = [show_size(size) for size in (0, 1000, 1024, 2**30, 2**20 + 1)]
    assert shown == ["0B", "1000B", "1KiB", "1GiB", "1048577B"]


@given(st.integers(0, 2**50))
def test_a_shown_size_is_read_back(size: int) -> None:
    assert parse_size(show_size(size)) == size


@given(st.integers(0, 10**12).map(lambda microseconds: microseconds / 1e6))
def test_a_shown_duration_is_read_back(seconds: float) -> None:
    assert parse_duration(show_duration(seconds)) == pytest.approx(seconds, abs=1e-6)
