"""First runs at start-up, so that the first request does not wait for plans, kernels and memory."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from server.errors import StartupError, StepFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from server.engine.engine import Engine
    from server.repository.spec import ModelSpec, TensorSpec


def warm_up(engine: Engine) -> None:
    """Runs zeros at the smallest and the largest batch; the arena is afterwards as it was.

    Raises StartupError if the model fails although nothing about its inputs was guessed, if it
    takes a single row but no batch, or if an output has not the batch's rows, or not as many axes
    as it should. An axis of any size is tried with that of model_warmup, or with 1, and what may be
    an index, a length or a rate with 0. A model may refuse them: that is logged, and it serves.
    """
    sizes = {1, engine.spec.max_batch_size} - {0}
    if engine.arena is not None:
        sizes = {min(size, engine.arena.rows - 1) for size in sizes}
    ran = 0
    for size in sorted(sizes):
        try:
            check(engine.spec, _run(engine, size), size)
            ran = size
        except StepFailed as error:
            if ran:
                raise StartupError(
                    f"{engine.spec.onnx_path}: runs with a batch of {ran}, but not with {size}:"
                    f" {error}; expected any up to max_batch_size: {engine.spec.max_batch_size}"
                ) from None
            if not _guesses(engine.spec):
                raise StartupError(f"{engine.spec.onnx_path}: {error}") from None
            structlog.get_logger().warning("warm-up failed", batch=size, reason=str(error))


def _run(engine: Engine, size: int) -> dict[str, NDArray[Any]]:
    spec = engine.spec
    timesteps = min(timesteps_of(spec, spec.warmup), spec.piece or sys.maxsize)
    inputs = {tensor.name: zeros_of(spec, tensor, size, timesteps) for tensor in spec.fed}
    read, write = np.zeros(size, np.int64), np.arange(1, size + 1)
    before = engine.read(write)
    try:
        return engine.run(inputs, read, write)
    finally:
        engine.write(write, before)


def zeros_of(spec: ModelSpec, tensor: TensorSpec, size: int, timesteps: int) -> NDArray[Any]:
    """An input of `size` rows, and of `timesteps` where it takes any number of them."""
    known = spec.warmup.get(tensor.name, tensor.shape)
    shape = [1 if axis == -1 else axis for axis in known]
    if tensor.time_axis is not None and tensor.shape[tensor.time_axis] == -1:
        shape[tensor.time_axis] = timesteps
    if spec.max_batch_size > 0:
        shape[0] = size
    return np.full(shape, 0 if tensor.default is None else tensor.default, tensor.dtype)


def timesteps_of(spec: ModelSpec, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many the inputs have whose shapes are known, with the batch axis; 1 if none has any."""
    found = [
        shapes[tensor.name][tensor.time_axis]
        for tensor in spec.inputs
        if tensor.time_axis is not None and tensor.name in shapes
    ]
    return max(found, default=1)


def check(spec: ModelSpec, outputs: Mapping[str, NDArray[Any]], size: int) -> None:
    """Raises StartupError where an output has not `size` rows, or other axes than it should."""
    for tensor in spec.outputs:
        shape = outputs[tensor.name].shape
        text = f"{spec.onnx_path}: output {tensor.name!r} has shape {list(shape)}"
        if spec.max_batch_size and shape[:1] != (size,):
            raise StartupError(
                f"{text} for a batch of {size}; expected {size} rows first (where the model has"
                f" them elsewhere, set rnnserve.batch_axis.{tensor.name})"
            )
        if len(shape) != len(tensor.shape):
            raise StartupError(
                f"{text}; expected {len(tensor.shape)} axes, as the configuration and the graph"
                f" have {list(tensor.shape)}"
            )


def _guesses(spec: ModelSpec) -> bool:
    """Whether zeros of these shapes may be something that no client would send."""
    first = 1 if spec.max_batch_size > 0 else 0
    return bool(spec.constants) or any(
        -1 in tensor.shape[first:] or tensor.dtype.kind in "iu" for tensor in spec.inputs
    )
