"""How much of an error comes back: the norm of ∂h_T/∂h_t over T - t, drawn for three layers.

    python -m demo.vanishing_gradient [--output docs/vanishing-gradient.svg] [--seeds 20]

Once as Keras initialises the layers, once with one change in each (`CHANGED`). docs/bptt.md says
what there is to see. Takes some seconds on one core.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import matplotlib
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from models import GRU, LSTM, SimpleRNN

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

UNITS, FEATURES = 32, 8
GAPS = 100
"""The largest T - t, in timesteps."""

Recurrent: TypeAlias = "SimpleRNN | LSTM | GRU"
Panel: TypeAlias = "dict[str, Tensor]"
"""A name for each curve, and its norms, one row per seed: `(seeds, GAPS + 1)`."""


def jacobian_norms(layer: Recurrent, x: Tensor) -> Tensor:
    """The spectral norm of ∂h_T/∂s_t for T - t = 0 … T - 1: `(T,)`, by autograd.

    `x (T, D)` is a sequence, `layer` a built one with return_state. s is everything that the layer
    carries from step to step: h, for an LSTM h and c side by side. That is the way back that an
    error in h_T has; the norm says how much of it arrives, along the direction that keeps most.

    The sequence runs in `units` equal copies, so that one backward pass gives the whole Jacobian:
    copy i asks for the gradient of h_T's element i.
    """
    units: int = layer.units
    copies = x.expand(units, *x.shape)
    steps: list[list[Tensor]] = []
    states = None
    for t in range(len(x)):
        _, *states = layer(copies[:, t : t + 1], initial_state=states)
        # in the graph h is made of c; copies stand side by side, as they enter the next step
        states = [state.clone() for state in states]
        steps.append(states)
    gradients = torch.autograd.grad(
        steps[-1][0],
        [state for states in steps for state in states],
        torch.eye(units, dtype=x.dtype),
        materialize_grads=True,  # h_T does not depend on c_T, which stands beside it
    )
    by_state = torch.stack(gradients).reshape(len(steps), -1, units, units)
    norms: Tensor = torch.linalg.matrix_norm(by_state.transpose(1, 2).flatten(2), ord=2)
    return norms.flip(0)


# The layers


def as_initialised(cls: type[Recurrent]) -> Recurrent:
    """With Keras' defaults: orthogonal recurrent kernels, biases 0, an LSTM's forget bias 1."""
    layer = cls(UNITS, return_state=True)
    layer.build((UNITS, None, FEATURES))
    return layer.double()


def change(layer: Recurrent, edit: Callable[[Any, Any], None]) -> Recurrent:
    """`edit` gets recurrent kernel and bias as arrays."""
    kernel, recurrent_kernel, bias = layer.get_weights()
    edit(recurrent_kernel, bias)
    layer.set_weights([kernel, recurrent_kernel, bias])
    return layer


def double_recurrence(recurrent_kernel: Any, bias: Any) -> None:
    recurrent_kernel *= 2


def open_forget_gate(recurrent_kernel: Any, bias: Any) -> None:
    bias[UNITS : 2 * UNITS] = 2  # i, f, c, o


def open_update_gate(recurrent_kernel: Any, bias: Any) -> None:
    bias[:UNITS] = 2  # z, r, h


INITIALISED: dict[str, Callable[[], Recurrent]] = {
    "SimpleRNN": lambda: as_initialised(SimpleRNN),
    "LSTM": lambda: as_initialised(LSTM),
    "GRU": lambda: as_initialised(GRU),
}
CHANGED: dict[str, Callable[[], Recurrent]] = {
    "SimpleRNN, W doubled": lambda: change(as_initialised(SimpleRNN), double_recurrence),
    "LSTM, forget bias 2": lambda: change(as_initialised(LSTM), open_forget_gate),
    "GRU, update bias 2": lambda: change(as_initialised(GRU), open_update_gate),
}


def measure(makers: dict[str, Callable[[], Recurrent]], seeds: int) -> Panel:
    """New weights and a new sequence of unit normal inputs for each seed."""
    panel: Panel = {}
    for name, make in makers.items():
        norms = []
        for seed in range(seeds):
            torch.manual_seed(seed)
            norms.append(jacobian_norms(make(), torch.randn(GAPS + 1, FEATURES).double()))
        panel[name] = torch.stack(norms)
    return panel


def mean(norms: Tensor) -> Tensor:
    """Over the seeds, geometric: the norms of different seeds are orders of magnitude apart."""
    return norms.log().mean(0).exp()


# What is shown


def table(panel: Panel, title: str) -> Table:
    shown = Table(title=title, title_justify="left")
    for heading in ("T - t", *panel):
        shown.add_column(heading, justify="right")
    means = {name: mean(norms) for name, norms in panel.items()}
    for gap in (0, 1, 2, 5, 10, 20, 50, GAPS):
        shown.add_row(str(gap), *(f"{norms[gap]:.1e}" for norms in means.values()))
    return shown


def draw(path: Path, panels: dict[str, Panel]) -> None:
    """The curves side by side, with a band from the smallest to the largest of the seeds."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    every_axes = figure.subplots(1, len(panels), sharey=True)
    for axes, (title, panel) in zip(every_axes, panels.items(), strict=True):
        for (name, norms), colour in zip(
            panel.items(), ("#d55e00", "#0072b2", "#009e73"), strict=True
        ):
            low, high = norms.aminmax(dim=0)
            axes.fill_between(range(GAPS + 1), low, high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(range(GAPS + 1), mean(norms), color=colour, label=name)
        axes.axhline(1, color="black", linewidth=0.8, linestyle=":")
        axes.set(title=title, yscale="log", xlabel=r"$T - t$, timesteps", xlim=(0, GAPS))
        axes.grid(alpha=0.25)
        axes.legend(loc="lower left")
    every_axes[0].set_ylabel(
        "spectral norm of $\\partial h_T / \\partial h_t$\n"
        "(LSTM: of $\\partial h_T / \\partial (h_t, c_t)$)"
    )
    # the same numbers give the same file
    with matplotlib.rc_context({"svg.hashsalt": "vanishing gradient"}):
        figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m demo.vanishing_gradient", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("docs/vanishing-gradient.svg"),
        metavar="FILE",
        help="what to write, .svg or .png (default: %(default)s)",
    )
    parser.add_argument(
        "--seeds", type=int, default=20, metavar="N", help="how many to average (default: 20)"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the matrices are tiny: threads would only wait for each other
    panels = {
        "As Keras initialises them": measure(INITIALISED, options.seeds),
        "With one change in each": measure(CHANGED, options.seeds),
    }
    console = Console()
    for title, panel in panels.items():
        console.print(table(panel, f"\n{title}: ‖∂h_T/∂h_t‖"))
    draw(options.output, panels)
    console.print(f"\nwritten: {options.output}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
