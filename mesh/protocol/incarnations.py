"""How people are shown which life of which process is meant: always the same 16 digits. Pure."""

from __future__ import annotations


def shown(incarnation: int) -> str:
    """An incarnation as it stands in logs, statuses and answers.

    All of its digits, the zeros in front too: whoever looks for it searches for a text.

    Example:
        >>> shown(0xBEE)
        '0000000000000bee'
    """
    return f"{incarnation:016x}"
