"""The runs that `model_warmup` wants: what the model is fed, and that nothing is left of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from server.engine.engine import Engine
from server.engine.samples import run_samples
from server.errors import StartupError
from server.repository.load import load
from server.repository.spec import WarmupSample

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from tests.server.conftest import LstmModel, MakeModel

ROWS = 20
SEQUENCES = """max_batch_size: 4
sequence_batching {
  control_input { name: "start"
    control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } }
  control_input { name: "end"
    control { kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] } }
  control_input { name: "ready"
    control { kind: CONTROL_SEQUENCE_READY bool_false_true: [ false, true ] } }
  control_input { name: "id"
    control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_INT64 } }
  state { input_name: "total" output_name: "total_next" data_type: TYPE_FP32 dims: [ 1 ] }
}
"""
STEPWISE = """parameters { key: "rnnserve.time_axis.x" value { string_value: "1" } }
parameters { key: "rnnserve.time_axis.y" value { string_value: "1" } }
parameters { key: "rnnserve.may_be_cut" value { string_value: "true" } }
"""


def summing() -> onnx.ModelProto:
    """`x` (batch, 1) is added to `total` (batch, 1), which `start` (batch,) clears; the other
    control inputs are added to `y` alone.
    """
    node, value = helper.make_node, helper.make_tensor_value_info
    nodes = [
        node("Unsqueeze", ["start", "last"], ["begun"]),
        node("Sub", ["one", "begun"], ["go_on"]),
        node("Mul", ["total", "go_on"], ["kept"]),
        node("Add", ["kept", "x"], ["total_next"]),
        *(node("Cast", [name], [f"{name}.f"], to=1) for name in ("end", "ready", "id")),
        node("Sum", ["total_next", "end.f", "ready.f", "id.f"], ["y"]),
    ]
    inputs = [
        value("x", TensorProto.FLOAT, ["batch", 1]),
        value("start", TensorProto.FLOAT, ["batch"]),
        value("end", TensorProto.INT32, ["batch", 1]),
        value("ready", TensorProto.BOOL, ["batch", 1]),
        value("id", TensorProto.INT64, ["batch", 1]),
        value("total", TensorProto.FLOAT, ["batch", 1]),
    ]
    outputs = [value(name, TensorProto.FLOAT, ["batch", 1]) for name in ("y", "total_next")]
    stored = {"last": np.array([1]), "one": np.float32(1)}
    tensors = [numpy_helper.from_array(np.asarray(v), name) for name, v in stored.items()]
    graph = helper.make_graph(nodes, "summing", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


class Recorded(Engine):
    """An engine that notes what each run is given and gives, from its first one on."""

    def run(
        self,
        inputs: Mapping[str, NDArray[Any]],
        read: NDArray[np.int64],
        write: NDArray[np.int64],
    ) -> dict[str, NDArray[Any]]:
        states = self.read(read)
        outputs = super().run(inputs, read, write)
        runs = self.__dict__.setdefault("runs", [])
        runs.append(({name: array.copy() for name, array in inputs.items()}, states, outputs))
        return outputs


def sampled(path: Any, *samples: WarmupSample, rows: int = ROWS) -> list[tuple[Any, Any, Any]]:
    """The runs of these samples."""
    engine = Recorded(load(path)[0], provider="cpu", rows=rows)
    del engine.__dict__["runs"][:]
    filling = {
        state.name: np.random.default_rng(0)
        .normal(size=(rows - 1, *state.shape))
        .astype(state.dtype)
        for state in engine.spec.kept
    }
    engine.write(np.arange(1, rows), filling)
    engine.spec = replace(engine.spec, samples=samples)
    run_samples(engine)
    for name, values in engine.read(np.arange(1, rows)).items():
        np.testing.assert_array_equal(values, filling[name])
    for state in engine.spec.kept:
        np.testing.assert_array_equal(engine.read(np.array([0]))[state.name][0], state.initial)
    runs: list[tuple[Any, Any, Any]] = engine.__dict__["runs"]
    return runs


@pytest.fixture
def lstm(make_model: MakeModel, lstm_model: LstmModel, lstm_config: str) -> Any:
    return make_model("lstm", lstm_config, lstm_model())


@pytest.fixture
def sequences(make_model: MakeModel) -> Any:
    return make_model("sequences", SEQUENCES, summing())


def test_equal_rows_as_often_as_the_sample_says(lstm: Any) -> None:
    row = np.random.default_rng(1).random((5, 3), np.float32)
    runs = sampled(lstm, WarmupSample("w", 3, 8, {"frames": row}))
    assert len(runs) == 3
    for inputs, states, outputs in runs:
        np.testing.assert_array_equal(inputs["frames"], np.stack([row] * 8))
        assert not states["h"].any()
        assert outputs["y"].shape == (8, 5, 4)


def test_samples_run_in_their_order(lstm: Any) -> None:
    rows = [np.full((size, 3), size, np.float32) for size in (2, 7, 4)]
    samples = [WarmupSample(str(len(row)), 1, 1, {"frames": row}) for row in rows]
    assert [run[0]["frames"].shape for run in sampled(lstm, *samples)] == [
        (1, 2, 3),
        (1, 7, 3),
        (1, 4, 3),
    ]


def test_states_begin_as_the_sample_says(lstm: Any) -> None:
    h = np.arange(4, dtype=np.float32)
    [run] = sampled(lstm, WarmupSample("w", 1, 2, {"h": h}))
    np.testing.assert_array_equal(run[1]["h"], [h, h])
    assert not run[1]["c"].any()
    assert run[0]["frames"].shape == (2, 1, 3)  # of which nothing was said


def test_a_small_arena_takes_fewer_rows(lstm: Any) -> None:
    [run] = sampled(lstm, WarmupSample("w", 1, 8, {}), rows=8)
    assert run[0]["frames"].shape == (3, 1, 3)


def test_a_sequence_begins(sequences: Any) -> None:
    """READY and START are true, END is not, and the sequence has a number."""
    [run] = sampled(sequences, WarmupSample("w", 1, 2, {"x": np.array([7], np.float32)}))
    inputs, _, outputs = run
    assert {name: array.ravel().tolist() for name, array in inputs.items()} == {
        "x": [7, 7],
        "start": [1, 1],
        "end": [0, 0],
        "ready": [True, True],
        "id": [1, 1],
    }
    assert inputs["start"].shape == (2,)
    np.testing.assert_array_equal(outputs["y"], [[9], [9]])


def test_a_sample_may_say_what_control_inputs_are(make_model: MakeModel) -> None:
    """As it has to in Triton, where each of them has the dims [1]."""
    given = " ".join(
        f'inputs {{ key: "{name}" value {{ data_type: TYPE_{kind} dims: [ 1 ] {source}: true }} }}'
        for name, kind, source in (
            ("x", "FP32", "random_data"),
            ("start", "FP32", "zero_data"),
            ("ready", "BOOL", "zero_data"),
        )
    )
    text = f'{SEQUENCES}model_warmup {{ name: "sequence sample" batch_size: 4 {given} }}'
    engine = Recorded(load(make_model("sequences", text, summing()))[0], provider="cpu", rows=ROWS)
    inputs, _, outputs = engine.__dict__["runs"][-1]  # the constructor runs them last
    assert inputs["start"].tolist() == [0, 0, 0, 0]
    assert inputs["ready"].tolist() == [[False]] * 4
    assert inputs["id"].tolist() == [[1]] * 4
    assert outputs["y"].shape == (4, 1)
    assert 0 < inputs["x"][0, 0] < 1


def test_a_graph_of_single_timesteps_runs_them_one_by_one(
    make_model: MakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each reads what the one before has written."""
    config = "max_batch_size: 4 sequence_batching { state {"
    config += (
        ' input_name: "total" output_name: "total_next" data_type: TYPE_FP32 dims: [ 1 ] } }\n'
    )
    node = helper.make_node("Add", ["total", "x"], ["total_next"])
    other = helper.make_node("Identity", ["total_next"], ["y"])
    tensors = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1])
        for name in ("x", "total", "y", "total_next")
    }
    graph = helper.make_graph(
        [node, other],
        "stepwise",
        [tensors["x"], tensors["total"]],
        [tensors["y"], tensors["total_next"]],
    )
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    path = make_model("stepwise", config + STEPWISE, model)
    row = np.array([1, 10, 100], np.float32)
    runs = sampled(path, WarmupSample("w", 1, 2, {"x": row}))
    assert [run[0]["x"].tolist() for run in runs] == [[[1]] * 2, [[10]] * 2, [[100]] * 2]
    assert [run[2]["y"][0, 0] for run in runs] == [1, 11, 111]
    sizes = 'model_warmup { inputs { key: "x" value { dims: [ 3 ] } } }'
    told = make_model("told/stepwise", config + STEPWISE + sizes, model)
    Engine(load(told)[0], provider="cpu", rows=ROWS)  # the server's own runs are single timesteps
    assert "warm-up failed" not in capsys.readouterr().out


