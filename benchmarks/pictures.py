"""Draw what was measured: throughput as bars, latency over offered load as lines.

```
python -m benchmarks.pictures benchmarks/measured/....json docs/pictures
```

writes ``throughput`` and ``latency`` there, each as SVG and as PNG. The same figures give the same
files, byte for byte.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from benchmarks.peers import OURS
from benchmarks.plots import Record, bars, caption, lines

COLOURS = {
    OURS: "#0b6e4f",
    "mosec": "#d1495b",
    "litserve": "#edae49",
    "ray": "#3d7ea6",
    "triton": "#8d96a3",
}
OTHER = "#2e4057"
TITLES = {
    "echo_batched": "echo, batches of 32 within 5 ms",
    "echo": "echo, no batching",
    "sleep:1": "sleep 10 ms per batch of 8, one replica",
}


def draw(whole: Record, folder: Path) -> list[Path]:
    """Draw a result into a folder; returns what was written."""
    matplotlib.rcParams["svg.hashsalt"] = "meshline"
    folder.mkdir(parents=True, exist_ok=True)
    written = _save(_throughput(whole), folder / "throughput")
    if whole.get("points"):
        written += _save(_latency(whole), folder / "latency")
    return written


def _throughput(whole: Record) -> Figure:
    keys, peers = bars(whole["medians"])
    figure = Figure(figsize=(9, 0.8 + 0.16 * len(keys) * (len(peers) + 0.8)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(peers)
    for number, (peer, rates) in enumerate(peers.items()):
        places = [place + number * height for place in range(len(keys))]
        drawn = axes.barh(places, rates, height, label=peer, color=COLOURS.get(peer, OTHER))
        axes.bar_label(drawn, [f"{rate:,.0f}" if rate else "" for rate in rates], padding=3, size=7)
    axes.set_yticks([place + 0.4 - height / 2 for place in range(len(keys))])
    axes.set_yticklabels(keys)
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    lowest = min(rate for rates in peers.values() for rate in rates if rate)
    axes.set_xlim(lowest / 4, max(map(max, peers.values())) * 3)
    axes.set_xlabel("requests per second, logarithmic: more is better")
    axes.legend(fontsize=8)
    _finish(figure, axes, whole)
    return figure


def _latency(whole: Record) -> Figure:
    services = lines(whole["points"])
    figure = Figure(figsize=(4.5 * len(services), 4), layout="constrained")
    for axes, (service, peers) in zip(
        figure.subplots(1, len(services), squeeze=False)[0], services.items(), strict=True
    ):
        for peer, line in peers.items():
            offered, p50, p99 = zip(*line, strict=True)
            colour = COLOURS.get(peer, OTHER)
            axes.plot(offered, p50, color=colour, marker="o", markersize=4, label=peer)
            axes.plot(offered, p99, color=colour, marker="o", markersize=4, linestyle="--")
        axes.set_title(TITLES.get(service, service), size=10)
        axes.set_xlabel("offered requests per second, Poisson arrivals")
        axes.set_ylabel("latency in ms, from when each was due")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        _finish(figure, axes, whole)
    _name_servers(figure)
    return figure


def _name_servers(figure: Figure) -> None:
    """One legend for all parts: a server that failed in one of them is in another."""
    shown = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            shown[label] = handle
    figure.legend(
        shown.values(),
        shown.keys(),
        loc="outside upper center",
        ncols=len(shown),
        fontsize=8,
        title="p50, and dashed p99",
    )


def _finish(figure: Figure, axes: Axes, whole: Record) -> None:
    axes.grid(alpha=0.3)
    figure.supxlabel(caption(whole), size=7, color="grey")


def _save(figure: Figure, path: Path) -> list[Path]:
    svg, png = path.with_suffix(".svg"), path.with_suffix(".png")
    figure.savefig(svg, metadata={"Date": None})
    figure.savefig(png, dpi=110, metadata={"Software": None})
    return [svg, png]


def main(arguments: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="pictures", description="draw a result of `make bench`")
    parser.add_argument("result", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    whole = json.loads(options.result.read_text(encoding="utf-8"))
    for path in draw(whole, options.folder):
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
