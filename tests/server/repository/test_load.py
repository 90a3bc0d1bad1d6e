from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from server.repository.load import load
from server.stubs.inference.model_config_pb2 import DataType

if TYPE_CHECKING:
    from tests.server.conftest import LstmModel, MakeModel


def test_a_stateful_model(make_model: MakeModel, lstm_model: LstmModel, lstm_config: str) -> None:
    [spec] = load(make_model("lstm", lstm_config, lstm_model()))
    assert (spec.name, spec.version, spec.max_batch_size) == ("lstm", 1, 8)
    assert spec.idle_s == 5.0
    assert spec.may_be_cut
    [frames], [y] = spec.inputs, spec.outputs
    assert (frames.name, frames.datatype, frames.dtype) == ("frames", "FP32", np.float32)
    assert (frames.shape, frames.time_axis) == ((-1, -1, 3), 1)
    assert (y.name, y.shape, y.time_axis) == ("y", (-1, -1, 4), 1)
    assert [(state.name, state.output) for state in spec.states] == [
        ("h", "h_next"),
        ("c", "c_next"),
    ]
    for state in spec.states:
        assert (state.datatype, state.shape, state.batch_axis) == ("FP32", (4,), 0)
        np.testing.assert_array_equal(state.initial, np.zeros(4, np.float32))
    assert spec.state_nbytes == 2 * 4 * 4


def test_states_are_paired_as_configured_not_by_order(
    make_model: MakeModel, mixed_model: onnx.ModelProto, mixed_config: str
) -> None:
    [spec] = load(make_model("mixed", mixed_config, mixed_model))
    assert [(state.name, state.datatype, state.shape) for state in spec.states] == [
        ("total", "FP32", (2,)),
        ("count", "INT64", ()),
        ("odd", "BOOL", (1,)),
    ]
    assert [tensor.name for tensor in spec.outputs] == ["y", "count_next"]  # a state, but served
    assert not spec.may_be_cut
    assert spec.idle_s == 1.0  # the schema's default


def test_the_configuration_comes_with_defaults_filled_in(
    make_model: MakeModel, mixed_model: onnx.ModelProto, mixed_config: str
) -> None:
    [spec] = load(make_model("mixed", mixed_config, mixed_model))
    assert spec.config.name == "mixed"
    assert (spec.config.platform, spec.config.backend) == ("onnxruntime_onnx", "onnxruntime")
    assert spec.config.default_model_filename == "model.onnx"
    assert spec.config.version_policy.latest.num_versions == 1
    assert spec.config.sequence_batching.max_sequence_idle_microseconds == 1_000_000


def test_inputs_and_outputs_that_are_not_configured_come_from_the_graph(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str
) -> None:
    lines = lstm_config.splitlines()
    config = "\n".join(line for line in lines if not line.startswith(("input", "output")))
    [spec] = load(make_model("lstm", config, lstm_model()))
    assert [(tensor.name, tensor.shape) for tensor in spec.inputs] == [("frames", (-1, -1, 3))]
    assert [(tensor.name, tensor.shape) for tensor in spec.outputs] == [("y", (-1, -1, 4))]
    assert list(spec.config.input[0].dims) == [-1, 3]


def test_a_size_in_the_graph_makes_a_free_dim_exact(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str
) -> None:
    config = lstm_config.replace("dims: [ -1, 3 ]", "dims: [ -1, -1 ]")
    [spec] = load(make_model("lstm", config, lstm_model()))
    assert spec.inputs[0].shape == (-1, -1, 3)


def test_the_configuration_lists_what_requests_may_carry(
    make_model: MakeModel, mixed_model: onnx.ModelProto, mixed_config: str
) -> None:
    """As metadata does: constants of a session among it, and sizes that only the graph has."""
    more = 'parameters { key: "rnnserve.constant.place" value { string_value: "session" } }'
    text = mixed_config.replace("dims: [ 2 ]", "dims: [ -1 ]", 2)
    [spec] = load(make_model("mixed", text + more, mixed_model))
    listed = [(tensor.name, list(tensor.dims)) for tensor in spec.config.input]
    assert listed == [("x", [2]), ("place", [])]
    assert DataType.Name(spec.config.input[1].data_type) == "TYPE_INT64"
    assert [list(tensor.dims) for tensor in spec.config.output] == [[2], []]
    assert [tensor.name for tensor in spec.inputs] == ["x"]


