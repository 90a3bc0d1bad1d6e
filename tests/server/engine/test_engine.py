from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from server.engine.engine import Engine
from server.errors import StartupError, StepFailed
from server.repository.load import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.server.conftest import LstmModel, MakeModel

ROWS = 20
BATCH_AXIS_1 = "".join(
    f'parameters {{ key: "rnnserve.state.{name}.batch_axis" value {{ string_value: "1" }} }}\n'
    for name in "hc"
)


def rows(*numbers: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(numbers, np.int64)


def start(path: Path, size: int = ROWS) -> Engine:
    return Engine(load(path)[0], provider="cpu", rows=size, intra_op_threads=1)


@pytest.fixture
def lstm(make_model: MakeModel, lstm_model: LstmModel, lstm_config: str) -> Engine:
    return start(make_model("lstm", lstm_config, lstm_model()))


@pytest.fixture
def mixed(make_model: MakeModel, mixed_model: onnx.ModelProto, mixed_config: str) -> Engine:
    return start(make_model("mixed", mixed_config, mixed_model))


@pytest.fixture(params=[0, 1], ids=["batch axis 0", "batch axis 1"])
def pair(
    request: pytest.FixtureRequest,
    make_model: MakeModel,
    lstm_model: LstmModel,
    lstm_config: str,
) -> tuple[Engine, Callable[..., list[np.ndarray]], tuple[int, ...]]:
    """The engine, the untouched model as a function (frames, h, c) → [y, h, c], a state's shape."""
    axis = request.param
    config = lstm_config
    if axis == 1:
        config = config.replace("dims: [ 4 ]", "dims: [ 1, 4 ]") + BATCH_AXIS_1
    path = make_model("lstm", config, lstm_model(batch_axis=axis))
    session = ort.InferenceSession(str(path / "1" / "model.onnx"))

    def plain(frames: np.ndarray, h: np.ndarray, c: np.ndarray) -> list[np.ndarray]:
        return list(session.run(None, {"frames": frames, "h": h, "c": c}))

    return start(path), plain, (1, 1, 4) if axis == 1 else (1, 4)


def test_steps_through_moving_rows_equal_the_untouched_model_bit_for_bit(
    pair: tuple[Engine, Callable[..., list[np.ndarray]], tuple[int, ...]],
) -> None:
    engine, plain, shape = pair
    rng = np.random.default_rng(1)
    h = c = np.zeros(shape, np.float32)
    row = 0
    for timesteps in (1, 1, 3, 1, 7, 1, 1, 2):
        frames = rng.normal(size=(1, timesteps, 3)).astype(np.float32)
        target = int(rng.choice([other for other in range(1, ROWS) if other != row]))
        answer = engine.run({"frames": frames}, rows(row), rows(target))
        y, h, c = plain(frames, h, c)
        row = target
        np.testing.assert_array_equal(answer["y"], y)
        states = engine.read(rows(row))
        # a row has the state's shape without its batch axis, which has size 1 here
        np.testing.assert_array_equal(states["h"].ravel(), h.ravel())
        np.testing.assert_array_equal(states["c"].ravel(), c.ravel())
        assert states["h"].shape[1:] == engine.spec.states[0].shape


def test_sessions_in_one_batch_do_not_mix(
    pair: tuple[Engine, Callable[..., list[np.ndarray]], tuple[int, ...]],
) -> None:
    engine, plain, shape = pair
    frames = np.random.default_rng(2).normal(size=(4, 5, 3)).astype(np.float32)
    where = rows(0, 0, 0, 0)
    for step in range(5):
        free = rows(2, 9, 4, 11) if step % 2 else rows(8, 1, 10, 3)
        batch = engine.run({"frames": frames[:, step : step + 1]}, where, free)
        where = free
    for session in range(4):
        zero = np.zeros(shape, np.float32)
        y, h, c = plain(frames[session : session + 1], zero, zero)
        np.testing.assert_allclose(batch["y"][session, 0], y[0, -1], atol=1e-6)
        states = engine.read(where[session : session + 1])
        np.testing.assert_allclose(states["h"].ravel(), h.ravel(), atol=1e-6)
        np.testing.assert_allclose(states["c"].ravel(), c.ravel(), atol=1e-6)


def test_states_of_several_types(mixed: Engine) -> None:
    x = np.array([[1, 2], [3, 4]], np.float32)
    first = mixed.run({"x": x, "place": rows(0, 1)}, rows(0, 0), rows(5, 6))
    np.testing.assert_array_equal(first["y"], [[1, 2], [13, 24]])
    np.testing.assert_array_equal(first["count_next"], [1, 1])  # a state that is served as well
    assert list(first) == ["y", "count_next"]
    second = mixed.run({"x": x[:1], "place": rows(0)}, rows(6), rows(7))
    np.testing.assert_array_equal(second["y"], [[14, 26]])
    states = mixed.read(rows(0, 5, 6, 7))
    np.testing.assert_array_equal(states["total"], [[0, 0], [1, 2], [13, 24], [14, 26]])
    np.testing.assert_array_equal(states["count"], [0, 1, 1, 2])
    np.testing.assert_array_equal(states["odd"], [[False], [True], [True], [False]])
    assert [array.dtype.name for array in states.values()] == ["float32", "int64", "bool"]


def test_a_failing_run_leaves_the_other_rows_as_they_were(mixed: Engine) -> None:
    everything = np.arange(ROWS)
    x = np.ones((2, 2), np.float32)
    mixed.run({"x": x, "place": rows(0, 1)}, rows(0, 0), rows(5, 6))
    before = mixed.read(everything)
    with pytest.raises(StepFailed) as caught:
        mixed.run({"x": x, "place": rows(0, 99)}, rows(5, 6), rows(7, 8))
    assert "model 'mixed' failed: " in str(caught.value)
    assert "indices element out of data bounds, idx=99" in str(caught.value)
    assert "ONNXRuntimeError" not in str(caught.value)
    after = mixed.read(everything)
    kept = [row for row in everything if row not in (7, 8)]
    for name, values in before.items():
        np.testing.assert_array_equal(after[name][kept], values[kept])
    again = mixed.run({"x": x, "place": rows(0, 1)}, rows(5, 6), rows(7, 8))
    np.testing.assert_array_equal(again["y"], [[2, 2], [22, 42]])


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        (np.zeros((1, 1, 4), np.float32), "Got invalid dimensions for input: frames"),
        (np.zeros((1, 3), np.float32), "Invalid rank for input: frames"),
        (np.zeros((1, 1, 3)), "Unexpected input data type"),
    ],
)
def test_inputs_that_onnxruntime_refuses(lstm: Engine, frames: np.ndarray, text: str) -> None:
    with pytest.raises(StepFailed, match=f"^model 'lstm' failed: {text}"):
        lstm.run({"frames": frames}, rows(0), rows(1))


