"""`rnnserve train`: trains an example model and leaves a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from models.training.example import Metrics
    from models.training.fit import Epoch


def train(
    name: Annotated[str, typer.Argument(help="The example to train, such as vowels.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The run folder.", show_default="runs/NAME"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")] = 0,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="At most so many epochs.", show_default="the example's own"),
    ] = None,
) -> None:
    """Train an example model on real data."""
    import torch
    from rich.console import Console

    from models.examples import EXAMPLES
    from models.training.example import train_example

    if name not in EXAMPLES:
        known = ", ".join(EXAMPLES)
        typer.echo(f"Error: there is no example '{name}'; known are: {known}", err=True)
        raise typer.Exit(2)
    # The matrices are small: more threads only wait for each other. And with one thread the result
    # does not depend on the number of cores.
    torch.set_num_threads(1)
    example = EXAMPLES[name]
    run_dir = output or Path("runs") / name
    console = Console()
    console.print(example.description)
    with _progress(console) as progress:
        task = progress.add_task("training", total=epochs or example.settings.epochs, status="")
        try:
            metrics = train_example(
                name,
                example,
                run_dir,
                seed,
                epochs,
                lambda epoch: progress.update(task, advance=1, status=_status(epoch)),
            )
        except OSError as error:
            typer.echo(f"Error: cannot write {run_dir}: {error.strerror or error}", err=True)
            raise typer.Exit(1) from error
        progress.update(task, total=metrics.epochs)
    _report(console, run_dir, metrics)


def _progress(console: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[status]}"),
        console=console,
    )


def _status(epoch: Epoch) -> str:
    return f"loss {epoch.validation_loss:.3f}, accuracy {epoch.validation_accuracy:.3f}"


def _report(console: Console, run_dir: Path, metrics: Metrics) -> None:
    from rich.table import Table

    table = Table(title=f"{run_dir}", show_header=False, title_justify="left")
    table.add_row("test accuracy", f"{metrics.accuracy:.4f}")
    table.add_row("baseline (most frequent class)", f"{metrics.baseline:.4f}")
    table.add_row("validation accuracy", f"{metrics.validation_accuracy:.4f}")
    table.add_row("parameters", f"{metrics.parameters:,}")
    table.add_row("epochs", f"{metrics.epochs}, the best was {metrics.best_epoch}")
    table.add_row("seed", f"{metrics.seed}")
    table.add_row("seconds", f"{metrics.seconds:.1f}")
    console.print(table)
    # Not through rich: a line to copy must not be wrapped.
    typer.echo(f"Next: rnnserve export {run_dir} --repository repository")
