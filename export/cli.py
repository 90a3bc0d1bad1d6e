"""`rnnserve export RUN --repository DIR`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from export.config import DEFAULT_IDLE_SECONDS, DEFAULT_MAX_BATCH_SIZE
from export.errors import ExportError, ProofFailed

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from export.pipeline import Exported
    from export.proof import Proof

REFUSED, NOT_PROVEN = 2, 1


def export(
    run: Annotated[Path, typer.Argument(help="The folder that `rnnserve train` wrote.")],
    repository: Annotated[Path, typer.Option(help="The folder of models; made at need.")],
    name: Annotated[
        str | None, typer.Option(help="The name to serve it under.", show_default="the run's own")
    ] = None,
    max_batch_size: Annotated[
        int, typer.Option(min=1, help="So many sessions may share a step.")
    ] = DEFAULT_MAX_BATCH_SIZE,
    idle_seconds: Annotated[
        float, typer.Option(help="A session ends after so long without a request.")
    ] = DEFAULT_IDLE_SECONDS,
) -> None:
    """Export a trained model to ONNX, prove it against torch, put it into a model repository.

    An older export of the same name is replaced, once the new one is proven.
    """
    from rich.console import Console

    console, errors = Console(), Console(stderr=True)
    try:
        with errors.status("loading torch") as status:
            from export.pipeline import export_run

            exported = export_run(
                run,
                repository,
                name=name,
                max_batch_size=max_batch_size,
                idle_seconds=idle_seconds,
                progress=status.update,
            )
    except ProofFailed as failure:
        console.print(proof_table(failure.proof))
        raise _failed(errors, failure, NOT_PROVEN) from failure
    except ExportError as error:
        raise _failed(errors, error, REFUSED) from error
    _print_success(console, exported, repository)


def proof_table(proof: "Proof") -> "Table":
    """The errors of every comparison, one line each."""
    from rich import box
    from rich.table import Table

    table = Table(title="ONNX Runtime against torch, each sequence whole", box=box.SIMPLE)
    for heading in ("comparison", "tensor"):
        table.add_column(heading, overflow="fold")
    for heading in ("max abs", "max rel", "limit"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in proof.rows:
        errors = (f"{value:.1e}" for value in (row.max_abs, row.max_rel, row.limit))
        verdict = "[green]ok[/green]" if row.passed else "[bold red]FAILED[/bold red]"
        table.add_row(row.comparison, row.tensor, *errors, verdict)
    return table


def _print_success(console: "Console", exported: "Exported", repository: Path) -> None:
    console.print(proof_table(exported.proof))
    for line in (
        str(exported.placement),
        f"wrote {exported.config_path}",
        f"wrote {exported.model_path}",
        f"Next: rnnserve serve --repository {repository}",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _failed(errors: "Console", error: ExportError, code: int) -> typer.Exit:
    errors.print(f"Error: {error}", markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(code)
