"""Sessions on an engine beside the untouched model, whose states are carried by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import onnxruntime as ort
import pytest

from server.engine.engine import Engine
from server.repository.load import load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from server.repository.spec import ModelSpec, StateSpec, TensorSpec

ROWS = 24

Arrays = dict[str, "NDArray[Any]"]


class Compare(Protocol):
    """Runs sessions in turn, alone and together, on the engine and with plain ONNX Runtime, and
    asserts that every output and state is the same.

    `given` are further inputs of the untouched model, which the engine has to know by itself.
    Values are whole numbers below `highest`. Returns the engine.
    """

    def __call__(
        self, path: Path, *, given: Mapping[str, Any] | None = None, highest: int = 50
    ) -> Engine: ...


@pytest.fixture
def compare() -> Compare:
    return _compare


class Plain:
    """One session of one row with the model as its file has it."""

    def __init__(self, spec: ModelSpec, given: Mapping[str, Any], kept: Arrays) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        self.spec = spec
        self._session = ort.InferenceSession(str(spec.onnx_path), options)
        self._names = [output.name for output in self._session.get_outputs()]
        self._given = dict(given)
        self.states = {state.name: with_batch(state, state.initial) for state in spec.states}
        self._given |= {state.name: with_batch(state, kept[state.name]) for state in spec.constants}

    def step(self, inputs: Arrays) -> Arrays:
        """The outputs that are served; there and in `inputs` the batch comes first."""
        feeds = {tensor.name: inwards(tensor, inputs[tensor.name]) for tensor in self.spec.inputs}
        values = self._session.run(None, {**feeds, **self.states, **self._given})
        outputs = dict(zip(self._names, values, strict=True))
        self.states = {state.name: outputs[state.output] for state in self.spec.states}
        return {tensor.name: outwards(tensor, outputs[tensor.name]) for tensor in self.spec.outputs}


def inwards(tensor: TensorSpec, array: NDArray[Any]) -> NDArray[Any]:
    """A request's input as the untouched model has it."""
    inner = tensor.graph_shape
    array = array if inner is None else _reshaped(array, tensor.shape, inner)
    return np.moveaxis(array, 0, tensor.graph_axis) if tensor.graph_axis else array


def outwards(tensor: TensorSpec, array: NDArray[Any]) -> NDArray[Any]:
    inner = tensor.graph_shape
    array = np.moveaxis(array, tensor.graph_axis, 0) if tensor.graph_axis else array
    return array if inner is None else _reshaped(array, inner, tensor.shape)


def _reshaped(array: NDArray[Any], before: tuple[int, ...], after: tuple[int, ...]) -> NDArray[Any]:
    sizes = iter([size for size, said in zip(array.shape, before, strict=True) if said == -1])
    return array.reshape([next(sizes) if size == -1 else size for size in after])


def with_batch(state: StateSpec, row: NDArray[Any]) -> NDArray[Any]:
    return row if state.batch_axis is None else np.expand_dims(row, state.batch_axis)


def without_batch(state: StateSpec, array: NDArray[Any]) -> NDArray[Any]:
    return array if state.batch_axis is None else array.take(0, state.batch_axis)


def random(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any], high: int
) -> NDArray[Any]:
    return np.asarray(rng.integers(0, 2 if dtype == np.bool_ else high, shape)).astype(dtype)


def random_input(rng: np.random.Generator, tensor: TensorSpec, high: int) -> NDArray[Any]:
    """One row; an axis of any size has 3."""
    shape = [3 if size == -1 else size for size in tensor.shape]
    return random(rng, tuple(shape), tensor.dtype, high)


def _compare(path: Path, *, given: Mapping[str, Any] | None = None, highest: int = 50) -> Engine:
    [spec] = load(path)
    engine = Engine(spec, provider="cpu", rows=ROWS)
    rng = np.random.default_rng(0)
    count = 3
    kept = [
        {state.name: random(rng, state.shape, state.dtype, highest) for state in spec.constants}
        for _ in range(count)
    ]
    sessions = [Plain(spec, given or {}, constants) for constants in kept]
    rows = [0] * count
    if spec.constants:
        rows = [1, 2, 3]
        for row, constants in zip(rows, kept, strict=True):
            initial = {state.name: state.initial for state in spec.states}
            values = {name: array[None] for name, array in {**initial, **constants}.items()}
            engine.write(np.array([row]), values)
    groups = [[0], [1], [0, 1], [2], [2, 0, 1], [1], [1, 2], [0]]
    for group in groups:
        for together in [group] if spec.max_batch_size >= len(group) else [[one] for one in group]:
            _step(engine, sessions, rows, together, rng, highest)
    for index, session in enumerate(sessions):
        stored = engine.read(np.array([rows[index]]))
        for state in spec.states:
            expected = without_batch(state, session.states[state.name])
            _same(stored[state.name][0], expected, state.name)
        for state in spec.constants:
            _same(stored[state.name][0], kept[index][state.name], state.name)
    return engine


def _step(
    engine: Engine,
    sessions: list[Plain],
    rows: list[int],
    group: list[int],
    rng: np.random.Generator,
    highest: int,
) -> None:
    spec = engine.spec
    inputs = [
        {tensor.name: _row(rng, tensor, spec, highest) for tensor in spec.inputs} for _ in group
    ]
    read = np.array([rows[index] for index in group], np.int64)
    free = [row for row in range(1, ROWS) if row not in rows]
    write = rng.choice(free, len(group), replace=False)
    together = {
        name: np.concatenate([each[name] for each in inputs]) if len(group) > 1 else inputs[0][name]
        for name in inputs[0]
    }
    outputs = engine.run(together, read, write)
    assert list(outputs) == [tensor.name for tensor in spec.outputs]
    for place, index in enumerate(group):
        expected = sessions[index].step(inputs[place])
        for tensor in spec.outputs:
            answer = outputs[tensor.name]
            row = answer[place : place + 1] if spec.max_batch_size else answer
            _same(row, expected[tensor.name], tensor.name)
        rows[index] = int(write[place])


def _row(
    rng: np.random.Generator, tensor: TensorSpec, spec: ModelSpec, highest: int
) -> NDArray[Any]:
    array = random_input(rng, tensor, highest)
    return array[:1] if spec.max_batch_size else array


def _same(ours: NDArray[Any], theirs: NDArray[Any], name: str) -> None:
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), name
    np.testing.assert_array_equal(ours, theirs, name)