def test_a_model_without_states(make_model: MakeModel, affine_model: onnx.ModelProto) -> None:
    path = make_model("affine", "max_batch_size: 4", affine_model)
    x = np.array([1, 2], np.float32)
    [run] = sampled(path, WarmupSample("w", 1, 3, {"x": x}), rows=1)
    np.testing.assert_array_equal(run[2]["y"], [[3, 5]] * 3)


def test_a_model_without_a_batch_axis(make_model: MakeModel, affine_model: onnx.ModelProto) -> None:
    path = make_model("affine", "max_batch_size: 0", affine_model)
    x = np.array([[1, 2], [3, 4]], np.float32)
    [run] = sampled(path, WarmupSample("w", 1, 1, {"x": x}), rows=1)
    np.testing.assert_array_equal(run[2]["y"], 2 * x + 1)


def test_dims_are_those_of_requests_where_the_graph_has_others(
    make_model: MakeModel, affine_model: onnx.ModelProto
) -> None:
    text = """max_batch_size: 4
        input { name: "x" data_type: TYPE_FP32 dims: [ 2, 1 ] reshape { shape: [ 2 ] } }
        model_warmup { name: "w" batch_size: 3 inputs { key: "x" value {
          data_type: TYPE_FP32 dims: [ 2, 1 ] random_data: true } } }"""
    [spec] = load(make_model("affine", text, affine_model))
    inputs, _, outputs = Recorded(spec, provider="cpu", rows=1).__dict__["runs"][-1]
    assert inputs["x"].shape == (3, 2, 1)
    np.testing.assert_array_equal(outputs["y"], 2 * inputs["x"][..., 0] + 1)


def test_a_sample_that_fails_refuses_the_model(
    make_model: MakeModel, mixed_model: onnx.ModelProto, mixed_config: str
) -> None:
    """Also where nothing but a guess of the server's own would have failed."""
    place = np.array(7, "<i8")
    text = (
        'model_warmup { name: "far away" batch_size: 1 inputs { key: "place" value {'
        ' data_type: TYPE_INT64 dims: [ ] input_data_file: "seven" } } }'
    )
    path = make_model("mixed", mixed_config + text, mixed_model)
    (path / "warmup").mkdir()
    (path / "warmup" / "seven").write_bytes(place.tobytes())
    with pytest.raises(StartupError) as caught:
        Engine(load(path)[0], provider="cpu", rows=ROWS)
    said = str(caught.value)
    assert said.startswith(
        f"{path}/1/model.onnx: failed to run warmup sample 'far away': model 'mi"
    )
    assert "idx=7" in said
    assert "\n" not in said