def test_a_missing_input_is_not_taken_from_the_last_run(lstm: Engine) -> None:
    with pytest.raises(KeyError, match="frames"):
        lstm.run({}, rows(0), rows(1))


def test_rows_out_of_range_are_refused_on_the_host(lstm: Engine) -> None:
    frames = np.zeros((1, 1, 3), np.float32)
    for read, write in ((-1, 1), (ROWS, 1), (0, ROWS), (0, -1), (0, 0)):
        with pytest.raises(IndexError, match=r"the arena's are [01] to 19"):
            lstm.run({"frames": frames}, rows(read), rows(write))
    for row in (-1, ROWS):
        with pytest.raises(IndexError):
            lstm.read(rows(row))
        with pytest.raises(IndexError):
            lstm.write(rows(row), lstm.read(rows(0)))


def test_answers_are_arrays_of_their_own(lstm: Engine) -> None:
    frames = np.ones((2, 1, 3), np.float32)
    first = lstm.run({"frames": frames}, rows(0, 0), rows(1, 2))["y"]
    state = lstm.read(rows(1))["h"]
    copies = first.copy(), state.copy()
    lstm.run({"frames": -frames}, rows(1, 2), rows(3, 4))
    lstm.write(rows(1), {"h": state * 0 + 9, "c": state})
    lstm.read(rows(1))
    np.testing.assert_array_equal(first, copies[0])
    np.testing.assert_array_equal(state, copies[1])


def test_states_can_be_written_and_read_back(lstm: Engine) -> None:
    h, c = np.random.default_rng(3).normal(size=(2, 2, 4)).astype(np.float32)
    lstm.write(rows(7, 3), {"h": h, "c": c})
    states = lstm.read(rows(3, 7))
    np.testing.assert_array_equal(states["h"], h[::-1])
    np.testing.assert_array_equal(states["c"], c[::-1])


def test_warm_up_leaves_the_arena_as_it_was(mixed: Engine) -> None:
    for values in mixed.read(np.arange(ROWS)).values():
        assert not values.any()


def test_the_initial_state_is_row_0(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str
) -> None:
    values = np.arange(4, dtype="<f4")
    config = lstm_config.replace("zero_data: true", 'data_file: "h0"')
    path = make_model("lstm", config, lstm_model(), initial_state={"h0": values.tobytes()})
    engine = start(path)
    frames = np.ones((1, 1, 3), np.float32)
    y = engine.run({"frames": frames}, rows(0), rows(1))["y"]
    session = ort.InferenceSession(str(path / "1" / "model.onnx"))
    zero = np.zeros((1, 4), np.float32)
    expected = session.run(["y"], {"frames": frames, "h": values[None], "c": zero})[0]
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(engine.read(rows(0))["h"], values[None])


def test_a_small_arena_is_warmed_up_with_what_it_has(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str
) -> None:
    engine = start(make_model("lstm", lstm_config, lstm_model()), size=2)
    assert repr(engine.arena) == "Arena(2 rows of 32 bytes in 2 states)"


