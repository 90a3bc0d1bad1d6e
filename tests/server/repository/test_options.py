"""What `optimization` and `parameters` say about how a model is run."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import text_format

from server.repository.options import run_options
from server.repository.problem import Problem
from server.repository.spec import NO_OPTIONS, RunOptions
from server.stubs.inference.model_config_pb2 import ModelConfig

SHRINK = "memory.enable_memory_arena_shrinkage"
CUDA = "optimization.execution_accelerators.gpu_execution_accelerator"


def parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n'


def accelerator(name: str, where: str = "gpu", **parameters: str) -> str:
    entries = "".join(
        f'parameters {{ key: "{key}" value: "{value}" }} ' for key, value in parameters.items()
    )
    return (
        f"optimization {{ execution_accelerators {{ {where}_execution_accelerator [ {{"
        f' name: "{name}" {entries} }} ] }} }}\n'
    )


def options_of(text: str) -> RunOptions:
    return run_options(text_format.Parse(text, ModelConfig()))


def test_a_configuration_that_says_nothing() -> None:
    assert options_of("") == NO_OPTIONS
    assert options_of(parameter("EXECUTION_ENV_PATH", "of another backend")) == NO_OPTIONS


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("optimization { graph { level: 0 } }", "graph_level", "all"),
        ("optimization { graph { level: 1 } }", "graph_level", "extended"),
        ("optimization { graph { level: -1 } }", "graph_level", "basic"),
        ("optimization { graph { level: 2 } }", "graph_level", "none"),
        (parameter("intra_op_thread_count", "0"), "intra_op_threads", 0),
        (parameter("intra_op_thread_count", "6"), "intra_op_threads", 6),
        (parameter("inter_op_thread_count", "2"), "inter_op_threads", 2),
        (parameter("execution_mode", "0"), "parallel", False),
        (parameter("execution_mode", "1"), "parallel", True),
        (parameter("enable_mem_arena", "0"), "memory_arena", False),
        (parameter("enable_mem_arena", "True"), "memory_arena", True),
        (parameter("enable_mem_pattern", "1"), "memory_pattern", True),
        (parameter("enable_mem_pattern", "false"), "memory_pattern", False),
        (parameter(SHRINK, "cpu:0"), "shrinks", ("cpu",)),
        (parameter(SHRINK, "gpu:1;cpu:0"), "shrinks", ("cpu", "gpu")),
        (
            parameter("session.use_device_allocator_for_initializers", "1"),
            "session",
            {"session.use_device_allocator_for_initializers": "1"},
        ),
        (
            parameter("session.intra_op.allow_spinning", "true"),
            "session",
            {"session.intra_op.allow_spinning": "1"},
        ),
        (
            parameter("session.dynamic_block_base", "4"),
            "session",
            {"session.dynamic_block_base": "4"},
        ),
        (
            accelerator("cuda", use_tf32="1", gpu_mem_limit="4294967296"),
            "cuda",
            {"use_tf32": "1", "gpu_mem_limit": "4294967296"},
        ),
        (parameter("cudnn_conv_algo_search", "1"), "cuda", {"cudnn_conv_algo_search": "HEURISTIC"}),
        (
            parameter("arena_extend_strategy", "1") + parameter("gpu_mem_limit", str(2**64 - 1)),
            "cuda",
            {"arena_extend_strategy": "kSameAsRequested", "gpu_mem_limit": str(2**64 - 1)},
        ),
        (parameter("share_session_between_instances", "true"), "parallel", False),
    ],
)
def test_what_is_said_is_taken(text: str, field: str, value: Any) -> None:
    assert getattr(options_of(text), field) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "optimization { graph { level: 3 } }",
            "optimization.graph.level: 3; expected 0 (all optimizations), 1 (extended), -1 (basic)"
            " or 2 (none)",
        ),
        (
            parameter("intra_op_thread_count", "-1"),
            "parameters: intra_op_thread_count: '-1'; expected a whole number from 0 to 4096",
        ),
        (
            parameter("intra_op_thread_count", "5000"),
            "parameters: intra_op_thread_count: '5000'; expected a whole number from 0 to 4096",
        ),
        (
            parameter("inter_op_thread_count", "two"),
            "parameters: inter_op_thread_count: 'two'; expected a whole number from 0 to 4096",
        ),
        (
            parameter("execution_mode", "2"),
            "parameters: execution_mode: '2'; expected 0 (sequential) or 1 (parallel)",
        ),
        (
            parameter("enable_mem_arena", "yes"),
            "parameters: enable_mem_arena: 'yes'; expected 1 or 0, or true or false",
        ),
        (
            parameter("enable_mem_pattern", ""),
            "parameters: enable_mem_pattern: ''; expected 1 or 0, or true or false",
        ),
        (
            parameter("share_session_between_instances", "2"),
            "parameters: share_session_between_instances: '2'; expected 1 or 0, or true or false",
        ),
        (
            parameter(SHRINK, "cuda:0"),
            f"parameters: {SHRINK}: 'cuda:0'; expected devices such as 'cpu:0' or 'cpu:0;gpu:0'",
        ),
        (
            parameter(SHRINK, "cpu:0") + parameter("enable_mem_arena", "0"),
            f"parameters: {SHRINK}: 'cpu:0'; with enable_mem_arena: 0 there is none on the CPU",
        ),
        (
            parameter("session.load_model_format", "ORT"),
            "parameters: session.load_model_format: not supported; there is: session.disable_aot",
        ),
        (
            parameter("session.intra_op.allow_spining", "1"),
            "(did you mean 'session.intra_op.allow_spinning'?)",
        ),
        (
            parameter("session.disable_prepacking", "maybe"),
            "parameters: session.disable_prepacking: 'maybe'; expected 1 or 0, or true or false",
        ),
        (
            accelerator("tensorrt", precision_mode="FP16"),
            f"{CUDA}: name 'tensorrt': not supported by this server; take it out, and CUDA runs",
        ),
        (accelerator("gpu_io"), f"{CUDA}: name 'gpu_io': expected 'cuda'"),
        (
            accelerator("openvino", "cpu"),
            "optimization.execution_accelerators.cpu_execution_accelerator: name 'openvino': not"
            " supported by this server; take it out, and ONNX Runtime's own CPU kernels run",
        ),
        (accelerator("xnnpack", "cpu"), "cpu_execution_accelerator: name 'xnnpack': expected none"),
        (
            accelerator("cuda", device_id="1"),
            f"{CUDA}: device_id: not supported by this server: the device stands in instance_group",
        ),
        (
            accelerator("cuda", enable_cuda_graph="1"),
            f"{CUDA}: enable_cuda_graph: not supported by this server: every step has memory of",
        ),
        (
            accelerator("cuda", use_tf23="1"),
            f"{CUDA}: use_tf23: not known; there is: arena_extend_strategy, ",
        ),
        (
            accelerator("cuda", cudnn_conv_algo_search="1"),
            f"{CUDA}: cudnn_conv_algo_search: '1'; expected one of EXHAUSTIVE, HEURISTIC, DEFAULT",
        ),
        (
            accelerator("cuda", do_copy_in_default_stream="0"),
            f"{CUDA}: do_copy_in_default_stream: '0'; expected 1: copies on a stream of their own",
        ),
        (
            parameter("cudnn_conv_algo_search", "3"),
            "parameters: cudnn_conv_algo_search: '3'; expected a whole number from 0 to 2",
        ),
        (
            parameter("gpu_mem_limit", "4GB"),
            "parameters: gpu_mem_limit: '4GB'; expected a whole number from 0 to 18446744073709551",
        ),
        (
            accelerator("cuda", gpu_mem_limit="1") + parameter("gpu_mem_limit", "1"),
            "parameters: gpu_mem_limit: stands in optimization.execution_accelerators, too",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(Problem) as caught:
        options_of(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "device", "gpu"),
    [
        ("", "auto", None),
        ("instance_group { }", "auto", None),
        ("instance_group { kind: KIND_AUTO gpus: [ 2 ] }", "auto", 2),
        ("instance_group { kind: KIND_MODEL }", "auto", None),
        ("instance_group { kind: KIND_CPU count: 2 }", "cpu", None),
        ("instance_group { kind: KIND_GPU }", "gpu", None),
        ("instance_group { kind: KIND_GPU gpus: [ 1 ] }", "gpu", 1),
        (
            "instance_group [ { kind: KIND_GPU gpus: [ 1 ] }, { kind: KIND_GPU gpus: [ 1 ] } ]",
            "gpu",
            1,
        ),
    ],
)
def test_the_device(text: str, device: str, gpu: int | None) -> None:
    options = options_of(text)
    assert (options.device, options.gpu) == (device, gpu)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "instance_group { kind: KIND_CPU gpus: [ 0 ] }",
            "instance_group: KIND_CPU with gpus [0]; expected none",
        ),
        (
            "instance_group { kind: KIND_MODEL gpus: [ 0 ] }",
            "instance_group: KIND_MODEL with gpus [0]; expected none",
        ),
        (
            "instance_group [ { kind: KIND_CPU }, { kind: KIND_GPU } ]",
            "instance_group: KIND_CPU and KIND_GPU; expected one kind",
        ),
        (
            "instance_group { kind: KIND_GPU gpus: [ 1, 0 ] }",
            "instance_group.gpus: [0, 1]; expected one of them",
        ),
        (
            "instance_group [ { kind: KIND_GPU gpus: [ 0 ] }, { kind: KIND_GPU gpus: [ 1 ] } ]",
            "instance_group.gpus: [0, 1]; expected one of them",
        ),
        (
            "instance_group { kind: KIND_GPU gpus: [ -1 ] }",
            "instance_group.gpus: -1; expected the number of a GPU, 0 or more",
        ),
        ("instance_group { kind: 9 }", "instance_group.kind: 9 is not known"),
    ],
)
def test_devices_that_a_model_cannot_have(text: str, said: str) -> None:
    with pytest.raises(Problem) as caught:
        options_of(text)
    assert str(caught.value).startswith(said)
