"""The picture of docs/scheduling.md: latency against load, as Gao et al. draw it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from bench.simulation.trial import BUCKETS, DELAYED, MERGED, OURS, PADDING, TENS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bench.simulation.studies import Machine, Sweep

PICTURE = Path("docs/scheduling.svg")
COLOURS = {
    OURS: "#d55e00",
    PADDING: "#0072b2",
    DELAYED: "#56b4e9",
    BUCKETS: "#009e73",
    TENS: "#8fce00",
    MERGED: "#7f7f7f",
}


def draw(path: Path, found: dict[Machine, dict[str, Sweep]]) -> None:
    """A column for each machine; a row for each percentile."""
    figure = Figure(figsize=(4 * len(found), 8.5), layout="constrained")
    panels = figure.subplots(3, len(found), sharex="col", squeeze=False)
    for column, (machine, sweeps) in enumerate(found.items()):
        for row, which in enumerate(("p50", "p90", "p99")):
            axes = panels[row][column]
            _panel(axes, sweeps, f"{which}_s")
            if column == 0:
                axes.set_ylabel(f"{which}, ms")
        panels[0][column].set_title(f"{machine.cost}, {machine.lengths}")
        panels[-1][column].set_xlabel("requests a second")
    panels[0][0].legend(fontsize="small")
    # the same numbers give the same file
    with matplotlib.rc_context({"svg.hashsalt": "scheduling"}):
        figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)


def _panel(axes: Axes, sweeps: dict[str, Sweep], which: str) -> None:
    for name, sweep in sweeps.items():
        latencies_ms = [1e3 * getattr(figures, which) for figures in sweep.figures]
        width = 2.4 if name == OURS else 1.2
        axes.plot(sweep.rates, latencies_ms, color=COLOURS[name], linewidth=width, label=name)
    axes.set_yscale("log")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
