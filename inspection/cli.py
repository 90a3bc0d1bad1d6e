"""`rnnserve inspect MODEL` and `rnnserve add MODEL --repository DIR`."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inspection.config import DEFAULT_IDLE_SECONDS, DEFAULT_MAX_BATCH_SIZE
from inspection.errors import NotProven, Refused

if TYPE_CHECKING:
    from inspection.choices import Choices
    from inspection.findings import Findings
    from inspection.proof import Proof

NOT_PROVEN, REFUSED = 1, 2


class Provider(StrEnum):
    """Where the model is to run."""

    CPU = "cpu"
    CUDA = "cuda"


ModelPath = Annotated[Path, typer.Argument(help="An ONNX file.")]
States = Annotated[
    list[str] | None,
    typer.Option("--state", help="INPUT=OUTPUT: a state, instead of the guess; repeatable."),
]
Stateless = Annotated[bool, typer.Option("--stateless", help="The model has no states.")]
Constants = Annotated[
    list[str] | None,
    typer.Option(
        "--constant",
        help="INPUT=VALUE: the same for every request; VALUE may be a .npy file; repeatable.",
    ),
]
Sizes = Annotated[
    list[str] | None,
    typer.Option("--size", help="AXIS=N: a size that an axis of any size takes; repeatable."),
]


def inspect(
    model: Annotated[Path, typer.Argument(help="An ONNX file, or an entry of a repository.")],
    provider: Annotated[
        Provider, typer.Option(help="cuda lists every node that would not run on the GPU.")
    ] = Provider.CPU,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    state: States = None,
    stateless: Stateless = False,
    constant: Constants = None,
    size: Sizes = None,
) -> None:
    """Tell what an ONNX file's states, axes and constants probably are, and why."""
    with _one_line_errors():
        if model.is_dir():
            _inspect_entry(model, provider is Provider.CUDA, as_json)
        else:
            from inspection.choices import parse

            choices = parse(state, stateless, constant, size)
            _inspect_file(model, choices, provider is Provider.CUDA, as_json)


def add(
    model: ModelPath,
    repository: Annotated[Path, typer.Option(help="The folder of models; made at need.")],
    name: Annotated[
        str | None, typer.Option(help="The name to serve it under.", show_default="the file's")
    ] = None,
    state: States = None,
    stateless: Stateless = False,
    constant: Constants = None,
    size: Sizes = None,
    max_batch_size: Annotated[
        int, typer.Option(min=0, help="So many sessions may share a step; 0: one at a time.")
    ] = DEFAULT_MAX_BATCH_SIZE,
    idle_seconds: Annotated[
        float, typer.Option(min=1e-6, help="A session ends after so long without a request.")
    ] = DEFAULT_IDLE_SECONDS,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a model of that name.")
    ] = False,
) -> None:
    """Put an ONNX file into a model repository with a guessed configuration, and prove it."""
    with _one_line_errors():
        from inspection.adding import add as add_model
        from inspection.choices import parse

        choices = parse(state, stateless, constant, size, batched=max_batch_size > 0)
        entry, findings, proof = add_model(
            model,
            repository,
            choices,
            name=name,
            max_batch_size=max_batch_size,
            idle_seconds=idle_seconds,
            replace=replace,
        )
    _print_added(entry, findings, proof)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except NotProven as error:
        raise _failed(error, NOT_PROVEN) from error
    except Refused as error:
        raise _failed(error, REFUSED) from error
    except ModuleNotFoundError as missing:
        hint = f"this command needs {missing.name}: pip install 'rnnserve[server]'"
        raise _failed(hint, REFUSED) from missing


def _inspect_file(path: Path, choices: "Choices", detailed: bool, as_json: bool) -> None:
    from inspection.findings import find
    from inspection.placement import placement_of
    from inspection.report import show
    from inspection.summary import as_dict, next_command

    findings = find(path, choices)
    placement = placement_of(findings.model.proto)
    if as_json:
        typer.echo(json.dumps(as_dict(findings, placement), indent=2))
    else:
        _print(show(findings, placement, detailed))
        _print(f"\nNext: {next_command(findings)}")  # on one line: it is there to be copied


def _inspect_entry(directory: Path, detailed: bool, as_json: bool) -> None:
    from inspection.entry_report import entry_as_dict, show_entry
    from inspection.placement import placement_of
    from inspection.reading import read
    from server.errors import StartupError
    from server.repository.load import load

    try:
        specs = load(directory)
    except StartupError as error:
        raise Refused(str(error)) from None
    versions = [(spec, placement_of(read(spec.onnx_path).proto)) for spec in specs]
    if as_json:
        typer.echo(json.dumps([entry_as_dict(*version) for version in versions], indent=2))
    else:
        for version in versions:
            _print(show_entry(*version, detailed))


def _print_added(entry: Path, findings: "Findings", proof: "Proof") -> None:
    lines: Iterable[str] = [
        *(f"state {pair.input} → {pair.output} ({pair.confidence})" for pair in findings.pairs),
        *(f"constant {c.name} = {c.text}: {c.why}" for c in findings.constants),
        *(f"note: {note}" for note in findings.notes),
    ]
    if not findings.pairs:
        lines = [
            *lines,
            "no states found: every request stands alone; if it has some, name each with"
            " --state INPUT=OUTPUT",
        ]
    batch = "sessions share batches" if findings.batched else "one request at a time"
    for line in (
        *lines,
        f"{batch}: {findings.batch.why}",
        f"proven: {proof}",
        f"wrote {entry}; its config.pbtxt says why each line is there",
        f"Next: rnnserve serve --repository {entry.parent}",
    ):
        _print(line)


def _print(what: Any) -> None:
    from rich.console import Console

    Console().print(what, markup=False, highlight=False, soft_wrap=isinstance(what, str))


def _failed(error: Exception | str, code: int) -> typer.Exit:
    typer.echo(f"Error: {error}", err=True)
    return typer.Exit(code)
