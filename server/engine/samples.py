"""The runs that a model's own configuration wants before it serves (`model_warmup`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from server.engine.warmup import check, timesteps_of, zeros_of
from server.errors import StartupError, StepFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from server.engine.engine import Engine
    from server.repository.spec import ModelSpec, StateSpec, WarmupSample


def run_samples(engine: Engine) -> None:
    """Runs each sample as often as it says; the arena is afterwards as it was.

    Raises StartupError, which names the sample, if the model fails on it.
    """
    spec = engine.spec
    for sample in spec.samples:
        try:
            for _ in range(sample.count):
                _run(engine, sample)
        except StepFailed as error:
            raise StartupError(
                f"{spec.onnx_path}: failed to run warmup sample {sample.name!r}: {error}"
            ) from None


def _run(engine: Engine, sample: WarmupSample) -> None:
    """A request of a new session, in as many pieces as the graph needs for it: what one piece
    writes, the next one reads, and it writes elsewhere.
    """
    spec, size = engine.spec, sample.batch_size
    if engine.arena is not None:
        size = max(1, min(size, (engine.arena.rows - 1) // 2))
    rows = np.arange(1, 2 * size + 1)
    before = engine.read(rows)
    read, write, other = np.zeros(size, np.int64), rows[:size], rows[size:]
    try:
        if any(state.name in sample.row for state in spec.kept):
            read = other
            engine.write(read, {state.name: _begin(sample, state, size) for state in spec.kept})
        for inputs in _pieces(spec, sample, size):
            check(spec, engine.run(inputs, read, write), size)
            read, write, other = write, other, write
    finally:
        engine.write(rows, before)


def _begin(sample: WarmupSample, state: StateSpec, size: int) -> NDArray[Any]:
    row = sample.row.get(state.name, state.initial)
    return np.repeat(row[np.newaxis], size, axis=0)


def _pieces(spec: ModelSpec, sample: WarmupSample, size: int) -> Iterator[dict[str, NDArray[Any]]]:
    given = {name: _batch(spec, row, size) for name, row in sample.row.items()}
    timesteps = timesteps_of(spec, {name: array.shape for name, array in given.items()})
    inputs = {tensor.name: zeros_of(spec, tensor, size, timesteps) for tensor in spec.inputs}
    for control in spec.controls:
        value = control.false if control.signal == "end" else control.true
        inputs[control.tensor.name] = zeros_of(spec, control.tensor, size, timesteps)
        inputs[control.tensor.name][...] = value
    inputs.update({name: given[name] for name in inputs if name in given})
    length = spec.piece or timesteps
    for start in range(0, timesteps, length):
        yield {
            tensor.name: _part(inputs[tensor.name], tensor.time_axis, start, length)
            for tensor in spec.fed
        }


def _batch(spec: ModelSpec, row: NDArray[Any], size: int) -> NDArray[Any]:
    return np.repeat(row[np.newaxis], size, axis=0) if spec.max_batch_size else row


def _part(array: NDArray[Any], axis: int | None, start: int, length: int) -> NDArray[Any]:
    if axis is None:
        return array
    return np.ascontiguousarray(array[(slice(None),) * axis + (slice(start, start + length),)])
