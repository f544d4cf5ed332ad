"""What a measurement found, and how it stands to what is to be reached. All of it is pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bound:
    """At most, or at least, so much."""

    value: float
    at_most: bool = True

    def met(self, figure: float) -> bool:
        """Whether a figure keeps it."""
        return figure <= self.value if self.at_most else figure >= self.value

    def __str__(self) -> str:
        return f"at {'most' if self.at_most else 'least'} {self.value:g}"


@dataclass(frozen=True)
class Finding:
    """One figure.

    Attributes:
        measure: what was measured, one word.
        what: of what it is the figure.
        figure: it.
        unit: its unit.
        bound: what it should keep; None where it stands for comparison.
    """

    measure: str
    what: str
    figure: float
    unit: str
    bound: Bound | None = None

    def __str__(self) -> str:
        text = f"  {self.what:66} {self.figure:10,.3g} {self.unit}"
        if self.figure >= 1000:
            text = f"  {self.what:66} {self.figure:10,.0f} {self.unit}"
        if self.bound is None:
            return text
        verdict = "reached" if self.bound.met(self.figure) else "MISSED"
        return f"{text}   {self.bound}: {verdict}"


def flat(measure: str, what: str, unit: str, figures: Mapping[str, float]) -> list[Finding]:
    """The figures of one cost at several scales: each at most a quarter above the smallest.

    Args:
        measure: what was measured.
        what: what the cost is of.
        unit: of the figures.
        figures: per scale, a text.
    """
    least = min(figures.values())
    bound = Bound(round(1.25 * least, 3))
    return [
        Finding(measure, f"{what}, {scale}", figure, unit, bound)
        for scale, figure in figures.items()
    ]


def lines(findings: Sequence[Finding]) -> str:
    """Everything that was found, by measure."""
    shown = []
    for measure in dict.fromkeys(one.measure for one in findings):
        shown.append(measure)
        shown += [str(one) for one in findings if one.measure == measure]
        shown.append("")
    return "\n".join(shown)


def text(findings: Sequence[Finding]) -> str:
    """The same, and how much of it is as it should be."""
    bounded = [one for one in findings if one.bound is not None]
    kept = sum(one.bound.met(one.figure) for one in bounded if one.bound is not None)
    return f"{lines(findings)}\n{kept} of {len(bounded)} goals reached"
