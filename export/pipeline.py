"""From a trained model to a proven entry of a model repository."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import models
from export.assemble import assemble
from export.config import DEFAULT_IDLE_SECONDS, DEFAULT_MAX_BATCH_SIZE, Serving
from export.describe import describe
from export.entry import CONFIG_FILE, MODEL_FILE, VERSION, publish, staged, write
from export.errors import ExportError, ProofFailed, UnsupportedLayer
from export.placement import placement_of
from export.real_data import real_sequences
from export.signature import signature_of
from export.verify import verify
from models import runs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import onnx

    from export.description import Array
    from export.placement import Placement
    from export.proof import Proof


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


def to_onnx(
    model: models.Sequential,
    *,
    name: str | None = None,
    max_batch_size: int = DEFAULT_MAX_BATCH_SIZE,
    idle_seconds: float = DEFAULT_IDLE_SECONDS,
) -> onnx.ModelProto:
    """The graph `(input, *states) → (output, *states)`, not yet proven.

    Args:
        model: a built Sequential.
        name: of the served model; the torch model's own by default.
        max_batch_size: rows that the server may run at once.
        idle_seconds: without a request for so long, a session ends.

    Raises:
        UnsupportedLayer: the model holds what has no ONNX form here.
        ExportError: a name or a number that cannot be served.
    """
    serving = Serving(name or model.name, max_batch_size, idle_seconds)
    return assemble(describe(model), serving)


def export_run(
    run_dir: Path,
    repository: Path,
    *,
    name: str | None = None,
    max_batch_size: int = DEFAULT_MAX_BATCH_SIZE,
    idle_seconds: float = DEFAULT_IDLE_SECONDS,
    progress: Callable[[str], None] = silent,
) -> Exported:
    """Export the model of a training run.

    Args:
        run_dir: what `rnnserve train` wrote.
        repository: the folder of models; made if it is not there.
        name: of the served model; the run's by default. An older export of that name is replaced.
        max_batch_size: as for `to_onnx`.
        idle_seconds: as for `to_onnx`.
        progress: called with a few words before each piece of work.

    Raises:
        ExportError: with its subclasses; what the repository held is then unchanged.
    """
    progress("reading the run")
    run = _load(run_dir)
    model = _sequential(run)
    progress("building the graph")
    graph = to_onnx(
        model, name=name or run.name, max_batch_size=max_batch_size, idle_seconds=idle_seconds
    )
    return install(model, graph, repository, real=real_sequences(run), progress=progress)


def install(
    model: models.Sequential,
    graph: onnx.ModelProto,
    repository: Path,
    *,
    real: Sequence[Array] = (),
    progress: Callable[[str], None] = silent,
) -> Exported:
    """Write a graph of `to_onnx` into the repository if it computes what the model computes.

    What is proven is the file, as it was written. An older export of that name is replaced.

    Raises:
        ProofFailed: it does not. What the repository held is unchanged.
        ExportError: the repository cannot be written, or the name is another tool's model.
    """
    signature, name = signature_of(describe(model)), graph.graph.name
    with staged(repository, name) as staging:
        path = write(staging, graph)
        proof = verify(
            model, str(path), signature, real, progress=lambda what: progress(f"proving: {what}")
        )
        if not proof.passed:
            raise ProofFailed(proof)
        publish(staging, repository / name)
    return Exported(
        name=name,
        config_path=repository / name / CONFIG_FILE,
        model_path=repository / name / VERSION / MODEL_FILE,
        proof=proof,
        placement=placement_of(graph),
    )


def _load(run_dir: Path) -> runs.Run:
    try:
        return runs.load(run_dir)
    except runs.RunError as error:
        raise ExportError(str(error)) from error
    except OSError as error:
        raise ExportError(f"cannot read {run_dir}: {error.strerror}") from error


def _sequential(run: runs.Run) -> models.Sequential:
    if not isinstance(run.model, models.Sequential):
        raise UnsupportedLayer(
            f"{run.directory} holds a {type(run.model).__name__}; only a Sequential has an ONNX "
            "form here"
        )
    return run.model
