"""`rnnserve export RUN --repository DIR`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from export.config import DEFAULT_IDLE_SECONDS, DEFAULT_MAX_BATCH_SIZE
from export.errors import ExportError, ProofFailed
from export.proof import RELATIVE_LIMIT

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from export.pipeline import Exported
    from export.proof import Proof

REFUSED, NOT_PROVEN = 2, 1


def export(
    run: Annotated[
        Path, typer.Argument(help="The folder that `rnnserve train` or `import-keras` wrote.")
    ],
    repository: Annotated[Path, typer.Option(help="The folder of models; made at need.")],
    name: Annotated[
        str | None, typer.Option(help="The name to serve it under.", show_default="the run's own")
    ] = None,
    target: Annotated[
        Literal["cuda", "cpu"],
        typer.Option(help="Prefer the forms that stay on the GPU, or the fastest on a CPU."),
    ] = "cuda",
    mask: Annotated[
        bool, typer.Option("--mask", help="Give it an input that says which timesteps count.")
    ] = False,
    one_step: Annotated[
        bool,
        typer.Option(
            "--one-step", help="A graph without a loop, for clients that send single timesteps."
        ),
    ] = False,
    dtype: Annotated[
        Literal["float32", "float16"],
        typer.Option(help="What it computes with; float16 shows its error against float32."),
    ] = "float32",
    quantize: Annotated[
        bool, typer.Option("--quantize", help="Weights as int8; shows the error, too.")
    ] = False,
    max_batch_size: Annotated[
        int, typer.Option(min=1, help="So many sessions may share a step.")
    ] = DEFAULT_MAX_BATCH_SIZE,
    idle_seconds: Annotated[
        float, typer.Option(help="A session ends after so long without a request.")
    ] = DEFAULT_IDLE_SECONDS,
) -> None:
    """Export a trained model to ONNX, prove it against torch, put it into a model repository.

    A model of several parts, as an encoder with a decoder, becomes several models. An older export
    of the same name is replaced, once the new one is proven.
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
                target=target,
                mask=mask,
                one_step=one_step,
                dtype=dtype,
                quantize=quantize,
                max_batch_size=max_batch_size,
                idle_seconds=idle_seconds,
                progress=status.update,
            )
    except ProofFailed as failure:
        console.print(proof_table(failure.proof))
        raise _failed(errors, failure, NOT_PROVEN) from failure
    except ExportError as error:
        raise _failed(errors, error, REFUSED) from error
    for each in exported:
        _print_success(console, each)
    _print(console, f"Next: rnnserve serve --repository {repository}")


def proof_table(proof: "Proof", title: str = "") -> "Table":
    """The errors of every comparison, one line each."""
    from rich import box
    from rich.table import Table

    table = Table(title=title or "ONNX Runtime against torch, each request whole", box=box.SIMPLE)
    for heading in ("comparison", "tensor"):
        table.add_column(heading, overflow="fold")
    for heading in ("max abs", "max rel", "limit"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in proof.rows:
        errors = [f"{value:.1e}" for value in (row.max_abs, row.max_rel)]
        limit = "none" if row.limit == float("inf") else f"{row.limit:.1e}"
        verdict = "[green]ok[/green]" if row.passed else "[bold red]FAILED[/bold red]"
        table.add_row(row.comparison, row.tensor, *errors, limit, verdict)
    return table


def _print_success(console: "Console", exported: "Exported") -> None:
    title = f"{exported.name}: ONNX Runtime against torch, each request whole"
    console.print(proof_table(exported.proof, title))
    if any(RELATIVE_LIMIT < row.limit < float("inf") for row in exported.proof.rows):
        _print(console, "Limits above 1e-05 are those of a chaotic model: see `export.verify`.")
    for line in (
        str(exported.placement),
        f"wrote {exported.config_path}",
        f"wrote {exported.model_path}",
    ):
        _print(console, line)


def _print(console: "Console", line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _failed(errors: "Console", error: ExportError, code: int) -> typer.Exit:
    errors.print(f"Error: {error}", markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(code)
