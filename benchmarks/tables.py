"""Medians over the rounds, their ratios, and the table that is printed. All of it is pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from statistics import median

from benchmarks.closed_loop import LOAD, Figures
from benchmarks.peers import OURS
from benchmarks.rows import Against, Row

MANY = 4  # processes of one kind; of more, the table shows the mean


@dataclass(frozen=True)
class Measurement:
    """What one server did in one row of one round."""

    row: str
    peer: str
    round: int
    figures: Figures


@dataclass(frozen=True)
class Median:
    """What one server did in one row: the medians over all rounds, and the sum of the failures."""

    row: str
    peer: str
    rate: float
    p50: float
    p99: float
    errors: int
    cpu: dict[str, list[float]]


def medians(measurements: Iterable[Measurement]) -> list[Median]:
    """One `Median` for each row and server, in the order of their first measurement."""
    groups: dict[tuple[str, str], list[Figures]] = defaultdict(list)
    for one in measurements:
        groups[one.row, one.peer].append(one.figures)
    return [_median(row, peer, group) for (row, peer), group in groups.items()]


def _median(row: str, peer: str, group: list[Figures]) -> Median:
    labels = sorted({label for figures in group for label in figures.cpu})
    return Median(
        row,
        peer,
        rate=median(figures.rate for figures in group),
        p50=median(figures.p50 for figures in group),
        p99=median(figures.p99 for figures in group),
        errors=sum(figures.errors for figures in group),
        cpu={name: _by_process([each.cpu.get(name, []) for each in group]) for name in labels},
    )


def _by_process(rounds: list[list[float]]) -> list[float]:
    """The medians of each process of a kind; one that a round did not have counts as idle there."""
    return [median(each) for each in zip_longest(*rounds, fillvalue=0.0)]


def table(rows: Sequence[Row], found: Sequence[Median]) -> str:
    """The medians as text: per row each server's figures, and Meshline's ratio to each peer."""
    lines = []
    for row in rows:
        here = [one for one in found if one.row == row.key]
        if not here:
            continue
        ours = next((one for one in here if one.peer == OURS), None)
        lines.append(f"{row.key}: {row.name}")
        for one in here:
            lines.append(_figures(one, row))
            if ours and one is not ours and one.rate and one.p50:
                lines.append(_ratios(ours, one))
        lines += [_goal(row, here), ""]
    return "\n".join(lines)


def _figures(one: Median, row: Row) -> str:
    text = (
        f"  {one.peer:9} {one.rate:9,.0f} req/s   p50 {one.p50 / 1000:8.3f} ms"
        f"   p99 {one.p99 / 1000:8.3f} ms"
    )
    if row.ideal:
        text += f"   {one.rate / row.ideal:.1%} of the ideal"
    if one.errors:
        text += f"   {one.errors} FAILED"
    shares = ", ".join(_share(*each) for each in one.cpu.items())
    return f"{text}\n  {'':9} CPU: {shares}; the server's {cost(one):,.0f} µs per request"


def cost(one: Median) -> float:
    """Microseconds of processor time that the server spent on a request, the load's left out.

    It hardly depends on what else the machine does, where rates and latencies do.
    """
    used = sum(sum(each) for name, each in one.cpu.items() if name != LOAD)
    return used * 1e4 / one.rate if one.rate else 0.0


def _share(name: str, each: list[float]) -> str:
    """What the processes of one kind used.

    Example:
        >>> _share("stage", [40.0, 52.4])
        'stage 40 + 52 %'
    """
    if len(each) > MANY:
        return f"{len(each)} × {name} {sum(each) / len(each):.1f} %"
    return f"{name} {' + '.join(f'{share:.0f}' for share in each)} %"


def _ratios(ours: Median, peer: Median) -> str:
    return (
        f"  {'':9} {ours.rate / peer.rate:9.2f} ×       p50 {ours.p50 / peer.p50:8.3f} ×"
        f"      meshline to {peer.peer}"
    )


def reached(row: Row, here: Sequence[Median]) -> float | None:
    """The figure that a row's goal is about; None where there is no goal or nothing to compare.

    Args:
        row: the row.
        here: its medians; the first that is not Meshline's is the peer of the goal.
    """
    ours = next((one for one in here if one.peer == OURS), None)
    peer = next((one for one in here if one.peer != OURS), None)
    if row.goal is None or ours is None:
        return None
    if row.goal.against is Against.IDEAL:
        return ours.rate / row.ideal
    if peer is None or not peer.rate or not peer.p50:
        return None
    return ours.rate / peer.rate if row.goal.against is Against.RATE else ours.p50 / peer.p50


def _goal(row: Row, here: Sequence[Median]) -> str:
    """What was reached of a row's goal, in words."""
    if row.goal is None:
        return "  no goal: it explains the row before"
    bound = {
        Against.RATE: f"at least {row.goal.bound:g} × its requests/s",
        Against.P50: f"p50 at most {row.goal.bound:.3f} × its",
        Against.IDEAL: f"at least {row.goal.bound:.0%} of the ideal",
    }[row.goal.against]
    figure = reached(row, here)
    if figure is None:
        return f"  goal: {bound}"
    shown = f"{figure:.1%}" if row.goal.against is Against.IDEAL else f"{figure:.3g} ×"
    return f"  goal: {bound}; here {shown}: {'reached' if row.goal.met(figure) else 'MISSED'}"


def summary(rows: Sequence[Row], found: Sequence[Median]) -> str:
    """How many of the goals were reached, and which were not."""
    wanted = {row: reached(row, [one for one in found if one.row == row.key]) for row in rows}
    figures = {row: figure for row, figure in wanted.items() if figure is not None}
    missed = [row.key for row, figure in figures.items() if row.goal and not row.goal.met(figure)]
    text = f"{len(figures) - len(missed)} of {len(figures)} goals reached"
    return text + (f"; missed: {', '.join(missed)}" if missed else "")
