"""Every field of the schema is read, said to have no effect, or refused by name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from onnx import TensorProto, helper

from server.errors import StartupError
from server.repository.fields import READ, WITHOUT_EFFECT, check_fields, without_effect
from server.repository.load import load
from server.repository.options import PARAMETERS, run_options
from server.repository.problem import Problem
from server.stubs.inference.model_config_pb2 import ModelConfig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import onnx
    from google.protobuf.descriptor import Descriptor

    from tests.server.conftest import LstmModel, MakeModel

Fields = tuple[FieldDescriptor, ...]

# What is refused, by the first field that says so. A field of the schema that stands neither here
# nor in one of the two tables is a decision that nobody has taken.
REFUSED = {
    "batch_input",
    "batch_output",
    "cc_model_filenames",
    "ensemble_scheduling",
    "input.allow_ragged_batch",
    "input.is_non_linear_format_io",
    "input.is_shape_tensor",
    "instance_group.passive",
    "instance_group.profile",
    "model_operations",
    "model_repository_agents",
    "model_transaction_policy.decoupled",
    "output.is_non_linear_format_io",
    "output.is_shape_tensor",
    "sequence_batching.iterative_sequence",
    "sequence_batching.state.use_growable_memory",
}


def leaves(message: Descriptor, before: Fields = ()) -> Iterator[Fields]:
    """The way to every field that has no fields of its own; a map counts as one."""
    for field in message.fields:
        inner = field.message_type
        way = (*before, field)
        if inner is None or inner.GetOptions().map_entry or not inner.fields:
            yield way
        else:
            yield from leaves(inner, way)


def name_of(way: Fields) -> str:
    return ".".join(field.name for field in way)


def minimal(way: Fields) -> ModelConfig:
    """A configuration in which that field is set, and nothing else."""
    config = ModelConfig()
    message: Any = config
    for field in way[:-1]:
        inner = getattr(message, field.name)
        message = inner.add() if field.is_repeated else inner
        if not field.is_repeated:
            message.SetInParent()
    _set(message, way[-1])
    return config


def _set(message: Any, field: FieldDescriptor) -> None:
    value, inner = getattr(message, field.name), field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        key = 1 if inner.fields_by_name["key"].cpp_type != FieldDescriptor.CPPTYPE_STRING else "k"
        if inner.fields_by_name["value"].message_type is None:
            value[key] = "v"
        else:
            value[key].SetInParent()
    elif inner is not None:
        value.add() if field.is_repeated else value.SetInParent()
    elif field.is_repeated:
        value.append(_scalar(field))
    else:
        setattr(message, field.name, _scalar(field))


def _scalar(field: FieldDescriptor) -> Any:
    if field.enum_type is not None:  # one of them knows no other value than the one that is 0
        return max(value.number for value in field.enum_type.values)
    return {FieldDescriptor.CPPTYPE_STRING: "x", FieldDescriptor.CPPTYPE_BOOL: True}.get(
        field.cpp_type, 1
    )


def entry_in(table: Any, path: str) -> str | None:
    """The entry that counts for the field: itself, or what it is a part of."""
    parts = path.split(".")
    prefixes = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return next((prefix for prefix in prefixes if prefix in table), None)


ALL = [pytest.param(way, id=name_of(way)) for way in leaves(ModelConfig.DESCRIPTOR)]


def test_the_schema_is_walked_to_its_end() -> None:
    paths = {name_of(param.values[0]) for param in ALL}  # type: ignore[arg-type]
    assert len(paths) == len(ALL) > 100
    assert {
        "name",
        "version_policy.all",
        "input.reshape.shape",
        "dynamic_batching.priority_queue_policy",
        "ensemble_scheduling.step.input_map",
        "model_metrics.metric_control.histogram_options.buckets",
        "optimization.cuda.graph_spec.graph_lower_bound.batch_size",
        "sequence_batching.state.initial_state.data_file",
    } <= paths


@pytest.mark.parametrize("way", ALL)
def test_a_field_is_read_or_said_to_have_no_effect_or_refused(way: Fields) -> None:
    path, config = name_of(way), minimal(way)
    read, vain, refused = (entry_in(table, path) for table in (READ, WITHOUT_EFFECT, REFUSED))
    assert [read, vain, refused].count(None) == 2
    if refused is not None:
        with pytest.raises(Problem, match=f"^{refused}[.a-z_]*: not supported by this server"):
            check_fields(config)
        return
    check_fields(config)
    if read is not None:
        expected = {"parameters: k": "nobody reads it here"} if path == "parameters" else {}
        assert without_effect(config) == expected
    else:
        assert vain is not None
        assert without_effect(config) == {vain: WITHOUT_EFFECT[vain]}
        assert WITHOUT_EFFECT[vain]


@pytest.mark.parametrize("path", sorted({*READ, *WITHOUT_EFFECT, *REFUSED}))
def test_the_tables_name_fields_of_the_schema(path: str) -> None:
    message: Descriptor | None = ModelConfig.DESCRIPTOR
    for name in path.split("."):
        assert message is not None
        message = message.fields_by_name[name].message_type


@pytest.mark.parametrize(
    "text",
    [
        "model_transaction_policy { decoupled: false }",
        "model_transaction_policy { }",
        "sequence_batching { oldest { } }",
        "sequence_batching { direct { } }",
        "response_cache { enable: false }",
        'instance_group { name: "g" } input { allow_ragged_batch: false }',
        'parameters { key: "rnnserve.may_be_cut" value { string_value: "true" } }',
    ],
)
def test_what_says_nothing_is_not_complained_about(text: str) -> None:
    config = text_format.Parse(text, ModelConfig())
    check_fields(config)
    assert without_effect(config) == {}


def test_every_instance_of_a_field_counts() -> None:
    text = "input { } input { is_shape_tensor: true }"
    with pytest.raises(Problem, match=r"^input.is_shape_tensor: not supported"):
        check_fields(text_format.Parse(text, ModelConfig()))
    text = "instance_group { host_policy: 'a' } instance_group { host_policy: 'b' }"
    assert list(without_effect(text_format.Parse(text, ModelConfig()))) == [
        "instance_group.host_policy"
    ]


@pytest.mark.parametrize("key", PARAMETERS)
def test_parameters_that_are_said_to_be_read_are(key: str) -> None:
    config = ModelConfig()
    config.parameters[key].string_value = "?"
    assert without_effect(config) == {}
    with pytest.raises(Problem, match=f"parameters: {key}: '\\?'"):
        run_options(config)


def test_other_parameters_are_named() -> None:
    config = ModelConfig()
    for key in ("tempo", "execution_mode", "rnnserve.may_be_cut", "Rnnserve.may_be_cut"):
        config.parameters[key].string_value = "0"
    assert list(without_effect(config)) == ["parameters: Rnnserve.may_be_cut", "parameters: tempo"]


def test_they_come_with_the_model(make_model: MakeModel, affine_model: onnx.ModelProto) -> None:
    text = "max_batch_size: 4 response_cache { enable: true }"
    [spec] = load(make_model("m", text, affine_model))
    assert spec.without_effect == {"response_cache.enable": "there is no cache"}


# ---- what is read matters -----------------------------------------------------------------------

FLAG = 'sequence_batching { control_input { name: "signal" control { %s } } }\n'
START = "kind: CONTROL_SEQUENCE_START %s"
CUDA = "optimization { execution_accelerators { gpu_execution_accelerator { %s } } }"
WARMUP = "model_warmup { batch_size: 1 %s }"
H = '"h_next" data_type: TYPE_FP32 dims: [ 4 ]'

# Field → what stands in the good configuration of "lstm", or of "signal", and what instead. Empty:
# the second is put in front.
MATTERS: dict[str, tuple[str, str, str]] = {
    "name": ("lstm", 'name: "lstm"', 'name: "gru"'),
    "platform": ("lstm", '"onnxruntime_onnx"', '"pytorch_libtorch"'),
    "backend": ("lstm", '"onnxruntime"', '"pytorch"'),
    "runtime": ("lstm", "", 'runtime: "model.py"'),
    "version_policy": ("lstm", "", "version_policy { all { } }"),
    "max_batch_size": ("lstm", "max_batch_size: 8", "max_batch_size: 9"),
    "default_model_filename": ("lstm", "", 'default_model_filename: "m.onnx"'),
    "metric_tags": ("lstm", "", 'metric_tags { key: "a-b" value: "v" }'),
    "parameters": ("lstm", 'string_value: "true"', 'string_value: "false"'),
    "input.name": ("lstm", 'name: "frames"', 'name: "f"'),
    "input.data_type": ("lstm", "TYPE_FP32 dims: [ -1, 3 ]", "TYPE_FP64 dims: [ -1, 3 ]"),
    "input.dims": ("lstm", "dims: [ -1, 3 ]", "dims: [ 1, 3 ]"),
    "input.reshape": ("lstm", "dims: [ -1, 3 ]", "dims: [ -1, 1, 3 ] reshape { shape: [ -1, 3 ] }"),
    "input.optional": ("lstm", "dims: [ -1, 3 ]", "dims: [ -1, 3 ] optional: true"),
    "input.format": ("lstm", "dims: [ -1, 3 ]", "dims: [ -1, 3 ] format: FORMAT_NCHW"),
    "output.name": ("lstm", 'name: "y"', 'name: "z"'),
    "output.data_type": ("lstm", "TYPE_FP32 dims: [ -1, 4 ]", "TYPE_FP64 dims: [ -1, 4 ]"),
    "output.dims": ("lstm", "dims: [ -1, 4 ]", "dims: [ 7, 4 ]"),
    "output.reshape": (
        "lstm",
        "dims: [ -1, 4 ]",
        "dims: [ -1, 2, 2 ] reshape { shape: [ -1, 4 ] }",
    ),
    "output.label_filename": ("lstm", "dims: [ -1, 4 ]", 'dims: [ -1, 4 ] label_filename: "no"'),
    "instance_group.count": ("lstm", "", "instance_group { count: 2 }"),
    "instance_group.kind": ("lstm", "", "instance_group { kind: KIND_CPU }"),
    "instance_group.gpus": ("lstm", "", "instance_group { gpus: [ 1 ] }"),
    "sequence_batching.max_sequence_idle_microseconds": ("lstm", "5000000", "6000000"),
    "sequence_batching.control_input.name": ("signal", '"signal"', '"sign"'),
    "sequence_batching.control_input.control.kind": ("signal", "_START", "_END"),
    "sequence_batching.control_input.control.fp32_false_true": ("signal", "[ 0, 1 ]", "[ 0, 2 ]"),
    "sequence_batching.control_input.control.int32_false_true": ("signal", "fp32_", "int32_"),
    "sequence_batching.control_input.control.bool_false_true": (
        "signal",
        "fp32_false_true: [ 0, 1 ]",
        "bool_false_true: [ false, true ]",
    ),
    "sequence_batching.control_input.control.data_type": (
        "signal",
        "[ 0, 1 ]",
        "[ 0, 1 ] data_type: TYPE_INT32",
    ),
    "sequence_batching.state.input_name": ("lstm", 'input_name: "h"', 'input_name: "i"'),
    "sequence_batching.state.output_name": ("lstm", '"h_next"', '"y"'),
    "sequence_batching.state.data_type": ("lstm", H, H.replace("FP32", "FP64")),
    "sequence_batching.state.dims": ("lstm", H, H.replace("4", "5")),
    "sequence_batching.state.initial_state": ("lstm", "zero_data: true", 'data_file: "ones"'),
    "optimization.graph.level": ("lstm", "", "optimization { graph { level: 2 } }"),
    "optimization.execution_accelerators.gpu_execution_accelerator.name": (
        "lstm",
        "",
        CUDA % 'name: "tensorrt"',
    ),
    "optimization.execution_accelerators.gpu_execution_accelerator.parameters": (
        "lstm",
        "",
        CUDA % 'name: "cuda" parameters { key: "use_tf32" value: "0" }',
    ),
    "optimization.execution_accelerators.cpu_execution_accelerator.name": (
        "lstm",
        "",
        CUDA.replace("gpu", "cpu") % 'name: "openvino"',
    ),
    "model_warmup.name": ("lstm", "", WARMUP % 'name: "w"'),
    "model_warmup.batch_size": ("lstm", "", "model_warmup { batch_size: 2 }"),
    "model_warmup.count": ("lstm", "", WARMUP % "count: 2"),
    "model_warmup.inputs": (
        "lstm",
        "",
        WARMUP % 'inputs { key: "frames" value { dims: [ 3, 3 ] zero_data: true } }',
    ),
}
# Field → where else it is shown to matter, or why there is nothing to show.
ELSEWHERE = {
    "instance_group.name": "a name, which ModelConfig repeats",
    "optimization.execution_accelerators.cpu_execution_accelerator.parameters": (
        "none of these accelerators is there, whatever its parameters"
    ),
    **{
        f"dynamic_batching.{field}": "tests/server/test_queueing.py"
        for field in (
            "preferred_batch_size",
            "max_queue_delay_microseconds",
            "priority_levels",
            "default_priority_level",
            "default_queue_policy",
            "priority_queue_policy",
        )
    },
}


SIGNAL_CONFIG = "max_batch_size: 4\n" + FLAG % (START % "fp32_false_true: [ 0, 1 ]")


@pytest.fixture
def signal_model() -> onnx.ModelProto:
    """`y` = `x` (batch, 1), and an input `signal` (batch, 1)."""
    names = ("x", "signal", "y")
    x, signal, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1]) for name in names
    )
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "g", [x, signal], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def outcome(path: Path) -> str:
    """All that came of the configuration, other than its own text."""
    try:
        specs = load(path)
    except StartupError as error:
        return str(error).replace(str(path), "")
    same = {"config": ModelConfig(), "digest": "", "onnx_path": path.relative_to(path)}
    return repr([replace(spec, **same) for spec in specs])


@pytest.mark.parametrize("path", sorted(READ - ELSEWHERE.keys()))
def test_a_field_that_is_read_changes_what_is_served(
    make_model: MakeModel,
    lstm_model: LstmModel,
    lstm_config: str,
    signal_model: onnx.ModelProto,
    path: str,
) -> None:
    base, old, new = MATTERS[path]
    text = lstm_config if base == "lstm" else SIGNAL_CONFIG
    models = [lstm_model(seed=seed) for seed in (1, 2)] if base == "lstm" else [signal_model]
    assert old in text
    changed = text.replace(old, new, 1) if old else f"{new}\n{text}"
    ones = {"ones": b"\0\0\x80\x3f" * 4}
    before, again, after = (
        outcome(make_model(f"{place}/{base}", said, *models, initial_state=ones))
        for place, said in enumerate((text, text, changed))
    )
    assert before.startswith("[ModelSpec(")
    assert again == before
    assert after != before
