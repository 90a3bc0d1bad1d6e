"""Nothing reaches a repository without its proof, and nothing is lost without need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import export
import models
from export.pipeline import install_program
from export.program import Program, program
from inspection.staging import publish
from server.repository.load import load

if TYPE_CHECKING:
    from pathlib import Path


def files(folder: Path) -> dict[str, bytes]:
    """Every file below, hidden ones included, with its content."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture
def wrong(small: models.Sequential) -> Program:
    """A valid graph with two columns of a weight exchanged."""
    made = program(small)
    graph = made.model
    (tensor,) = [t for t in graph.graph.initializer if t.name == "lstm/kernel"]
    value = np.ascontiguousarray(np.roll(numpy_helper.to_array(tensor), 1, axis=-1))
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    onnx.checker.check_model(graph, full_check=True)
    return made


def test_what_it_writes(small: models.Sequential, tmp_path: Path) -> None:
    graph = export.to_onnx(small)
    exported = export.install(small, tmp_path / "new" / "repository")
    entry = tmp_path / "new" / "repository" / "tested"
    assert (exported.config_path, exported.model_path) == (
        entry / "config.pbtxt",
        entry / "1" / "model.onnx",
    )
    assert files(entry.parent).keys() == {"tested/config.pbtxt", "tested/1/model.onnx"}
    written = onnx.load(exported.model_path)
    assert written == graph
    (embedded,) = [e.value for e in written.metadata_props if e.key == "rnnserve.config"]
    assert exported.config_path.read_text() == embedded
    assert (written.producer_name, bool(written.producer_version)) == ("rnnserve", True)
    assert exported.proof.passed
    assert exported.placement.fallbacks == ()
    assert entry.stat().st_mode & 0o777 == 0o755


def test_a_wrong_graph_leaves_nothing(
    small: models.Sequential, wrong: Program, tmp_path: Path
) -> None:
    with pytest.raises(export.ProofFailed) as failure:
        install_program(wrong, tmp_path)
    assert failure.value.proof.failures
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_graph_leaves_the_older_entry(
    small: models.Sequential, wrong: Program, tmp_path: Path
) -> None:
    export.install(small, tmp_path)
    before = files(tmp_path)
    with pytest.raises(export.ProofFailed):
        install_program(wrong, tmp_path)
    assert files(tmp_path) == before


def test_a_graph_of_one_step_takes_requests_of_any_length(
    small: models.Sequential, tmp_path: Path
) -> None:
    export.install(small, tmp_path, one_step=True)
    (spec,) = load(tmp_path / "tested")
    assert (spec.may_be_cut, spec.piece) == (True, 1)
    assert [tensor.shape for tensor in (*spec.inputs, *spec.outputs)] == [(-1, -1, 5), (-1, -1, 3)]


def test_retraining_replaces_the_entry(build: Any, tmp_path: Path) -> None:
    for layer in (models.GRU(3, return_sequences=True), models.LSTM(2, return_sequences=True)):
        model = build(layer)
        graph = export.to_onnx(model)
        exported = export.install(model, tmp_path)
        assert onnx.load(exported.model_path) == graph
    assert files(tmp_path).keys() == {"tested/config.pbtxt", "tested/1/model.onnx"}


def test_a_foreign_entry_is_left_alone(small: models.Sequential, tmp_path: Path) -> None:
    entry = tmp_path / "tested"
    entry.mkdir()
    (entry / "config.pbtxt").write_text('name: "tested"\n')
    with pytest.raises(export.ExportError, match="did not write"):
        export.install(small, tmp_path)
    assert files(tmp_path) == {"tested/config.pbtxt": b'name: "tested"\n'}


def test_an_entry_with_a_second_version_is_left_alone(
    small: models.Sequential, tmp_path: Path
) -> None:
    export.install(small, tmp_path)
    (tmp_path / "tested" / "2").mkdir()
    with pytest.raises(export.ExportError, match="did not write"):
        export.install(small, tmp_path)
    assert (tmp_path / "tested" / "2").is_dir()


def test_a_repository_that_is_a_file(small: models.Sequential, tmp_path: Path) -> None:
    (tmp_path / "repository").write_text("")
    with pytest.raises(export.ExportError, match="cannot write to"):
        export.install(small, tmp_path / "repository")


def test_a_move_that_fails_puts_the_older_entry_back(
    small: models.Sequential, tmp_path: Path
) -> None:
    export.install(small, tmp_path)
    before = files(tmp_path)
    with pytest.raises(export.ExportError, match="cannot replace"):
        publish(tmp_path / "nobody wrote this", tmp_path / "tested", export.ExportError)
    assert files(tmp_path) == before


def test_real_sequences_are_compared_too(small: models.Sequential, tmp_path: Path) -> None:
    real = [np.zeros((4, 5), np.float32), np.ones((9, 5), np.float32)]
    exported = export.install(small, tmp_path, real=real)
    comparisons = [row.comparison for row in exported.proof.rows if row.tensor == "lstm_c"]
    assert comparisons == [
        f"{schedule}, {source}"
        for source in ("random", "real data")
        for schedule in ("whole", "steps", "strangers", "chunks")
    ]


def test_an_unbuilt_model() -> None:
    with pytest.raises(export.UnsupportedLayer, match="no weights yet"):
        export.to_onnx(models.Sequential([models.Dense(2)]))


def test_float64_weights_become_float32(small: models.Sequential, tmp_path: Path) -> None:
    exported = export.install(small.double(), tmp_path)
    assert exported.proof.passed
    assert next(small.parameters()).dtype is torch.float64  # the model itself is left alone


def test_an_output_name_with_a_quote(build: Any) -> None:
    with pytest.raises(export.ExportError, match="tensor name"):
        export.to_onnx(build(models.Dense(3), output_name='a"b'))


def test_names_that_meet(build: Any) -> None:
    with pytest.raises(export.ExportError, match="two tensors of the model are called"):
        export.to_onnx(build(models.GRU(3, return_sequences=True), output_name="gru_h"))
