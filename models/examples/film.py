"""A film of moving digits and what a model foresees of it, as a picture.

    python -m models.examples.film runs/moving-digits [--output film.png] [--film 0]

Three rows: what came, what the model said would come, and the frame before, which is the guess of
the baseline.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models import runs
from models.examples.moving_digits import TEST_FILMS, held_out_films

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from models.layer import Layer

COLUMNS = 10


def foreseen(model: Layer, frames: Tensor) -> dict[str, Tensor]:
    """Of a film `(T, rows, cols, 1)`, by name: `(T - 1, rows, cols)`, all for frames 2 to T."""
    with torch.inference_mode():
        predicted = model(frames[None, :-1])[0]
    rows = {"what came": frames[1:], "predicted": predicted, "the frame before": frames[:-1]}
    return {name: images[..., 0] for name, images in rows.items()}


def draw(path: Path, rows: dict[str, Tensor]) -> None:
    """A PNG with at most COLUMNS of the frames, evenly spaced, the first and the last among them.

    A row's name comes with its mean squared error over all its frames.
    """
    truth = next(iter(rows.values()))
    shown = torch.linspace(0, len(truth) - 1, min(COLUMNS, len(truth))).round().int().tolist()
    figure = Figure(figsize=(1.1 * len(shown) + 1.6, 1.2 * len(rows) + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), len(shown), squeeze=False)
    for axes, (name, images) in zip(grid, rows.items(), strict=True):
        error = (images - truth).square().mean().item()
        label = name if images is truth else f"{name}\nerror {error:.4f}"
        axes[0].set_ylabel(label, rotation=0, ha="right", va="center")
        for axis, frame in zip(axes, shown, strict=True):
            axis.imshow(images[frame].numpy(), cmap="gray_r", vmin=0, vmax=1)
            axis.set_xticks([])
            axis.set_yticks([])
    for axis, frame in zip(grid[0], shown, strict=True):
        axis.set_title(f"frame {frame + 2}", fontsize="small")
    figure.savefig(path, dpi=100)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 1 where the folder is no run."""
    parser = argparse.ArgumentParser(prog="python -m models.examples.film")
    parser.add_argument("run", type=Path, help="a run folder of `rnnserve train moving-digits`")
    parser.add_argument("--output", type=Path, default=Path("film.png"), help="the PNG to write")
    parser.add_argument(
        "--film", type=int, default=0, choices=range(TEST_FILMS), metavar=f"0…{TEST_FILMS - 1}"
    )
    options = parser.parse_args(arguments)
    try:
        model = runs.load(options.run).model
    except runs.RunError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    _, test = held_out_films()
    draw(options.output, foreseen(model, torch.from_numpy(test[options.film])))
    print(f"{options.output}: film {options.film} of the test set")
    return 0


if __name__ == "__main__":
    sys.exit(main())