def test_outputs_may_be_left_out(
    make_model: MakeModel, mixed_model: onnx.ModelProto, mixed_config: str
) -> None:
    config = mixed_config.replace('{ name: "y" data_type: TYPE_FP32 dims: [ 2 ] },\n', "")
    [spec] = load(make_model("mixed", config, mixed_model))
    assert [tensor.name for tensor in spec.outputs] == ["count_next"]


def test_a_model_carries_its_configuration(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str
) -> None:
    model = lstm_model()
    onnx.helper.set_model_props(model, {"rnnserve.config": lstm_config})
    [bare] = load(make_model("lstm", None, model))
    assert bare.config == load(make_model("with/lstm", lstm_config, model))[0].config


def test_a_model_without_states(make_model: MakeModel, affine_model: onnx.ModelProto) -> None:
    [spec] = load(make_model("affine", "max_batch_size: 4", affine_model))
    assert spec.states == ()
    assert spec.inputs[0].shape == (-1, 2)
    assert spec.idle_s == 1.0  # it has sessions, too
    [whole] = load(make_model("whole", "max_batch_size: 0", affine_model))
    assert whole.inputs[0].shape == (-1, 2)
    assert list(whole.config.input[0].dims) == [-1, 2]  # no batch axis: the first is as any other


def test_initial_states_come_from_files(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str
) -> None:
    values = np.arange(4, dtype="<f4")
    config = lstm_config.replace("zero_data: true", 'data_file: "h0"')
    path = make_model("lstm", config, lstm_model(), initial_state={"h0": values.tobytes()})
    h, c = load(path)[0].states
    np.testing.assert_array_equal(h.initial, values)
    np.testing.assert_array_equal(c.initial, np.zeros(4))
    assert not h.initial.flags.writeable
    before = load(path)[0].digest
    (path / "initial_state" / "h0").write_bytes((values + 1).tobytes())
    assert load(path)[0].digest != before


def test_a_state_whose_batch_axis_is_not_first(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str
) -> None:
    config = lstm_config.replace("dims: [ 4 ]", "dims: [ 1, 4 ]") + "\n".join(
        f'parameters {{ key: "rnnserve.state.{name}.batch_axis" value {{ string_value: "1" }} }}'
        for name in "hc"
    )
    [spec] = load(make_model("lstm", config, lstm_model(batch_axis=1)))
    assert [(state.shape, state.batch_axis) for state in spec.states] == [((1, 4), 1)] * 2


def test_every_version_has_its_own_digest(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str
) -> None:
    models = [lstm_model(seed=seed) for seed in (1, 2)]
    first, second = load(make_model("a/lstm", lstm_config + "version_policy { all { } }", *models))
    assert (first.version, second.version) == (1, 2)
    assert first.digest != second.digest
    assert first.onnx_path.parent.name == "1"
    other = lstm_config.replace("max_batch_size: 8", "max_batch_size: 9")
    digests = {
        load(make_model(f"{place}/lstm", config, models[1]))[0].digest
        for place, config in (("b", lstm_config), ("c", lstm_config), ("d", other))
    }
    assert len(digests) == 2  # b and c are the same


def test_external_data_is_part_of_the_digest(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str
) -> None:
    path = make_model("lstm", lstm_config)
    (path / "1").mkdir()
    digests = set()
    for seed in (1, 2):
        (path / "1" / "weights").unlink(missing_ok=True)
        onnx.save(
            lstm_model(seed=seed),
            str(path / "1" / "model.onnx"),
            save_as_external_data=True,
            location="weights",
            size_threshold=0,
        )
        digests.add(load(path)[0].digest)
    assert len(digests) == 2