def test_a_model_without_states(make_model: MakeModel, affine_model: onnx.ModelProto) -> None:
    engine = start(make_model("affine", "max_batch_size: 4", affine_model), size=1)
    x = np.array([[1, 2], [3, 4]], np.float32)
    np.testing.assert_array_equal(engine.run({"x": x}, rows(), rows())["y"], 2 * x + 1)
    assert engine.read(rows(0)) == {}
    engine.write(rows(0), {})


def test_a_model_without_batch_axis(make_model: MakeModel, affine_model: onnx.ModelProto) -> None:
    engine = start(make_model("affine", "max_batch_size: 0", affine_model), size=1)
    x = np.ones((5, 2), np.float32)
    np.testing.assert_array_equal(engine.run({"x": x}, rows(), rows())["y"], 2 * x + 1)


def test_weights_beside_the_model_file(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str, lstm: Engine
) -> None:
    path = make_model("outside/lstm", lstm_config)
    (path / "1").mkdir()
    onnx.save(
        lstm_model(),
        str(path / "1" / "model.onnx"),
        save_as_external_data=True,
        location="weights",
        size_threshold=100,  # ONNX itself wants constants that are shapes in the file
    )
    frames = np.ones((1, 2, 3), np.float32)
    answers = [
        engine.run({"frames": frames}, rows(0), rows(1))["y"] for engine in (start(path), lstm)
    ]
    np.testing.assert_array_equal(*answers)


def test_outputs_without_the_batch_are_noticed_at_start(
    make_model: MakeModel, affine_model: onnx.ModelProto
) -> None:
    affine_model.graph.node.append(
        onnx.helper.make_node("ReduceSum", ["twice"], ["sum"], keepdims=1)
    )
    affine_model.graph.output.append(
        onnx.helper.make_tensor_value_info("sum", onnx.TensorProto.FLOAT, ["batch", 1])
    )
    path = make_model("affine", "max_batch_size: 4", affine_model)
    with pytest.raises(StartupError, match=r"output 'sum' has shape \[1, 1\] for a batch of 4"):
        start(path)


def test_a_model_that_cannot_run_is_noticed_at_start(
    make_model: MakeModel, affine_model: onnx.ModelProto
) -> None:
    constant = onnx.numpy_helper.from_array(np.array([-1, 3]), "threes")
    affine_model.graph.initializer.append(constant)
    affine_model.graph.node.append(onnx.helper.make_node("Reshape", ["x", "threes"], ["z"]))
    value = onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["batch", 3])
    affine_model.graph.output.append(value)
    path = make_model("affine", "max_batch_size: 4", affine_model)
    with pytest.raises(StartupError, match=r"model.onnx: model 'affine' failed: .*Reshape"):
        start(path)


def test_a_model_that_refuses_an_index_or_a_length_of_zero_serves(
    make_model: MakeModel,
    mixed_model: onnx.ModelProto,
    mixed_config: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = next(tensor for tensor in mixed_model.graph.initializer if tensor.name == "table")
    table.CopyFrom(onnx.numpy_helper.from_array(np.zeros((0, 2), np.float32), "table"))
    engine = start(make_model("mixed", mixed_config, mixed_model))
    assert "out of data bounds" in capsys.readouterr().out
    for values in engine.read(np.arange(ROWS)).values():
        assert not values.any()


def test_a_model_that_only_refuses_the_guess_serves(
    make_model: MakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    """A convolution over three timesteps fails on the one that warm-up tries."""
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3])
    tensors = [value(name, onnx.TensorProto.FLOAT, ["batch", 1, "time"]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "pool", tensors[:1], tensors[1:])
    opset = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    engine = start(make_model("pool", "max_batch_size: 1", model))
    assert "warm-up failed" in capsys.readouterr().out
    x = np.array([[[1, 5, 2, 3]]], np.float32)
    np.testing.assert_array_equal(engine.run({"x": x}, rows(), rows())["y"], [[[5, 5]]])
    warmup = 'model_warmup { inputs { key: "x" value { dims: [ 1, 3 ] } } }'
    start(make_model("told/pool", f"max_batch_size: 1 {warmup}", model))
    assert capsys.readouterr().out == ""


def test_a_model_that_onnxruntime_does_not_load(
    make_model: MakeModel, affine_model: onnx.ModelProto, capfd: pytest.CaptureFixture[str]
) -> None:
    affine_model.graph.node[0].op_type = "Mull"
    path = make_model("affine", "max_batch_size: 4", affine_model)
    with pytest.raises(StartupError) as caught:
        start(path)
    text = str(caught.value)
    assert text.startswith(f"{path}/1/model.onnx: ONNX Runtime cannot load the model: ")
    assert "Mull" in text
    assert "\n" not in text
    assert capfd.readouterr() == ("", "")
