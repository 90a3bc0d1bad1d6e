"""From a trained model to a proven entry of a model repository."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Unpack

from export.entry import staged, write
from export.errors import ExportError, ProofFailed
from export.precision import Precision
from export.program import program
from export.real_data import real_sequences
from export.verify import verify
from inspection.placement import placement_of
from inspection.staging import CONFIG_FILE, MODEL_FILE, VERSION, publish
from models import runs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import onnx
    from torch import nn

    from export.cases import Array
    from export.options import Options
    from export.program import Program
    from export.proof import Proof
    from inspection.placement import Placement


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote, and why it may be believed."""

    name: str
    config_path: Path
    model_path: Path
    proof: Proof
    placement: Placement


def silent(what: str) -> None:
    """The progress of those who do not look."""


def to_onnx(model: nn.Module, **options: Unpack[Options]) -> onnx.ModelProto:
    """The graph `(inputs, *states) → (outputs, *states)`, not yet proven.

    Args:
        model: a built Sequential or recurrent layer, or any torch module with such layers in it.
            Layers that are called without an initial state carry theirs from request to request.
        options: see `export.options.Options`.

    Raises:
        UnsupportedLayer: the model has no weights yet, or even torch's exporter does not know it.
        ExportError: a name, a number or an input that does not fit.
    """
    return program(model, **options).model


def install(
    model: nn.Module,
    repository: Path,
    *,
    real: Sequence[Array] = (),
    progress: Callable[[str], None] = silent,
    **options: Unpack[Options],
) -> Exported:
    """Export a model into a repository, if the graph computes what the model computes.

    An older export of that name is replaced, once the new one is proven.

    Args:
        model: as for `to_onnx`.
        repository: the folder of models; made if it is not there.
        real: inputs from the model's data set, one array each without a batch axis, for the proof.
        progress: called with a few words before each piece of work.
        options: as for `to_onnx`.

    Raises:
        ProofFailed: it does not. What the repository held is unchanged.
        ExportError: the model cannot be exported, or the repository cannot be written.
    """
    progress("building the graph")
    return install_program(program(model, **options), repository, real=real, progress=progress)


def install_program(
    made: Program,
    repository: Path,
    *,
    real: Sequence[Array] = (),
    progress: Callable[[str], None] = silent,
) -> Exported:
    """As `install`, for a graph that is there already. What is proven is the file, as written."""
    if made.precision is not Precision.FLOAT32:  # first the graph, then what rounding makes of it
        exact = made.exact.SerializeToString()
        _demand(
            verify(made.plan, exact, progress=lambda what: progress(f"proving float32: {what}"))
        )
    with staged(repository, made.name) as folder:
        path = write(folder, made.model)
        proof = verify(
            made.plan,
            str(path),
            made.signature,
            real,
            limit=made.precision.limit,
            progress=lambda what: progress(f"proving: {what}"),
        )
        _demand(proof)
        publish(folder, repository / made.name, ExportError)
    return Exported(
        name=made.name,
        config_path=repository / made.name / CONFIG_FILE,
        model_path=repository / made.name / VERSION / MODEL_FILE,
        proof=proof,
        placement=placement_of(made.model),
    )


def _demand(proof: Proof) -> None:
    if not proof.passed:
        raise ProofFailed(proof)


def export_run(
    run_dir: Path,
    repository: Path,
    *,
    progress: Callable[[str], None] = silent,
    **options: Unpack[Options],
) -> list[Exported]:
    """Export the model of a training run, or, where it has parts, each as a model of its own.

    A model with a method `parts() → {part: module}` becomes `<name>-<part>` for each: an encoder
    and a decoder, say, that are served side by side.

    Args:
        run_dir: what `rnnserve train` wrote.
        repository: as for `install`.
        progress: as for `install`.
        options: as for `to_onnx`; `name` is the run's by default.

    Raises:
        ExportError: with its subclasses; of the model that failed nothing was written.
    """
    progress("reading the run")
    run = _load(run_dir)
    name = options.get("name") or run.name
    parts = getattr(run.model, "parts", None)
    if parts is None:
        options["name"] = name
        real = real_sequences(run)
        return [install(run.model, repository, real=real, progress=progress, **options)]
    exported = []
    for part, module in parts().items():
        options["name"] = f"{name}-{part}"
        exported.append(install(module, repository, progress=progress, **options))
    return exported


def _load(run_dir: Path) -> runs.Run:
    try:
        return runs.load(run_dir)
    except runs.RunError as error:
        raise ExportError(str(error)) from error
    except OSError as error:
        raise ExportError(f"cannot read {run_dir}: {error.strerror}") from error
