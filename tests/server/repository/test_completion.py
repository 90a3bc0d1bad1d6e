"""Configurations that leave things out, down to no configuration at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper

from server.errors import StartupError
from server.repository.completion import DEFAULT_MAX_BATCH_SIZE
from server.repository.config import says_batch_size
from server.repository.instance_groups import tell_device
from server.repository.load import load
from server.stubs.inference.model_config_pb2 import DataType, ModelConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.server.conftest import LstmModel, MakeModel

FLOAT = TensorProto.FLOAT


def model_of(
    inputs: dict[str, Sequence[int | str] | None], outputs: dict[str, Sequence[int | str] | None]
) -> onnx.ModelProto:
    """Outputs are the inputs of the same place, whatever their shapes say."""
    graph = helper.make_graph(
        [helper.make_node("Identity", [i], [o]) for i, o in zip(inputs, outputs, strict=False)],
        "g",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in outputs.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def parameter(key: str, text: str) -> str:
    return f'parameters {{ key: "rnnserve.{key}" value {{ string_value: "{text}" }} }}\n'


def test_a_model_without_configuration(
    make_model: MakeModel, affine_model: onnx.ModelProto
) -> None:
    [spec] = load(make_model("affine", None, affine_model))
    expected = f"""
        name: "affine"
        platform: "onnxruntime_onnx"
        backend: "onnxruntime"
        version_policy {{ latest {{ num_versions: 1 }} }}
        max_batch_size: {DEFAULT_MAX_BATCH_SIZE}
        input {{ name: "x" data_type: TYPE_FP32 dims: [ 2 ] }}
        output {{ name: "y" data_type: TYPE_FP32 dims: [ 2 ] }}
        instance_group {{ name: "affine_0" count: 1 }}
        default_model_filename: "model.onnx"
        dynamic_batching {{ }}
    """
    assert spec.config == text_format.Parse(expected, ModelConfig())
    assert (spec.inputs[0].shape, spec.states, spec.max_batch_size) == ((-1, 2), (), 64)


def test_an_empty_file_says_as_much(make_model: MakeModel, affine_model: onnx.ModelProto) -> None:
    [empty] = load(make_model("empty/affine", "", affine_model))
    [none] = load(make_model("none/affine", None, affine_model))
    assert (empty.config, empty.digest) == (none.config, none.digest)


def test_the_latest_version_is_served(make_model: MakeModel, affine_model: onnx.ModelProto) -> None:
    [spec] = load(make_model("affine", None, affine_model, affine_model))
    assert spec.version == 2


@pytest.mark.parametrize(
    ("x", "y", "batched"),
    [
        (["b", 2], ["b", 2], True),
        (["b"], ["b", "t"], True),
        (["b", 2], ["c", 2], True),  # names are the exporter's
        ([1, 2], ["b", 2], False),
        (["b", 2], [1, 2], False),
        (["b", 2], [], False),
        ([], ["b"], False),
        (None, ["b"], False),
        (["b", 2], None, False),
    ],
)
def test_a_batch_axis_is_the_first_of_all_tensors_and_of_any_size(
    make_model: MakeModel,
    x: Sequence[int | str] | None,
    y: Sequence[int | str] | None,
    batched: bool,
) -> None:
    path = make_model("m", None, model_of({"x": x}, {"y": y}))
    if x is None or y is None:
        with pytest.raises(StartupError, match="shape unknown or without batch axis"):
            load(path)
        return
    [spec] = load(path)
    assert spec.max_batch_size == (64 if batched else 0)
    assert spec.config.HasField("dynamic_batching") is batched


def test_tensors_without_dims_of_their_own_have_one_of_size_1(make_model: MakeModel) -> None:
    [spec] = load(make_model("rows/m", None, model_of({"x": ["b"]}, {"y": ["b"]})))
    for tensor, entry in ((spec.inputs[0], spec.config.input[0]),):
        assert (tensor.shape, tensor.graph_shape) == ((-1, 1), (-1,))
        assert (list(entry.dims), entry.HasField("reshape")) == ([1], True)
        assert list(entry.reshape.shape) == []
    [spec] = load(make_model("number/m", None, model_of({"x": []}, {"y": []})))
    assert (spec.inputs[0].shape, spec.inputs[0].graph_shape) == ((1,), ())
    assert list(spec.config.output[0].dims) == [1]
    assert not spec.config.output[0].HasField("reshape")


X = 'input { name: "x" data_type: TYPE_FP32 dims: [ %s ] }\n'
Y = 'output { name: "y" data_type: TYPE_FP32 dims: [ %s ] }\n'
STATE = (
    'sequence_batching { state { input_name: "s" output_name: "s_next" data_type: TYPE_FP32'
    " dims: [ %s ] } }\n"
)
START = "sequence_batching { control_input { name: 's' control { fp32_false_true: [ 0, 1 ] } } }\n"


@pytest.mark.parametrize(
    ("text", "s", "size"),
    [
        ("", ["b", 4], 64),
        ("max_batch_size: 0", ["b", 4], 0),
        ("max_batch_size: 0x0\n", ["b", 4], 0),
        ("# max_batch_size: 0\n", ["b", 4], 64),
        (parameter("may_be_cut", "false") + "name: 'm'", ["b", 4], 64),
        # dims tell
        (X % "2, 3" + Y % "2, 3" + STATE % "4", ["b", 4], 64),
        (X % "-1, 2, 3" + Y % "-1, 2, 3" + STATE % "3, 4", [3, 4], 0),
        (X % "-1, 2, 3" + STATE % "3, 4", [3, 4], 0),
        (Y % "2, 3" + STATE % "4", ["b", 4], 64),
        (STATE % "4", ["b", 4], 64),
        (STATE % "", ["b", 4], 64),
        (STATE % "", [3, 4], 0),
        # so does what is said of axes
        (STATE % "1, 4" + parameter("state.s.batch_axis", "1"), [1, "b", 4], 64),
        (STATE % "1, 4" + parameter("time_axis.x", "0"), [1, 4], 0),
        (STATE % "1, 4" + parameter("time_axis.x", "1"), ["b", 1, 4], 64),
        (START, ["b", 1], 64),
        (START, ["b"], 64),
        (START, [1], 0),
        # constants are no part of a batch, unless a session gives them
        (parameter("constant.s", "[1, 2]"), [2], 64),
        (parameter("constant.s", "session"), ["b", 2], 64),
        (parameter("constant.s", "session"), [2], 0),
    ],
)
def test_whether_rows_share_a_run_where_nothing_is_said(
    make_model: MakeModel, text: str, s: Sequence[int | str], size: int
) -> None:
    outputs = {"y": ["b", 2, 3], "s_next": s} if "state {" in text else {"y": ["b", 2, 3]}
    path = make_model("m", text, model_of({"x": ["b", 2, 3], "s": s}, dict(outputs)))
    assert load(path)[0].max_batch_size == size


def test_dims_that_fit_neither_way_are_refused_as_ever(make_model: MakeModel) -> None:
    path = make_model("m", X % "5", model_of({"x": ["b", 2]}, {"y": ["b", 2]}))
    with pytest.raises(StartupError, match=r"dims \[5\]; the model has \[-1, 2\], of which axis 0"):
        load(path)


def test_a_field_of_0_is_not_a_missing_one() -> None:
    assert says_batch_size("max_batch_size: 0")
    assert says_batch_size('name: "m" max_batch_size: 8 input { dims: [ 1 ] }')
    assert not says_batch_size('name: "max_batch_size: 0"  # max_batch_size: 0')
    assert not says_batch_size("")
    assert not says_batch_size("instance_group { kind: 99 } input { format: 7 }")


def test_types_and_dims_may_be_left_out(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str
) -> None:
    [full] = load(make_model("full/lstm", lstm_config, lstm_model()))
    text = lstm_config
    for said in ("data_type: TYPE_FP32 ", "dims: [ -1, 3 ]", "dims: [ -1, 4 ]", "dims: [ 4 ]"):
        assert said in text
        text = text.replace(said, "")
    assert "dims" not in text
    [spec] = load(make_model("short/lstm", text, lstm_model()))
    assert spec.config == full.config
    assert (spec.inputs, spec.outputs) == (full.inputs, full.outputs)
    assert [s.shape for s in spec.states] == [s.shape for s in full.states]


def test_dims_are_left_out_wherever_the_batch_axis_is(
    make_model: MakeModel, lstm_model: LstmModel
) -> None:
    """Of states that are served, too: their axis stands in the state's parameter."""
    text = "max_batch_size: 4\noutput [ { name: 'h_next' }, { name: 'y' } ] sequence_batching {"
    text += "".join(f"state {{ input_name: '{n}' output_name: '{n}_next' }}\n" for n in "hc") + "}"
    text += "".join(parameter(f"state.{n}.batch_axis", "1") for n in "hc")
    [spec] = load(make_model("lstm", text, lstm_model(batch_axis=1)))
    assert [(state.shape, state.batch_axis) for state in spec.states] == [((1, 4), 1)] * 2
    assert [(t.name, t.shape) for t in spec.outputs] == [
        ("h_next", (-1, 1, 4)),
        ("y", (-1, -1, 4)),
    ]
    assert [list(state.dims) for state in spec.config.sequence_batching.state] == [[1, 4]] * 2


