"""Plain ONNX Runtime on inputs made up for a try: sizes for axes of any size, random elements."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from inspection.reading import one_line, session
from inspection.roles import is_lengths, start_signal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from inspection.arrays import Arrays, Axes
    from inspection.reading import Model, Value
    from inspection.roles import Constant
    from inspection.states import Pair

Sizes = dict[str, int]  # of variables
Item = TypeVar("Item")
_SCALE = 0.5
_QUANTIZES = " (it quantizes by the largest element of all that it is given at once)"


class TrialFailed(Exception):
    """The model does not run on these inputs; the text is ONNX Runtime's."""


class StateGrows(TrialFailed):
    """A state comes out in another shape than it went in."""


def variables(value: Value) -> tuple[int | str, ...]:
    """The dims, an axis of any size as a variable: its symbol, or `input[axis]` without one of its
    own: some exporters call all axes of any size the same.
    """
    dims = value.dims or ()
    return tuple(
        dim if isinstance(dim, int) or (dim and dims.count(dim) == 1) else f"{value.name}[{axis}]"
        for axis, dim in enumerate(dims)
    )


def batch_first(dims: tuple[Item, ...], axis: int) -> tuple[Item, ...]:
    """The dims of a tensor whose batch axis `axis` moves to the front."""
    return (dims[axis], *dims[:axis], *dims[axis + 1 :])


def shape(value: Value, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape at these sizes of the variables."""
    return tuple(dim if isinstance(dim, int) else sizes[dim] for dim in variables(value))


class Trial:
    """One model with its states and constants settled; runs of it are a function.

    Inputs and outputs are as the graph has them, or in `batch_first` as requests and answers do.
    Raises Refused if ONNX Runtime cannot load the model or a constant does not fit its input.
    """

    def __init__(self, model: Model, pairs: Iterable[Pair], constants: Sequence[Constant]) -> None:
        self._session = session(model)
        self._values = {value.name: value for value in model.inputs}
        self._outputs = [value.name for value in model.outputs]
        self._next = {pair.input: pair.output for pair in pairs}
        taken = self._next.keys() | {c.name for c in constants}
        self.start = start_signal(model, taken) if self._next else None
        self._fixed = {c.name: c.array(self._values[c.name]) for c in constants}
        self._axes: Axes = {}
        nodes = model.proto.graph.node
        quantizes = any(node.op_type.startswith("DynamicQuantize") for node in nodes)
        self.caveat = _QUANTIZES if quantizes else ""

    def batch_first(self, axes: Axes) -> Trial:
        """The same with the batch axis of inputs and outputs in front; in the graph it stands where
        `axes` says. States stay as the graph has them.
        """
        view = copy.copy(self)
        view._axes = axes
        return view

    @property
    def data(self) -> list[Value]:
        """The inputs that a request brings."""
        names = self._next.keys() | self._fixed.keys()
        names |= {self.start.name} if self.start is not None else set()
        return [self._seen(value) for value in self._values.values() if value.name not in names]

    @property
    def states(self) -> list[Value]:
        return [self._values[name] for name in self._next]

    @property
    def served(self) -> list[str]:
        """The outputs that are no states."""
        return [name for name in self._outputs if name not in self._next.values()]

    def zeros(self, sizes: Mapping[str, int]) -> Arrays:
        """The states at the start."""
        return {v.name: np.zeros(shape(v, sizes), v.dtype) for v in self.states}

    def draw(
        self, rng: np.random.Generator, sizes: Mapping[str, int], time: int | None = None
    ) -> Arrays:
        """Random inputs; what counts the length is `time`, else the greatest size."""
        longest = time if time is not None else max(sizes.values(), default=1)
        return {v.name: _elements(rng, v, shape(v, sizes), longest) for v in self.data}

    def run(self, inputs: Arrays, states: Arrays, start: bool = False) -> tuple[Arrays, Arrays]:
        """The outputs that are no states, and the next states. Raises TrialFailed.

        `start` is what the model is told, if it asks: that its sequence begins.
        """
        fixed = {name: self._expanded(name, _rows(inputs)) for name in self._fixed}
        if self.start is not None:
            fixed[self.start.name] = flag(self.start, start, _rows(inputs))
        own = {n: np.moveaxis(a, 0, self._axes.get(n, 0)) for n, a in inputs.items() if a.ndim}
        try:
            results = self._session.run(self._outputs, {**inputs, **own, **states, **fixed})
        except Exception as error:  # its exceptions have no base of their own
            raise TrialFailed(one_line(error)) from None
        found = dict(zip(self._outputs, results, strict=True))
        after = {name: found[output] for name, output in self._next.items()}
        axes = self._axes
        return {
            n: np.moveaxis(found[n], axes[n], 0) if n in axes else found[n] for n in self.served
        }, after

    def _seen(self, value: Value) -> Value:
        axis = self._axes.get(value.name, 0)
        return replace(value, dims=batch_first(variables(value), axis)) if axis else value

    def _expanded(self, name: str, rows: int) -> NDArray[Any]:
        """A constant, repeated for each row of the batch where its first axis is of any size."""
        array = self._fixed[name]
        dims = self._values[name].dims
        if not dims or isinstance(dims[0], int):
            return array
        return np.repeat(array, rows, axis=0) if len(array) == 1 else array


def _rows(inputs: Arrays) -> int:
    return next((array.shape[0] for array in inputs.values() if array.ndim), 1)


def flag(value: Value, start: bool | Sequence[bool], rows: int) -> NDArray[Any]:
    """One element for each row where the first axis counts rows, axes of size 1 behind it."""
    dims = value.dims or ()
    shape = [1 if isinstance(dim, int) else rows for dim in dims[:1]]
    shape += [1 for _ in dims[1:]]
    one_each = np.asarray(start, value.dtype).reshape(-1, *(1 for _ in dims[1:]))
    return np.broadcast_to(one_each if dims else one_each.reshape(()), shape).copy()


def _elements(
    rng: np.random.Generator, value: Value, shape: tuple[int, ...], longest: int
) -> NDArray[Any]:
    assert value.dtype is not None
    if is_lengths(value):
        return np.full(shape, longest, value.dtype)
    if value.dtype.kind == "f":
        return np.asarray(rng.normal(size=shape) * _SCALE, value.dtype)
    return np.asarray(rng.integers(0, 2, size=shape), value.dtype)  # an index into anything


def free(values: Iterable[Value]) -> list[str]:
    """The variables of these tensors, each once, in order."""
    found = [dim for value in values for dim in variables(value) if isinstance(dim, str)]
    return list(dict.fromkeys(found))
