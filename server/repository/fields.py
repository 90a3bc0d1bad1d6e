"""Which fields of a model configuration mean something here. The only such table.

A field that is set stands in one of the two tables below or under an entry of them, or it is
refused by name. What has no effect is said when the model is loaded: nothing is ever ignored in
silence, fields of a future schema included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.message import Message

from server.repository.options import is_read
from server.repository.parameters import PREFIX
from server.repository.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from server.stubs.inference.model_config_pb2 import ModelConfig

READ = frozenset(
    {
        "name",
        "platform",
        "backend",
        "runtime",
        "version_policy",
        "max_batch_size",
        "default_model_filename",
        "input.name",
        "input.data_type",
        "input.dims",
        "input.reshape",
        "input.optional",
        "input.format",  # it has three dims then; they may mean anything
        "output.name",
        "output.data_type",
        "output.dims",
        "output.reshape",
        "output.label_filename",
        "dynamic_batching.preferred_batch_size",
        "dynamic_batching.max_queue_delay_microseconds",
        "dynamic_batching.priority_levels",
        "dynamic_batching.default_priority_level",
        "dynamic_batching.default_queue_policy",
        "dynamic_batching.priority_queue_policy",
        "instance_group.name",
        "instance_group.count",
        "instance_group.kind",
        "instance_group.gpus",
        "sequence_batching.max_sequence_idle_microseconds",
        "sequence_batching.control_input.name",
        "sequence_batching.control_input.control.kind",
        "sequence_batching.control_input.control.int32_false_true",
        "sequence_batching.control_input.control.fp32_false_true",
        "sequence_batching.control_input.control.bool_false_true",
        "sequence_batching.control_input.control.data_type",
        "sequence_batching.state.input_name",
        "sequence_batching.state.output_name",
        "sequence_batching.state.data_type",
        "sequence_batching.state.dims",
        "sequence_batching.state.initial_state",
        "optimization.graph.level",
        "optimization.execution_accelerators.gpu_execution_accelerator.name",
        "optimization.execution_accelerators.gpu_execution_accelerator.parameters",
        "optimization.execution_accelerators.cpu_execution_accelerator.name",
        "optimization.execution_accelerators.cpu_execution_accelerator.parameters",
        "model_warmup.name",
        "model_warmup.batch_size",
        "model_warmup.count",
        "model_warmup.inputs",
        "metric_tags",
        "parameters",  # ours and those of options.py; other keys are said to have no effect
    }
)

# They tune another server, describe, or report; no result depends on them.
WITHOUT_EFFECT = {
    "dynamic_batching.preserve_ordering": "streams are in order always, and calls have none",
    "sequence_batching.direct.max_queue_delay_microseconds": "a step waits for the engine alone",
    "sequence_batching.direct.minimum_slot_utilization": "a step waits for the engine alone",
    "sequence_batching.oldest.max_candidate_sequences": "every sequence takes part",
    "sequence_batching.oldest.preferred_batch_size": "a run takes all rows that wait",
    "sequence_batching.oldest.max_queue_delay_microseconds": "a step waits for the engine alone",
    "sequence_batching.oldest.preserve_ordering": (
        "the answers of a sequence, and those of a stream, are in the order of requests always"
    ),
    "sequence_batching.state.use_same_buffer_for_input_output": (
        "states never leave the device, and a step that fails must leave them as they were"
    ),
    "instance_group.rate_limiter": "as many runs as there are instances, whatever else runs",
    "instance_group.secondary_devices": "TensorRT only: a model runs on one device",
    "instance_group.host_policy": "it names settings of another server's command line",
    "optimization.priority": "all models are equal",
    "optimization.cuda": "TensorRT only, as in Triton",
    "optimization.input_pinned_memory": "ONNX Runtime copies inputs",
    "optimization.output_pinned_memory": "ONNX Runtime copies outputs",
    "optimization.gather_kernel_buffer_threshold": "inputs are put together on the host",
    "optimization.eager_batching": "a batch is put together when the engine is free",
    "response_cache.enable": "there is no cache",
    "model_metrics": "the histograms here have other names, and buckets of their own",
}

# Messages that say nothing by standing there empty.
_GROUPS = frozenset(
    {"model_transaction_policy", "sequence_batching.direct", "sequence_batching.oldest"}
)
_INTERIOR = _GROUPS | {
    entry.rsplit(".", depth)[0]
    for entry in READ | WITHOUT_EFFECT.keys()
    for depth in range(1, entry.count(".") + 1)
}


def check_fields(config: ModelConfig) -> None:
    """Raises Problem at the first field that would change what the model does and is not read."""
    for path in _set_fields(config):
        if path not in WITHOUT_EFFECT:
            raise Problem(f"{path}: not supported by this server; take it out to serve without it")


def without_effect(config: ModelConfig) -> dict[str, str]:
    """What is set in vain, and why; parameters among it that nobody reads."""
    paths = dict.fromkeys(path for path in _set_fields(config) if path in WITHOUT_EFFECT)
    unread = [key for key in config.parameters if not key.startswith(PREFIX) and not is_read(key)]
    return {path: WITHOUT_EFFECT[path] for path in paths} | {
        f"parameters: {key}": "nobody reads it here" for key in sorted(unread)
    }


def _set_fields(message: Message, prefix: str = "") -> Iterator[str]:
    """Paths of fields that are set and not read."""
    for field, value in message.ListFields():
        path = prefix + field.name
        if path in READ:
            continue
        if path in WITHOUT_EFFECT or path not in _INTERIOR:
            yield path
            continue
        entries: Iterable[Message] = [value] if isinstance(value, Message) else value
        for entry in entries:
            yield from _set_fields(entry, path + ".")
