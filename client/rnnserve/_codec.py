"""Between numpy and the wire, for one session: its model's signature, ready to use.

This is on the way of every step, so what can be worked out once is worked out in the constructors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnnserve._dtypes import DTYPES, as_dtype
from rnnserve._shapes import Layout, agree, matcher, squeezed
from rnnserve.errors import RnnserveError
from rnnserve.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rnnserve.specs import TensorSpec

Array = NDArray[Any]
# An array, or where a model has several outputs a dict of them; "| Any" because only the model
# decides which, and nobody should have to narrow it at every call.
Output = Array | Any
States = dict[str, Array]

_DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()}


class Asked(NamedTuple):
    """What must be known of a step request to read its answer."""

    layout: Layout
    return_sequences: bool
    return_state: bool


class InputCodec:
    """Writes one input of a model."""

    def __init__(self, spec: TensorSpec, batch_size: int) -> None:
        self.name = spec.name
        self._what = f"input {spec.name!r}"
        self._dtype = spec.dtype
        self._datatype = _DATATYPES[spec.dtype]
        self._match = matcher(spec, batch_size)

    def put(self, request: pb.StepRequest, value: object) -> Layout:
        """Adds the input to the request, or raises ValueError or TypeError."""
        array = as_dtype(value, self._dtype, self._what)
        shape, layout = self._match(array.shape)
        request.inputs.add(
            name=self.name, datatype=self._datatype, shape=shape, contents=array.tobytes()
        )
        return layout


class Codec:
    """Writes a session's requests and reads its answers."""

    def __init__(
        self,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        states: tuple[TensorSpec, ...],
        batch_size: int,
    ) -> None:
        self._inputs = {spec.name: InputCodec(spec, batch_size) for spec in inputs}
        self._only = next(iter(self._inputs.values())) if len(inputs) == 1 else None
        self._outputs = {spec.name: spec for spec in outputs}
        self._only_output = outputs[0] if len(outputs) == 1 else None
        self._states = {spec.name: spec for spec in states}
        self._batch_size = batch_size

    def put_step(
        self, request: pb.StepRequest, x: object, return_sequences: bool, return_state: bool
    ) -> Asked:
        """Writes inputs and flags of a step into an empty request."""
        layout = self._put_inputs(request, x)
        if return_sequences:
            request.return_sequences = True
        if return_state:
            request.return_state = True
        return Asked(layout, return_sequences, return_state)

    def _put_inputs(self, request: pb.StepRequest, x: object) -> Layout:
        if not isinstance(x, np.ndarray) and isinstance(x, Mapping):
            self._check_names("input", x, self._inputs)
            return agree({name: self._inputs[name].put(request, x[name]) for name in self._inputs})
        if self._only is None:
            raise TypeError(f"expected a dict with the inputs {', '.join(self._inputs)}")
        return self._only.put(request, x)

    def read_step(self, answer: pb.StepResponse, asked: Asked) -> Output:
        """The outputs; with `return_state` also the states."""
        outputs = self._read_outputs(answer.outputs, asked)
        return (outputs, self.read_states(answer.states)) if asked.return_state else outputs

    def _read_outputs(self, tensors: Iterable[pb.Tensor], asked: Asked) -> Output:
        arrays = {}
        for tensor in tensors:
            spec = self._only_output or self._outputs.get(tensor.name)
            if spec is None:
                raise RnnserveError(f"the server sent an output that is not there: {tensor.name!r}")
            shape = squeezed(tuple(tensor.shape), spec, asked.layout, asked.return_sequences)
            arrays[spec.name] = _array(tensor, shape)
        if len(arrays) != len(self._outputs):
            missing = ", ".join(self._outputs.keys() - arrays.keys())
            raise RnnserveError(f"the server sent no output {missing}")
        return arrays[self._only_output.name] if self._only_output else arrays

    def tensors_of_states(self, states: Mapping[str, object]) -> list[pb.Tensor]:
        """Every state tensor of the model, `(batch_size, …)` each.

        Raises:
            TypeError: not a mapping, or a dtype that cannot be converted.
            ValueError: a name too many or missing, or a wrong shape.
        """
        if not isinstance(states, Mapping):
            raise TypeError(f"expected a dict with the states {', '.join(self._states)}")
        self._check_names("state", states, self._states)
        return [self._state(spec, states[spec.name]) for spec in self._states.values()]

    def _state(self, spec: TensorSpec, value: object) -> pb.Tensor:
        array = as_dtype(value, spec.dtype, f"state {spec.name!r}")
        shape = (self._batch_size, *spec.shape[1:])
        if array.shape != shape:
            raise ValueError(f"state {spec.name!r}: expected shape {shape}, given {array.shape}")
        return _tensor(spec, array)

    def read_states(self, tensors: Iterable[pb.Tensor]) -> States:
        only = next(iter(self._states), "")
        return {tensor.name or only: _array(tensor, tuple(tensor.shape)) for tensor in tensors}

    @staticmethod
    def _check_names(kind: str, given: Mapping[str, object], wanted: Mapping[str, object]) -> None:
        if given.keys() != wanted.keys():
            raise ValueError(
                f"expected the {kind}s {', '.join(wanted) or 'none'}, "
                f"given {', '.join(map(str, given)) or 'none'}"
            )


def _tensor(spec: TensorSpec, array: Array) -> pb.Tensor:
    return pb.Tensor(
        name=spec.name,
        datatype=_DATATYPES[spec.dtype],
        shape=array.shape,
        contents=array.tobytes(),
    )


def _array(tensor: pb.Tensor, shape: tuple[int, ...]) -> Array:
    """A new, writable array of the tensor's elements."""
    contents = bytearray(tensor.contents)
    try:
        # faster than frombuffer, reshape and copy
        array: Array = np.ndarray(shape, DTYPES[tensor.datatype], contents)
    except (KeyError, TypeError, ValueError) as error:
        raise RnnserveError(
            f"the server sent a tensor {tensor.name!r} that does not hold together: {error!r}"
        ) from error
    if array.nbytes != len(contents):
        raise RnnserveError(
            f"the server sent a tensor {tensor.name!r} that does not hold together: "
            f"{len(contents)} bytes for shape {shape}"
        )
    return array
