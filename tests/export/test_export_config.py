"""config.pbtxt: parsed with the real schema and held against the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from google.protobuf import text_format

import models
from export.config import Serving
from export.errors import ExportError
from export.pipeline import to_onnx
from export.program import CONFIG_KEY
from server.stubs.inference import model_config_pb2 as schema

if TYPE_CHECKING:
    import onnx


def parsed(graph: onnx.ModelProto) -> Any:
    properties = {entry.key: entry.value for entry in graph.metadata_props}
    return text_format.Parse(properties[CONFIG_KEY], schema.ModelConfig())


def dims(value: onnx.ValueInfoProto) -> list[int]:
    """As config.pbtxt counts them: without the batch, -1 for a dynamic axis."""
    return [d.dim_value or -1 for d in value.type.tensor_type.shape.dim][1:]


def test_it_says_what_the_graph_says(build: Any) -> None:
    model = build(
        models.LSTM(4, return_sequences=True, name="lower"),
        models.GRU(6, return_sequences=True),
        models.Dense(3, "softmax"),
        output_name="probabilities",
    )
    graph = to_onnx(model, name="vowels-2", max_batch_size=8, idle_seconds=1.5)
    config = parsed(graph)
    assert (config.name, config.platform, config.backend, config.max_batch_size) == (
        "vowels-2",
        "onnxruntime_onnx",
        "onnxruntime",
        8,
    )
    assert config.sequence_batching.max_sequence_idle_microseconds == 1_500_000
    assert config.sequence_batching.WhichOneof("strategy_choice") == "oldest"

    inputs = {value.name: dims(value) for value in graph.graph.input}
    outputs = {value.name: dims(value) for value in graph.graph.output}
    states = config.sequence_batching.state
    assert [state.input_name for state in states] == ["lower_h", "lower_c", "gru_h"]
    for state in states:
        assert inputs.pop(state.input_name) == outputs.pop(state.output_name) == list(state.dims)
        (initial,) = state.initial_state
        assert initial.zero_data
        assert list(initial.dims) == list(state.dims)
        assert initial.data_type == state.data_type == schema.TYPE_FP32
    assert {tensor.name: list(tensor.dims) for tensor in config.input} == inputs
    assert {tensor.name: list(tensor.dims) for tensor in config.output} == outputs
    assert all(t.data_type == schema.TYPE_FP32 for t in [*config.input, *config.output])
    assert {key: value.string_value for key, value in config.parameters.items()} == {
        "rnnserve.may_be_cut": "true",
        "rnnserve.time_axis.frames": "1",
        "rnnserve.time_axis.probabilities": "1",
    }


def test_a_mask_may_be_left_out_and_a_constant_comes_once() -> None:
    cell = _AddsContext()
    layer = models.RNN(cell, return_sequences=True)
    layer.build([(None, None, 3), (None, 3)])
    inputs = {
        "frames": models.Input((None, None, 3)),
        "context": models.Input((None, 3), constant=True),
    }
    config = parsed(to_onnx(layer, inputs=inputs, mask=True))
    assert {tensor.name: tensor.data_type for tensor in config.input} == {
        "frames": schema.TYPE_FP32,
        "context": schema.TYPE_FP32,
        "mask": schema.TYPE_BOOL,
    }
    assert [tensor.name for tensor in config.input if tensor.optional] == ["mask"]
    said = {key: value.string_value for key, value in config.parameters.items()}
    assert said == {
        "rnnserve.constant.context": "session",
        "rnnserve.default.mask": "1",
        "rnnserve.time_axis.frames": "1",
        "rnnserve.time_axis.mask": "1",
        "rnnserve.time_axis.output": "1",
    }


class _AddsContext:
    """A cell that is no module, and takes a constant."""

    state_size = 3

    def call(self, inputs: Any, states: Any, constants: Any) -> Any:
        h = torch.tanh(inputs + states[0] + constants[0])
        return 2 * h, (h,)


def test_defaults(small: models.Sequential) -> None:
    config = parsed(to_onnx(small))
    assert (config.name, config.max_batch_size) == ("tested", 64)
    assert config.sequence_batching.max_sequence_idle_microseconds == 600_000_000


def test_the_largest_numbers_fit_into_their_fields(small: models.Sequential) -> None:
    config = parsed(to_onnx(small, max_batch_size=2**31 - 1, idle_seconds=1e12))
    assert config.max_batch_size == 2**31 - 1
    assert config.sequence_batching.max_sequence_idle_microseconds == 10**18


@pytest.mark.parametrize("name", ["", ".hidden", "-x", "a/b", "a b", 'a"b', "..", "naïve"])
def test_names_that_cannot_be_served(name: str) -> None:
    with pytest.raises(ExportError, match="model name"):
        Serving(name)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"max_batch_size": 0}, "max batch size is 0"),
        ({"max_batch_size": 2**31}, "max batch size is 2147483648"),
        ({"idle_seconds": 0.0}, "idle time"),
        ({"idle_seconds": 1e-7}, "from 1e-06 to 1e\\+12"),
        ({"idle_seconds": 1e14}, "from 1e-06 to 1e\\+12"),
        ({"idle_seconds": float("nan")}, "idle time"),
        ({"idle_seconds": float("inf")}, "idle time"),
    ],
)
def test_numbers_that_make_no_sense(numbers: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        Serving("m", **numbers)