def test_initial_states_fix_dims_that_are_left_out(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str
) -> None:
    model = lstm_model()
    for value in (*model.graph.input, *model.graph.output):
        if value.name.startswith("h"):
            value.type.tensor_type.shape.dim[1].dim_param = "units"
    path = make_model("lstm", lstm_config.replace("dims: [ 4 ]", "", 1), model)
    assert load(path)[0].states[0].shape == (4,)


def test_constants_need_neither_type_nor_dims(make_model: MakeModel) -> None:
    text = "max_batch_size: 4 input { name: 's' } input { name: 'x' }"
    model = model_of({"x": ["b", 2], "s": ["b", 3]}, {"y": ["b", 2]})
    [spec] = load(make_model("all/m", text + parameter("constant.s", "[1, 2, 3]"), model))
    assert spec.fixed[0].per_row
    [spec] = load(make_model("session/m", text + parameter("constant.s", "session"), model))
    assert spec.constants[0].shape == (3,)


@pytest.mark.parametrize("field", ["optional: true", "reshape { shape: [ 3 ] }"])
def test_nothing_is_said_of_requests_where_none_carries_it(
    make_model: MakeModel, field: str
) -> None:
    text = f"max_batch_size: 4 input {{ name: 's' {field} }}" + parameter("constant.s", "1")
    path = make_model("m", text, model_of({"x": ["b", 2], "s": ["b", 3]}, {"y": ["b", 2]}))
    name = field.partition(" ")[0].rstrip(":")
    with pytest.raises(StartupError, match=f"input 's': {name}; expected none beside a parameter"):
        load(path)


