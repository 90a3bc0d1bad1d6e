"""Shapes and types that graphs have and that cannot be served, and the line that says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest
from onnx import TensorProto, helper

from server.errors import StartupError
from server.repository.load import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.server.conftest import MakeModel

FLOAT = TensorProto.FLOAT


def model_of(
    x: Sequence[int | str] | None, s: Sequence[int | str] | None, *others: onnx.ValueInfoProto
) -> onnx.ModelProto:
    """x → y and s → s_next, as they are; `others` are outputs."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Identity", ["x"], ["y"]),
        helper.make_node("Identity", ["s"], ["s_next"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", FLOAT, x), value("s", FLOAT, s)],
        [value("y", FLOAT, x), value("s_next", FLOAT, s), *others],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def config(size: int, dims: str, more: str = "") -> str:
    return f"""max_batch_size: {size}
    sequence_batching {{ state {{
      input_name: "s" output_name: "s_next" data_type: TYPE_FP32 dims: [ {dims} ]
    }} }}
    {more}"""


BATCH = ["batch", 2]
AXIS = 'parameters { key: "rnnserve.state.s.batch_axis" value { string_value: "1" } }'
X = 'input { name: "x" data_type: TYPE_FP32 dims: [ %s ] }'


@pytest.mark.parametrize(
    ("x", "s", "text", "answer"),
    [
        (
            BATCH,
            ["batch", 0, 2],
            config(4, "-1, 2"),
            "state 's': the model has [-1, 0, 2]; expected no axis of size 0",
        ),
        (
            BATCH,
            ["batch", "past", 2],
            config(4, "0, 2"),
            "state 's': dims [0, 2]; expected sizes of 1 or more, or -1 for any",
        ),
        (
            BATCH,
            BATCH,
            config(4, "-1, 2"),
            "state 's': dims [-1, 2]; the model has [-1, 2], of which axis 0 is the batch; dims are"
            " without it. For a model without a batch axis: expected max_batch_size: 0",
        ),
        (
            BATCH,
            BATCH,
            config(0, "2"),
            "state 's': dims [2]; the model has [-1, 2]: with max_batch_size: 0 dims count every"
            " axis",
        ),
        (
            BATCH,
            [1, 2],
            config(0, "1, 2", AXIS),
            "parameters: rnnserve.state.s.batch_axis: 1; expected none: with max_batch_size: 0"
            " there is no batch axis",
        ),
        (
            [1, 2],
            [1, 2],
            config(4, "2"),
            "state 's': the model's batch axis is fixed at 1; expected one of any size for"
            " max_batch_size: 4, or max_batch_size: 1",
        ),
        (
            [6, 2],
            [6, 2],
            config(1, "2"),
            "state 's': the model's batch axis is fixed at 6; expected one of any size for"
            " max_batch_size: 1, or max_batch_size: 0 with dims that count it",
        ),
        (
            BATCH,
            [6, "batch", 2],
            config(4, "6, 2"),
            "state 's': the model's batch axis is fixed at 6; expected one of any size for"
            " max_batch_size: 4, or max_batch_size: 0 with dims that count it; or if axis 1 is the"
            " batch, a parameter rnnserve.state.s.batch_axis: 1",
        ),
        (
            BATCH,
            [6, 1, 2],
            config(4, "6, 2"),
            "state 's': dims [6, 2]; the model has [6, 1, 2], of which axis 0 is the batch; or if"
            " axis 1 is the batch, a parameter rnnserve.state.s.batch_axis: 1 with max_batch_size:"
            " 1",
        ),
        (
            [6, 2, "batch"],
            BATCH,
            config(4, "2", X % "6, 2"),
            "input 'x': dims [6, 2]; the model has [6, 2, -1], of which axis 0 is the batch; or if"
            " axis 2 is the batch, a parameter rnnserve.batch_axis.x: 2",
        ),
        (
            [2],
            BATCH,
            config(4, "2", X % "2"),
            "input 'x': dims [2]; the model has [2], of which axis 0 is the batch; dims are without"
            " it. For a model without a batch axis: expected max_batch_size: 0 or a parameter"
            " rnnserve.constant.x",
        ),
        (
            [],
            BATCH,
            config(4, "2"),
            "tensor 'x' of the model: shape unknown or without batch axis; expected its dims in"
            " input, or rnnserve.constant.x",
        ),
        (
            None,
            BATCH,
            config(4, "2"),
            "tensor 'x' of the model: shape unknown or without batch axis; expected its dims in"
            " input, or rnnserve.constant.x",
        ),
        (
            BATCH,
            ["batch", 2],
            config(4, "2").replace('"s_next"', '"s_nxt"'),
            "state 's', output_name 's_nxt': the model has no such output; it has: s_next, y (did"
            " you mean 's_next'?)",
        ),
        (
            BATCH,
            BATCH,
            config(4, "2", "parameters { key: 'rnnserve.constant.s' value { string_value: '0' } }"),
            "rnnserve.constant 's': in state too; expected it in one of the two",
        ),
        (
            BATCH,
            BATCH,
            config(4, "2", "parameters { key: 'rnnserve.constant.z' value { string_value: '0' } }"),
            "parameters: rnnserve.constant.z: the model has no such input; it has: s, x",
        ),
    ],
)
def test_shapes_that_do_not_go_together(
    make_model: MakeModel,
    x: Sequence[int | str] | None,
    s: Sequence[int | str] | None,
    text: str,
    answer: str,
) -> None:
    path = make_model("m", text, model_of(x, s))
    with pytest.raises(StartupError) as caught:
        load(path)
    assert str(caught.value) == f"{path / 'config.pbtxt'}: {answer}"


def test_outputs_that_cannot_be_served_may_be_left_out(make_model: MakeModel) -> None:
    words = helper.make_tensor_value_info("words", TensorProto.STRING, BATCH)
    map_type = helper.make_map_type_proto(
        TensorProto.INT64, helper.make_tensor_type_proto(FLOAT, None)
    )
    maps = helper.make_value_info("maps", helper.make_sequence_type_proto(map_type))
    for name, output, why in (
        ("words", words, "type STRING is not supported; the model has it for 'words'"),
        ("maps", maps, "'maps' is no tensor in the model; expected a tensor"),
    ):
        model = model_of(BATCH, BATCH, output)
        path = make_model(f"{name}/m", config(4, "2"), model)
        with pytest.raises(StartupError) as caught:
            load(path)
        assert str(caught.value).endswith(
            f"tensor '{name}' of the model: {why}; expected a list of the outputs to serve, in"
            " output"
        )
        listed = config(4, "2", 'output { name: "y" data_type: TYPE_FP32 dims: [ 2 ] }')
        [spec] = load(make_model(f"{name}/listed/m", listed, model))
        assert [tensor.name for tensor in spec.outputs] == ["y"]


def test_outputs_whose_types_the_file_leaves_out(make_model: MakeModel) -> None:
    """As onnxscript writes functions without annotations: ONNX Runtime infers them, too."""
    model = model_of(BATCH, BATCH)
    for output in model.graph.output:
        output.ClearField("type")
    [spec] = load(make_model("untyped", config(4, "2"), model))
    assert [(tensor.name, tensor.shape) for tensor in spec.outputs] == [("y", (-1, 2))]
    assert [(state.output, state.shape) for state in spec.states] == [("s_next", (2,))]
