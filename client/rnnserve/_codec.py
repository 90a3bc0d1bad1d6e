"""Between numpy and the wire, for one session: its model's signature, ready to use.

This is on the way of every step, so what can be worked out once is worked out in the constructors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rnnserve._dtypes import DTYPES, as_dtype
from rnnserve._shapes import Layout, agree, matcher, rows, squeezed
from rnnserve.errors import RnnserveError
from rnnserve.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rnnserve.specs import Signature, TensorSpec

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
    """Writes one input of a model, or one of its constants: that is a matter of `kind`."""

    def __init__(self, spec: TensorSpec, batch_size: int | None, kind: str = "input") -> None:
        self.name = spec.name
        self._what = f"{kind} {spec.name!r}"
        self._dtype = spec.dtype
        self._datatype = _DATATYPES[spec.dtype]
        self._match = matcher(spec, batch_size, kind)

    def put(self, tensors: Any, value: object) -> Layout:
        """Adds the tensor to those of a request, or raises ValueError or TypeError."""
        array = as_dtype(value, self._dtype, self._what)
        shape, layout = self._match(array.shape)
        tensors.add(name=self.name, datatype=self._datatype, shape=shape, contents=array.tobytes())
        return layout


def put_constants(
    tensors: Any, specs: Sequence[TensorSpec], batch_size: int | None, given: object
) -> None:
    """Adds every constant of a model to `tensors`; ValueError or TypeError where `given`, a dict or
    the array of the only one, does not fit.
    """
    names = ", ".join(spec.name for spec in specs) or "none"
    if not isinstance(given, Mapping):
        if len(specs) != 1:
            raise TypeError(f"expected a dict with the constants of the model, {names}")
        given = {specs[0].name: given}
    if given.keys() != {spec.name for spec in specs}:
        raise ValueError(f"expected the constants {names}, given {_listed(given)}")
    for spec in specs:
        InputCodec(spec, batch_size, "constant").put(tensors, given[spec.name])


class Codec:
    """Writes a session's requests and reads its answers."""

    def __init__(self, model: Signature, batch_size: int) -> None:
        self._batch_size = batch_size if model.batched else None
        self._inputs = {spec.name: InputCodec(spec, self._batch_size) for spec in model.inputs}
        self._required = {spec.name for spec in model.inputs if not spec.has_default}
        self._only = self._the_one_besides({})
        self._outputs = {spec.name: spec for spec in model.outputs}
        self._only_output = model.outputs[0] if len(model.outputs) == 1 else None
        self._states = {spec.name: spec for spec in model.states}

    def put_step(
        self,
        request: pb.StepRequest,
        x: object,
        named: Mapping[str, object],
        return_sequences: bool,
        return_state: bool,
    ) -> Asked:
        """Writes inputs and flags of a step into an empty request."""
        layout = self._put_inputs(request.inputs, x, named)
        if return_sequences:
            request.return_sequences = True
        if return_state:
            request.return_state = True
        return Asked(layout, return_sequences, return_state)

    def _put_inputs(self, tensors: Any, x: object, named: Mapping[str, object]) -> Layout:
        if self._only is not None and not named and isinstance(x, np.ndarray):
            return self._only.put(tensors, x)
        given = self._by_name(x, named)
        if not self._required <= given.keys() <= self._inputs.keys():
            wanted = [n if n in self._required else f"{n} (optional)" for n in self._inputs]
            raise ValueError(
                f"expected the inputs {', '.join(wanted) or 'none'}, given {_listed(given)}"
            )
        return agree(
            {
                name: codec.put(tensors, given[name])
                for name, codec in self._inputs.items()
                if name in given
            }
        )

    def _by_name(self, x: object, named: Mapping[str, object]) -> Mapping[str, object]:
        """The inputs of a step: `x` is a dict of them, or the one that `named` does not hold, or
        None.
        """
        if x is None:
            return named
        if not isinstance(x, Mapping):
            only = self._the_one_besides(named)
            if only is None:
                raise TypeError(
                    f"expected a dict with the inputs {', '.join(self._inputs) or 'none'}, or each "
                    "of them by its name"
                )
            x = {only.name: x}
        if twice := x.keys() & named.keys():
            raise ValueError(f"given twice: the inputs {', '.join(sorted(twice))}")
        return {**x, **named}

    def _the_one_besides(self, named: Mapping[str, object]) -> InputCodec | None:
        """The only input that is not named; of several, the only one that has no default."""
        left = [name for name in self._inputs if name not in named]
        if len(left) != 1:
            left = [name for name in left if name in self._required]
        return self._inputs[left[0]] if len(left) == 1 else None

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
        """Every state tensor of the model, `(batch_size, …)` each; without a batch axis where the
        model has none.

        Raises:
            TypeError: not a mapping, or a dtype that cannot be converted.
            ValueError: a name too many or missing, or a wrong shape.
        """
        if not isinstance(states, Mapping):
            raise TypeError(f"expected a dict with the states {', '.join(self._states)}")
        if states.keys() != self._states.keys():
            raise ValueError(
                f"expected the states {', '.join(self._states) or 'none'}, given {_listed(states)}"
            )
        return [self._state(spec, states[spec.name]) for spec in self._states.values()]

    def _state(self, spec: TensorSpec, value: object) -> pb.Tensor:
        array = as_dtype(value, spec.dtype, f"state {spec.name!r}")
        shape = rows(spec, self._batch_size)
        if array.shape != shape:
            raise ValueError(f"state {spec.name!r}: expected shape {shape}, given {array.shape}")
        return _tensor(spec, array)

    def read_states(self, tensors: Iterable[pb.Tensor]) -> States:
        only = next(iter(self._states), "")
        return {tensor.name or only: _array(tensor, tuple(tensor.shape)) for tensor in tensors}


def _listed(given: Mapping[str, object]) -> str:
    return ", ".join(map(str, given)) or "none"


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
