"""The state arena: one pool `(rows, *shape)` per state, on the device that the model runs on.

Row 0 holds the initial state. Who owns which other row is the core's business; it never asks to
write a row that counts, so a run that fails half-way has spoilt nothing.

Reading and writing rows are two tiny ONNX graphs over the very buffers that the model's graph is
bound to: the same code for every device, and no row crosses the bus that was not asked for.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from server import datatypes
from server.engine.session import ORT_ERRORS, create_session, session_options
from server.errors import StartupError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

    from server.engine.devices import Device
    from server.repository.spec import StateSpec

_FEW = 64  # up to here Python's min and max are faster than numpy's
_ROWS = "rows"
_NO_MEMORY: tuple[type[Exception], ...] = (MemoryError, *ORT_ERRORS)
_OPSET, _IR_VERSION = 18, 8


class Arena:
    """Pools for `states` (at least one), each of `rows` rows. Thread-safe, as far as nobody writes
    rows that others read: calls take turns.

    Rows other than 0 hold nothing of meaning until they are written. Raises StartupError where the
    pools do not fit into memory.
    """

    def __init__(self, states: Sequence[StateSpec], rows: int, device: Device) -> None:
        self.states = tuple(states)
        self.rows = rows
        self.pools = {state.name: _pool(state, rows, device) for state in self.states}
        self._reader = create_session(_reader_graph(self.states), device, session_options(1))
        self._writer = create_session(_writer_graph(self.states), device, session_options(1))
        self._read, self._write = self._reader.io_binding(), self._writer.io_binding()
        self._turn = threading.Lock()
        for state in self.states:
            pool = self.pools[state.name]
            self._read.bind_ortvalue_input(_pool_of(state), pool)
            self._write.bind_ortvalue_input(_pool_of(state), pool)
            self._write.bind_ortvalue_output(_next_of(state), pool)
        initial = {state.name: state.initial[np.newaxis] for state in self.states}
        self.write(np.zeros(1, np.int64), initial)

    def read(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The states in `rows`, each `(len(rows), *shape)`, as arrays of their own."""
        self.check(rows)
        with self._turn:
            self._read.bind_cpu_input(_ROWS, np.ascontiguousarray(rows))
            for state in self.states:
                self._read.bind_output(_value_of(state), "cpu")  # anew, or the last one is reused
            self._reader.run_with_iobinding(self._read)
            self._read.synchronize_outputs()
            arrays = [value.numpy() for value in self._read.get_outputs()]
        return dict(zip(self.pools, arrays, strict=True))

    def write(self, rows: NDArray[np.int64], states: Mapping[str, NDArray[Any]]) -> None:
        """Puts all states into `rows`, which are unique; each array is `(len(rows), *shape)`."""
        self.check(rows)
        with self._turn:
            self._write.bind_cpu_input(_ROWS, np.ascontiguousarray(rows).reshape(-1, 1))
            for state in self.states:
                values = np.ascontiguousarray(states[state.name], state.dtype)
                expected = (len(rows), *state.shape)
                if values.shape != expected:
                    raise ValueError(f"state {state.name!r}: {values.shape}; expected {expected}")
                self._write.bind_cpu_input(_value_of(state), values)
            self._writer.run_with_iobinding(self._write)
            self._write.synchronize_outputs()

    def check(self, rows: NDArray[np.int64], first: int = 0) -> None:
        """IndexError unless all rows lie in [first, rows): CUDA would not notice."""
        if len(rows) <= _FEW:
            values = rows.tolist()
            if not values:
                return
            low, high = (values[0], values[0]) if len(values) == 1 else (min(values), max(values))
        else:
            low, high = int(rows.min()), int(rows.max())
        if low < first or high >= self.rows:
            raise IndexError(f"rows {low} to {high}; the arena's are {first} to {self.rows - 1}")

    def __repr__(self) -> str:
        nbytes = sum(state.nbytes for state in self.states)
        return f"Arena({self.rows} rows of {nbytes} bytes in {len(self.states)} states)"


def _pool(state: StateSpec, rows: int, device: Device) -> ort.OrtValue:
    shape = (rows, *state.shape)
    try:
        if device.kind == "cpu":
            # shares the array's memory, whose pages the system hands out when a row is first used
            return ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, state.dtype))
        return ort.OrtValue.ortvalue_from_shape_and_type(
            shape, state.dtype.type, device.kind, device.index
        )
    except _NO_MEMORY:
        wanted = f"{rows} rows of {state.nbytes} bytes"
        raise StartupError(
            f"state {state.name!r}: {wanted} do not fit into the memory of {device}; lower the"
            " number of sessions"
        ) from None


def _reader_graph(states: Sequence[StateSpec]) -> onnx.ModelProto:
    """rows (n,) and pools → values."""
    nodes = [
        helper.make_node("Gather", [_pool_of(state), _ROWS], [_value_of(state)], axis=0)
        for state in states
    ]
    inputs = [_info(state, _pool_of(state), "pool") for state in states]
    outputs = [_info(state, _value_of(state), "n") for state in states]
    return _model(nodes, ["n"], inputs, outputs)


def _writer_graph(states: Sequence[StateSpec]) -> onnx.ModelProto:
    """rows (n, 1), values and pools → pools."""
    nodes = [
        helper.make_node("ScatterND", [_pool_of(state), _ROWS, _value_of(state)], [_next_of(state)])
        for state in states
    ]
    inputs = [_info(state, _pool_of(state), "pool") for state in states]
    inputs += [_info(state, _value_of(state), "n") for state in states]
    outputs = [_info(state, _next_of(state), "pool") for state in states]
    return _model(nodes, ["n", 1], inputs, outputs)


def _model(
    nodes: list[onnx.NodeProto],
    rows: list[str | int],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info(_ROWS, TensorProto.INT64, rows), *inputs]
    graph = helper.make_graph(nodes, "arena", inputs, outputs)
    opset = [helper.make_opsetid("", _OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION)


def _info(state: StateSpec, name: str, count: str) -> onnx.ValueInfoProto:
    elem_type = datatypes.BY_NAME[state.datatype].onnx
    return helper.make_tensor_value_info(name, elem_type, [count, *state.shape])


def _pool_of(state: StateSpec) -> str:
    return f"pool.{state.name}"


def _next_of(state: StateSpec) -> str:
    return f"next.{state.name}"


def _value_of(state: StateSpec) -> str:
    return f"value.{state.name}"
