"""Nothing reaches a repository without its proof, and nothing is lost without need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import export
import models
from export.entry import publish

if TYPE_CHECKING:
    from pathlib import Path


def files(folder: Path) -> dict[str, bytes]:
    """Every file below, hidden ones included, with its content."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture
def wrong(small: models.Sequential) -> onnx.ModelProto:
    """A valid graph with two columns of a weight exchanged."""
    graph = export.to_onnx(small)
    (tensor,) = [t for t in graph.graph.initializer if t.name == "lstm/kernel"]
    value = np.ascontiguousarray(np.roll(numpy_helper.to_array(tensor), 1, axis=-1))
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    onnx.checker.check_model(graph, full_check=True)
    return graph


def test_what_it_writes(small: models.Sequential, tmp_path: Path) -> None:
    graph = export.to_onnx(small)
    exported = export.install(small, graph, tmp_path / "new" / "repository")
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
    small: models.Sequential, wrong: onnx.ModelProto, tmp_path: Path
) -> None:
    with pytest.raises(export.ProofFailed) as failure:
        export.install(small, wrong, tmp_path)
    assert failure.value.proof.failures
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_graph_leaves_the_older_entry(
    small: models.Sequential, wrong: onnx.ModelProto, tmp_path: Path
) -> None:
    export.install(small, export.to_onnx(small), tmp_path)
    before = files(tmp_path)
    with pytest.raises(export.ProofFailed):
        export.install(small, wrong, tmp_path)
    assert files(tmp_path) == before


def test_retraining_replaces_the_entry(build: Any, tmp_path: Path) -> None:
    for layer in (models.GRU(3, return_sequences=True), models.LSTM(2, return_sequences=True)):
        model = build(layer)
        graph = export.to_onnx(model)
        exported = export.install(model, graph, tmp_path)
        assert onnx.load(exported.model_path) == graph
    assert files(tmp_path).keys() == {"tested/config.pbtxt", "tested/1/model.onnx"}


def test_a_foreign_entry_is_left_alone(small: models.Sequential, tmp_path: Path) -> None:
    entry = tmp_path / "tested"
    entry.mkdir()
    (entry / "config.pbtxt").write_text('name: "tested"\n')
    with pytest.raises(export.ExportError, match="did not write"):
        export.install(small, export.to_onnx(small), tmp_path)
    assert files(tmp_path) == {"tested/config.pbtxt": b'name: "tested"\n'}


def test_an_entry_with_a_second_version_is_left_alone(
    small: models.Sequential, tmp_path: Path
) -> None:
    export.install(small, export.to_onnx(small), tmp_path)
    (tmp_path / "tested" / "2").mkdir()
    with pytest.raises(export.ExportError, match="did not write"):
        export.install(small, export.to_onnx(small), tmp_path)
    assert (tmp_path / "tested" / "2").is_dir()


def test_a_repository_that_is_a_file(small: models.Sequential, tmp_path: Path) -> None:
    (tmp_path / "repository").write_text("")
    with pytest.raises(export.ExportError, match="cannot write to"):
        export.install(small, export.to_onnx(small), tmp_path / "repository")


def test_a_move_that_fails_puts_the_older_entry_back(
    small: models.Sequential, tmp_path: Path
) -> None:
    export.install(small, export.to_onnx(small), tmp_path)
    before = files(tmp_path)
    with pytest.raises(export.ExportError, match="cannot replace"):
        publish(tmp_path / "nobody wrote this", tmp_path / "tested")
    assert files(tmp_path) == before


def test_real_sequences_are_compared_too(small: models.Sequential, tmp_path: Path) -> None:
    real = [np.zeros((4, 5), np.float32), np.ones((9, 5), np.float32)]
    exported = export.install(small, export.to_onnx(small), tmp_path, real=real)
    comparisons = [row.comparison for row in exported.proof.rows if row.tensor == "lstm_c"]
    assert comparisons == [
        f"{schedule}, {source}"
        for source in ("random", "real data")
        for schedule in ("whole", "steps", "strangers", "chunks")
    ]


class Doubled(models.Dense):
    """Looks like a Dense and computes something else."""

    def call(self, inputs: Any) -> Any:
        return 2 * super().call(inputs)


class Gate(models.GRUCell):
    """A cell of one's own."""


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([models.RNN(Gate(3), return_sequences=True)], "Gate has no ONNX form"),
        ([Doubled(3)], "Doubled has no ONNX form"),
        ([models.GRU(3, go_backwards=True, return_sequences=True)], "go_backwards"),
        ([models.Dense(3, np.sin)], "named activations"),
    ],
)
def test_what_has_no_onnx_form(build: Any, layers: list[models.Layer], message: str) -> None:
    with pytest.raises(export.UnsupportedLayer, match=message):
        export.to_onnx(build(*layers))


def test_an_unbuilt_model() -> None:
    with pytest.raises(export.UnsupportedLayer, match="no weights yet"):
        export.to_onnx(models.Sequential([models.Dense(2)]))


def test_float64_weights(small: models.Sequential) -> None:
    with pytest.raises(export.UnsupportedLayer, match="float64"):
        export.to_onnx(small.double())


def test_an_output_name_with_a_quote(build: Any) -> None:
    with pytest.raises(export.ExportError, match="tensor name"):
        export.to_onnx(build(models.Dense(3), output_name='a"b'))


def test_names_that_meet(build: Any) -> None:
    with pytest.raises(export.ExportError, match="two tensors of the model are called"):
        export.to_onnx(build(models.GRU(3, return_sequences=True), output_name="gru_h"))
