"""One version of a model, ready to run steps on rows of its arena."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
import structlog

from server.engine.arena import Arena
from server.engine.devices import choose_device
from server.engine.graph import with_arena
from server.engine.samples import run_samples
from server.engine.session import (
    ORT_ERRORS,
    create_session,
    readable,
    run_options,
    session_options,
)
from server.engine.warmup import warm_up
from server.errors import StartupError, StepFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from server.repository.spec import ModelSpec

_NODE_NAME = re.compile(r"Name:'([^']*)'")  # in ONNX Runtime's texts


class Engine:
    """Not thread-safe: one call at a time, whichever it is.

    `rows` is the size of the arena, row 0 included, which holds the initial state; a model without
    states has no arena and takes no notice of rows. The model has run once at its smallest and once
    at its largest batch, and as its configuration wants, when the constructor returns. Raises
    StartupError, which names the file.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        provider: Literal["auto", "cuda", "cpu"],
        rows: int,
        intra_op_threads: int = 1,
    ) -> None:
        self.spec = spec
        try:
            device = choose_device(provider, spec.options)
            self.device = str(device)
            graph = with_arena(onnx.load(spec.onnx_path, load_external_data=False), spec)
            options = session_options(intra_op_threads, spec.options)
            own = replace(device, options=spec.options.cuda)
            self._session = create_session(graph.model, own, options, spec.onnx_path.parent)
            self.arena = Arena(spec.kept, rows, device) if spec.kept else None
        except StartupError as error:
            raise StartupError(f"{spec.onnx_path}: {error}") from None
        self._read_rows, self._write_rows = graph.read_rows, graph.write_rows
        self._writers = graph.writers
        self._inputs = list(graph.inputs.items())
        self._names = list(graph.outputs)
        self._outputs = list(graph.outputs.values())
        self._binding = self._session.io_binding()
        # The objects beneath onnxruntime's Python classes: those look devices up by name at every
        # call and check what cannot be otherwise here, which costs half as much as a small step.
        self._run = self._session._sess.run_with_iobinding
        self._run_options = run_options(spec.options, device)
        self._bind_input = self._binding._iobinding.bind_input
        self._bind_output = self._binding._iobinding.bind_output
        self._bound: dict[str, NDArray[Any]] = {}
        self._shares_memory = device.kind == "cpu"
        self._get_outputs = self._binding._iobinding.get_outputs
        self._cpu = ort.OrtDevice.make("cpu", 0)._get_c_device()
        # Outputs come back in the order in which they were first bound: the pools last.
        for name in self._outputs:
            self._bind_output(name, self._cpu)
        if self.arena is not None:
            for state, (pool, pool_next) in graph.pools.items():
                self._binding.bind_ortvalue_input(pool, self.arena.pools[state])
                self._binding.bind_ortvalue_output(pool_next, self.arena.pools[state])
        if spec.options.device == "gpu" and device.kind == "cpu":
            said = "no GPU that can be used" if provider == "auto" else f"--provider {provider}"
            structlog.get_logger().warning(
                "instance_group wants a GPU; the model runs on the CPU",
                model=spec.name,
                reason=said,
            )
        warm_up(self)
        run_samples(self)

    def run(
        self,
        inputs: Mapping[str, NDArray[Any]],
        read: NDArray[np.int64],
        write: NDArray[np.int64],
    ) -> dict[str, NDArray[Any]]:
        """One run: from the states in rows `read` to outputs, and to new states in rows `write`.

        `inputs` are C-contiguous arrays, one for each of `spec.fed`; `read` and `write` are
        (batch,), the rows of `write` unique, none of them 0 or in `read`. The outputs are arrays of
        their own, the batch first. Raises StepFailed if ONNX Runtime cannot run the model, or if
        the model leaves a state of another shape; rows outside `write` are as they were. Rows out
        of range: IndexError.
        """
        try:
            for name, own in self._inputs:
                self._put(own, inputs[name])
            if self.arena is not None:
                self.arena.check(read)
                self.arena.check(write, first=1)
                self._put(self._read_rows, read)
                self._put(self._write_rows, write.reshape(-1, 1))
            for name in self._outputs:  # anew, or the last answer's memory is written again
                self._bind_output(name, self._cpu)
            self._run(self._binding._iobinding, self._run_options)
        except ORT_ERRORS as error:
            raise StepFailed(f"model {self.spec.name!r} failed: {self._reason(error)}") from error
        self._binding.synchronize_outputs()
        values = self._get_outputs()
        return {name: values[index].numpy() for index, name in enumerate(self._names)}

    def _reason(self, error: Exception) -> str:
        """What ONNX Runtime says, and which state it is about if it could not be stored."""
        text = readable(error)
        named = _NODE_NAME.search(text)
        state = self._writers.get(named[1]) if named else None
        if state is None:
            return text
        shape = next(kept.shape for kept in self.spec.kept if kept.name == state)
        return f"it gave state {state!r} another shape than {list(shape)} for each row: {text}"

    def _put(self, name: str, array: NDArray[Any]) -> None:
        """Make `array` the input `name` of the next run. On the CPU, where binding takes no copy,
        it is copied into memory that stays bound for as long as the shape stays the same: binding
        anew costs ten times a small copy. Binding for CUDA is the copy to the device.
        """
        if not self._shares_memory:
            self._bind_input(name, array)
            return
        bound = self._bound.get(name)
        if bound is None or bound.shape != array.shape:
            bound = self._bound[name] = np.empty_like(array)
            self._bind_input(name, bound)
        bound[...] = array

    def read(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The states and constants in `rows`, each `(len(rows), *shape)`."""
        return {} if self.arena is None else self.arena.read(rows)

    def write(self, rows: NDArray[np.int64], states: Mapping[str, NDArray[Any]]) -> None:
        """Puts all states and constants into `rows`, which are unique."""
        if self.arena is not None:
            self.arena.write(rows, states)

    def __repr__(self) -> str:
        return f"Engine({self.spec.name!r}, version {self.spec.version}, {self.device})"
