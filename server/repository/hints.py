"""What may be amiss with a model that can be served all the same: a line for the log each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.repository import scan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from server.repository.onnx_file import GraphTensor, OnnxFile
    from server.stubs.inference.model_config_pb2 import ModelConfig


def of_directory(model_dir: Path, present: list[int], config: ModelConfig) -> Iterator[str]:
    """About versions. `present` are those in `model_dir`."""
    for version in scan.missing(present, config.version_policy):
        yield f"version_policy.specific: version {version} is not there; present: {present}"
    for name in scan.odd_names(model_dir):
        yield f"directory {name!r} is no version; expected a number from 1 on, without zeros before"


def of_states(config: ModelConfig) -> Iterator[str]:
    """About sizes that nobody has said."""
    for state in config.sequence_batching.state:
        if -1 in state.dims and not state.initial_state:
            yield (
                f"state {state.input_name!r}: dims {list(state.dims)}: -1 is taken as 1, as without"
                " an initial_state that says more; a step that gives another size fails"
            )


def of_graph(config: ModelConfig, model: OnnxFile) -> Iterator[str]:
    """About states that nobody configured, where the inputs were not listed either. Whether they
    are states cannot be told from shapes; that is what the command looks into.
    """
    required, outputs = model.required, list(model.outputs.values())
    if config.input or config.HasField("sequence_batching") or min(len(required), len(outputs)) < 2:
        return
    alike = []
    for tensor in (model.inputs[name] for name in required):
        output = next((output for output in outputs if _is_alike(tensor, output)), None)
        if output is not None:
            outputs.remove(output)
            alike.append(tensor.name)
    if alike:
        yield (
            "served without states, though there are outputs of the same shape as these inputs, as"
            f" a state's next value has: {', '.join(alike)};"
            f" `rnnserve inspect {model.path}` tells more"
        )


def _is_alike(tensor: GraphTensor, output: GraphTensor) -> bool:
    """Exporters often lose the sizes of what comes out."""
    if not tensor.shape or tensor.elem_type != output.elem_type:
        return False
    return output.shape in (tensor.shape, (-1,) * len(tensor.shape))
