"""The course of a training, as a table and as a picture."""

from __future__ import annotations

import csv
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.training.fit import Epoch
    from models.training.task import Baseline, Metric


def write_csv(path: Path, history: Sequence[Epoch], metric: Metric) -> None:
    """One row per epoch, with a header in which the metric has its own name."""
    named = {"metric": metric.key, "validation_metric": f"validation_{metric.key}"}
    rows = [
        {named.get(key, key): value for key, value in asdict(epoch).items()} for epoch in history
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def draw(
    path: Path,
    history: Sequence[Epoch],
    kept: int,
    metric: Metric,
    baseline: Baseline,
    title: str,
) -> None:
    """A PNG with loss and metric over the epochs; a line marks the epoch that was `kept`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    losses, metrics = figure.subplots(1, 2)
    for axes, quantity, name in (
        (losses, "loss", "loss"),
        (metrics, "metric", f"{metric.name} {metric.unit}".rstrip()),
    ):
        _line(axes, history, quantity, "training")
        _line(axes, history, f"validation_{quantity}", "validation")
        axes.axvline(kept, color="grey", linestyle=":", label="kept")
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
    metrics.axhline(baseline.value, color="grey", linestyle="--", label="baseline")
    for axes in (losses, metrics):
        axes.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=100)


def _line(axes: Any, history: Sequence[Epoch], quantity: str, label: str) -> None:
    """One curve; none where there are no values."""
    points = [(epoch.epoch, getattr(epoch, quantity)) for epoch in history]
    points = [(epoch, value) for epoch, value in points if value is not None]
    if points:
        axes.plot(*zip(*points, strict=True), label=label)
