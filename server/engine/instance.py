"""What one run of a model needs for itself: its inputs and outputs bound to memory that no other
run sees, the pools of the arena bound beside them.

Several instances of one ONNX Runtime session may run at a time: it has the weights once, and its
`run` may be called from any number of threads as long as each call has an IoBinding of its own.
They all have the same pools as inputs and as outputs. ScatterND then gets one buffer as both and
copies nothing but its rows, and a run reads no row that another one writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from server.engine.arena import Arena
    from server.engine.graph import ArenaGraph

_CPU = ort.OrtDevice.make("cpu", 0)._get_c_device()


class Instance:
    """Not thread-safe: one run at a time.

    `shares_memory`: the model runs where numpy's arrays are.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        graph: ArenaGraph,
        arena: Arena | None,
        options: ort.RunOptions | None,
        *,
        shares_memory: bool,
    ) -> None:
        self._arena, self._options = arena, options
        self._shares_memory = shares_memory
        self._read_rows, self._write_rows = graph.read_rows, graph.write_rows
        self._inputs = list(graph.inputs.items())
        self._names = list(graph.outputs)
        self._outputs = list(graph.outputs.values())
        self._bound: dict[str, NDArray[Any]] = {}
        binding = session.io_binding()
        # The objects beneath onnxruntime's Python classes: those look devices up by name at every
        # call and check what cannot be otherwise here, which costs half as much as a small step.
        self._run, self._binding = session._sess.run_with_iobinding, binding._iobinding
        self._bind_input = self._binding.bind_input
        self._bind_output, self._get_outputs = self._binding.bind_output, self._binding.get_outputs
        # Outputs come back in the order in which they were first bound: the pools last.
        for name in self._outputs:
            self._bind_output(name, _CPU)
        if arena is not None:
            for state, (pool, pool_next) in graph.pools.items():
                binding.bind_ortvalue_input(pool, arena.pools[state])
                binding.bind_ortvalue_output(pool_next, arena.pools[state])

    def run(
        self,
        inputs: Mapping[str, NDArray[Any]],
        read: NDArray[np.int64],
        write: NDArray[np.int64],
    ) -> dict[str, NDArray[Any]]:
        """See `Engine.run`. Raises ONNX Runtime's errors as they are."""
        for name, own in self._inputs:
            self._put(own, inputs[name])
        if self._arena is not None:
            self._arena.check(read)
            self._arena.check(write, first=1)
            self._put(self._read_rows, read)
            self._put(self._write_rows, write, as_column=True)
        for name in self._outputs:  # anew, or the last answer's memory is written again
            self._bind_output(name, _CPU)
        self._run(self._binding, self._options)
        if not self._shares_memory:
            self._binding.synchronize_outputs()
        values = self._get_outputs()
        return {name: values[index].numpy() for index, name in enumerate(self._names)}

    def _put(self, name: str, array: NDArray[Any], *, as_column: bool = False) -> None:
        """Make `array` the input `name` of the next run. On the CPU, where binding takes no copy,
        it is copied into memory that stays bound for as long as the shape stays the same: binding
        anew costs ten times a small copy. Binding for CUDA is the copy to the device.
        """
        if not self._shares_memory:
            self._bind_input(name, array[:, np.newaxis] if as_column else array)
            return
        bound = self._bound.get(name)
        if bound is None or bound.shape != array.shape:
            bound = self._bound[name] = np.empty_like(array)
            self._bind_input(name, bound[:, np.newaxis] if as_column else bound)
        bound[...] = array
