"""`rnnserve import-keras`: a model that Keras saved as a run folder, as training leaves one."""

from __future__ import annotations

import math
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from models.keras_files.plan import Step
    from models.keras_files.saved import SavedModel
    from models.sequential import Sequential

FAILED, REFUSED = 1, 2
ENDINGS = re.compile(r"(\.weights)?\.h5$|\.keras$")


def import_keras(
    file: Annotated[Path, typer.Argument(help="A .keras or .h5 file that holds a whole model.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The run folder.", show_default="runs/NAME"),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="What the model is to be called.", show_default="as the file"),
    ] = None,
) -> None:
    """Import a model that Keras saved, any version from 2 on.

    Writes a run folder, as `rnnserve train` does, for `rnnserve export`.
    Weights of CuDNNLSTM and CuDNNGRU are converted. What the model must be
    made of: a row of SimpleRNN, GRU, LSTM, ConvLSTM2D, RNN of such cells,
    CuDNNGRU, CuDNNLSTM, Dense and Masking layers.
    """
    from rich.console import Console

    from models import runs
    from models.keras_files.errors import KerasFileError
    from models.keras_files.loading import assemble
    from models.keras_files.plan import plan_of
    from models.keras_files.reading import read

    console = Console()
    name = name or re.sub(r"[^A-Za-z0-9_.-]", "_", ENDINGS.sub("", file.name))
    run_dir = output or Path("runs") / name
    try:
        saved = read(file)
        if saved.config is None:
            _show_weights(console, saved)
        plan = plan_of(saved)
        model = assemble(saved, plan)
    except KerasFileError as error:
        _fail(str(error), REFUSED)
    except OSError as error:
        _fail(f"cannot read {file}: {error.strerror or error}", FAILED)
    _show_steps(console, saved, plan.steps)
    facts = {"imported_from": file.name, "keras_version": saved.keras_version}
    try:
        runs.save(run_dir, model, name, {**facts, "parameters": model.count_params()})
    except ValueError as error:
        _fail(str(error), REFUSED)
    except OSError as error:
        _fail(f"cannot write {run_dir}: {error.strerror or error}", FAILED)
    _say_what_is_next(model, run_dir)


def _show_weights(console: Console, saved: SavedModel) -> None:
    """What a file of weights alone holds."""
    rows = [
        (layer.name, *_sizes([array.shape for array in layer.arrays.values()]))
        for layer in saved.layers
        if layer.arrays
    ]
    _table(console, saved, ("layer in the file",), rows)


def _show_steps(console: Console, saved: SavedModel, steps: list[Step]) -> None:
    """What the layers of the file have become."""
    rows = []
    for step in steps:
        weights = [] if step.layer is None else [tuple(w.shape) for w in step.layer.weights]
        rows.append((step.name, _became(step), *_sizes(weights)))
    _table(console, saved, ("layer", "class"), rows)


def _became(step: Step) -> str:
    """The class, with ours if that has another name, or why there is none."""
    if step.layer is None:
        return f"{step.class_name}, {step.note}"
    here = type(step.layer).__name__
    return here if here == step.class_name else f"{step.class_name} → {here}"


def _sizes(shapes: list[tuple[int, ...]]) -> tuple[str, str]:
    """The shapes of a layer's weights, and how many numbers they are."""
    text = ", ".join("x".join(map(str, shape)) for shape in shapes)
    return text, f"{sum(math.prod(shape) for shape in shapes):,}"


def _table(
    console: Console, saved: SavedModel, headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]
) -> None:
    from rich import box
    from rich.table import Table

    version = f", written by Keras {saved.keras_version}" if saved.keras_version else ""
    table = Table(title=f"{saved.path.name}{version}", box=box.SIMPLE, title_justify="left")
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    table.add_column("weights", overflow="fold")
    table.add_column("parameters", justify="right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _say_what_is_next(model: Sequential, run_dir: Path) -> None:
    # Not through rich: lines to copy must not be wrapped.
    folder = shlex.quote(str(run_dir))
    typer.echo(f"wrote {folder}")
    last_only = [layer.name for layer in model.recurrent_layers if not layer.return_sequences]
    if last_only:
        typer.echo(
            f"{', '.join(last_only)} has return_sequences=False: the model answers once, at the "
            "end of a sequence, and `rnnserve export` takes models that answer at every timestep. "
            "From Python, `models.runs.load` gives it back."
        )
    else:
        typer.echo(f"Next: rnnserve export {folder} --repository repository")


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"Error: {message}", err=True)
    raise typer.Exit(code)