def test_instances_have_names_and_a_count(
    make_model: MakeModel, affine_model: onnx.ModelProto
) -> None:
    text = "instance_group { kind: KIND_CPU }"
    [group] = load(make_model("affine", text, affine_model))[0].config.instance_group
    assert (group.name, group.count, group.kind) == ("affine_0", 1, group.KIND_CPU)


@pytest.mark.parametrize(
    ("text", "gpu", "expected"),
    [
        ("", None, "count: 1 kind: KIND_CPU"),
        ("", 1, "count: 1 kind: KIND_GPU gpus: [ 1 ]"),
        ("instance_group { count: 3 }", 0, "count: 3 kind: KIND_GPU gpus: [ 0 ]"),
        ("instance_group { kind: KIND_CPU }", 0, "count: 1 kind: KIND_CPU"),
        ("instance_group { kind: KIND_MODEL }", 0, "count: 1 kind: KIND_MODEL"),
    ],
)
def test_whoever_runs_the_model_says_where(
    make_model: MakeModel, affine_model: onnx.ModelProto, text: str, gpu: int | None, expected: str
) -> None:
    [spec] = load(make_model("affine", text, affine_model))
    tell_device(spec.config, gpu)
    told = text_format.Parse(f"instance_group {{ name: 'affine_0' {expected} }}", ModelConfig())
    assert spec.config.instance_group == told.instance_group


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("", model_of({"x": ["b", 2]}, {"y": ["b", 2]})),
        ("", model_of({"x": ["b"]}, {"y": ["b"]})),
        ("", model_of({"x": []}, {"y": []})),
        ("", model_of({"x": [3, "n"]}, {"y": [3, "n"]})),
        (STATE % "", model_of({"x": ["b", 2], "s": ["b", 4]}, {"y": ["b", 2], "s_next": ["b", 4]})),
        (STATE % "", model_of({"x": [1, 2], "s": [1, 4]}, {"y": [1, 2], "s_next": [1, 4]})),
        (
            parameter("constant.s", "session"),
            model_of({"x": ["b", 2], "s": ["b", 3]}, {"y": ["b", 2]}),
        ),
    ],
)
def test_what_was_completed_means_the_same_when_it_is_given_back(
    make_model: MakeModel, text: str, model: onnx.ModelProto
) -> None:
    """Clients take the configuration that the server answers, and send it with a load. A batch size
    of 0 is lost on the way: dims tell.
    """
    [spec] = load(make_model("first/m", text, model))
    said = text_format.MessageToString(spec.config)
    assert ("max_batch_size" in said) is (spec.max_batch_size > 0)
    [again] = load(make_model("again/m", said, model))
    assert again.config == spec.config
    assert (again.inputs, again.outputs) == (spec.inputs, spec.outputs)
    assert again.without_effect == {}


def test_a_large_model_is_a_directory(make_model: MakeModel, lstm_model: LstmModel) -> None:
    path = make_model("lstm", "max_batch_size: 4")
    (path / "1" / "model.onnx").mkdir(parents=True)
    file = path / "1" / "model.onnx" / "model.onnx"
    onnx.save(
        lstm_model(), str(file), save_as_external_data=True, location="weights", size_threshold=0
    )
    [spec] = load(path)
    assert spec.onnx_path == file
    assert [DataType.Name(entry.data_type) for entry in spec.config.input] == ["TYPE_FP32"] * 3
    (path / "config.pbtxt").unlink()
    assert load(path)[0].onnx_path == file
