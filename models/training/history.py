"""The course of a training, as a table and as a picture."""

from __future__ import annotations

import csv
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from models.training.fit import Epoch

if TYPE_CHECKING:
    from pathlib import Path

    from models.training.fit import Fitted


def write_csv(path: Path, fitted: Fitted) -> None:
    """One row per epoch, with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Epoch)])
        writer.writeheader()
        writer.writerows(asdict(epoch) for epoch in fitted.history)


def draw(path: Path, fitted: Fitted, title: str) -> None:
    """A PNG with loss and accuracy over the epochs; a line marks the epoch that was kept."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    epochs = [epoch.epoch for epoch in fitted.history]
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for prefix, label in (("", "training, with noise"), ("validation_", "validation")):
            axes.plot(epochs, [getattr(e, prefix + quantity) for e in fitted.history], label=label)
        axes.axvline(fitted.best_epoch, color="grey", linestyle=":", label="kept")
        axes.set_xlabel("epoch")
        axes.set_ylabel(quantity)
        axes.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=100)
