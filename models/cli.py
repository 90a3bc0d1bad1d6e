"""`rnnserve train`: trains an example model and leaves a run folder."""

from __future__ import annotations

import difflib
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from models.examples import Example
    from models.training import Outcome

FAILED, MISUSED, INTERRUPTED = 1, 2, 130


def train(
    name: Annotated[
        str | None, typer.Argument(help="The example to train, such as vowels.", show_default=False)
    ] = None,
    show_list: Annotated[
        bool, typer.Option("--list", help="Show all examples, and train nothing.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The run folder.", show_default="runs/NAME"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of all random numbers.", show_default="0"),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="At most so many epochs.", show_default="the example's own"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted training.")
    ] = False,
    device: Annotated[
        str | None,
        typer.Option(help="Where to train: cpu, cuda, cuda:1, …", show_default="cpu"),
    ] = None,
) -> None:
    """Train an example model on real data.

    A training leaves a run folder: the model, for `rnnserve export`;
    metrics.json, history.csv and learning_curve.png; and what
    `tensorboard --logdir` shows, already while it trains.

    Ctrl-C loses nothing but the epoch that it interrupts: the folder holds a
    checkpoint of the last one, and `rnnserve train NAME --resume` goes on from
    there, to the very weights that an uninterrupted training would have
    reached. Without --resume, training starts anew and replaces what is there.

    The same seed gives the same weights on the same machine.
    """
    from rich.console import Console

    from models.examples import EXAMPLES

    console = Console()
    if show_list:
        _show_examples(console, EXAMPLES)
        return
    if name is None:
        _fail("which example? `rnnserve train --list` shows them.", MISUSED)
    if name not in EXAMPLES:
        near = difflib.get_close_matches(name, EXAMPLES, n=1)
        hint = f"Did you mean '{near[0]}'? " if near else ""
        message = f"there is no example '{name}'. {hint}`rnnserve train --list` shows all."
        _fail(message, MISUSED)
    run_dir = output or Path("runs") / name
    outcome = _train(console, name, EXAMPLES[name], run_dir, seed, epochs, device, resume)
    _report(console, run_dir, outcome)
    _say_next(run_dir, EXAMPLES[name])


def _train(
    console: Console,
    name: str,
    example: Example,
    run_dir: Path,
    seed: int | None,
    epochs: int | None,
    device: str | None,
    resume: bool,
) -> Outcome:
    """Trains with a progress bar; exits with one line where that cannot be, or is interrupted.

    What is None is as a training to be resumed was begun, else the default.
    """
    import torch

    from models.training import checkpoint
    from models.training.fit import Diverged
    from models.training.progress import TrainingBar
    from models.training.run import train

    # The matrices are small: more threads only wait for each other. And with one thread the result
    # does not depend on the number of cores.
    torch.set_num_threads(1)
    try:
        begun = checkpoint.load(run_dir).begun if resume else {}
        epochs = epochs or begun.get("epochs", example.settings.epochs)
        seed = begun.get("seed", 0) if seed is None else seed
        device = device or begun.get("device", "cpu")
        _check_device(device)
        console.print(example.title)
        with TrainingBar(console, epochs, example.task.metric) as bar:
            outcome = train(
                example.task(example.data(), seed),
                replace(example.settings, epochs=epochs),
                run_dir,
                name=name,
                title=example.title,
                seed=seed,
                device=device,
                resume=resume,
                on_epoch=bar.epoch,
                on_step=bar.step,
            )
    except OSError as error:
        _fail(f"cannot write {run_dir}: {error.strerror or error}", FAILED)
    except (checkpoint.ResumeError, Diverged, ModuleNotFoundError) as error:
        _fail(str(error), FAILED)
    except KeyboardInterrupt:
        _interrupted(name, run_dir)
    if not bar.moved:
        console.print(f"{run_dir} was finished: there was nothing left to train.", soft_wrap=True)
    return outcome


def _interrupted(name: str, run_dir: Path) -> NoReturn:
    from models.training.checkpoint import CHECKPOINT

    if not (run_dir / CHECKPOINT).is_file():
        _fail("interrupted before there was anything to resume.", INTERRUPTED)
    command = ["rnnserve", "train", name, "--output", str(run_dir), "--resume"]
    typer.echo(f"Interrupted. To go on: {shlex.join(command)}", err=True)
    raise typer.Exit(INTERRUPTED)


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        _fail(f"cannot train on {device}: {error}", MISUSED)


def _show_examples(console: Console, examples: Mapping[str, Example]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for heading in ("name", "structure", "data", "metric", "time, 2 cores"):
        table.add_column(heading, overflow="fold")
    for name, example in examples.items():
        table.add_row(
            name, example.structure, example.source, example.task.metric.name, example.duration
        )
    console.print(table)
    typer.echo("To train one: rnnserve train NAME")


def _report(console: Console, run_dir: Path, outcome: Outcome) -> None:
    from rich.table import Table

    table = Table(title=f"{run_dir}", show_header=False, title_justify="left")

    def value(number: float) -> str:
        return f"{number:.4f}{outcome.unit}"

    better = "higher" if outcome.higher_is_better else "lower"
    table.add_row(f"test {outcome.metric} ({better} is better)", value(outcome.test))
    table.add_row(f"baseline: {outcome.baseline_is}", value(outcome.baseline))
    table.add_row(f"validation {outcome.metric}", value(outcome.validation))
    table.add_row("parameters", f"{outcome.parameters:,}")
    table.add_row("epochs", f"{outcome.epochs}, the best was {outcome.best_epoch}")
    table.add_row("seed", f"{outcome.seed}")
    table.add_row("seconds", f"{outcome.seconds:.1f}")
    console.print(table)


def _say_next(run_dir: Path, example: Example) -> None:
    # Not through rich: lines to copy must not be wrapped.
    folder = shlex.quote(str(run_dir))
    if example.inputs is not None:
        typer.echo(f"Next: rnnserve export {folder} --repository repository")
    typer.echo(f"To see the curves: tensorboard --logdir {folder}")


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"Error: {message}", err=True)
    raise typer.Exit(code)
