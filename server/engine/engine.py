"""One version of a model, ready to run steps on rows of its arena."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import onnx
import structlog

from server.engine.arena import Arena
from server.engine.devices import choose_device
from server.engine.graph import with_arena
from server.engine.instance import Instance
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

    import numpy as np
    from numpy.typing import NDArray

    from server.repository.spec import ModelSpec

_NODE_NAME = re.compile(r"Name:'([^']*)'")  # in ONNX Runtime's texts


class Engine:
    """At most `instances` calls of `run` at a time, from any threads, and beside them `read` and
    `write`; no row that one of them writes may be any other's.

    `rows` is the size of the arena, row 0 included, which holds the initial state; a model without
    states has no arena and takes no notice of rows. The model has run once at its smallest and once
    at its largest batch, and as its configuration wants, when the constructor returns. Raises
    StartupError, which names the file.

    On the CPU there are as many `instances` as asked for, with one copy of the weights. On CUDA
    there is one: a GPU computes many rows in the time of one, so that what waits is better run at
    once than by halves; and although ONNX Runtime gives every run a stream of its own and waits for
    it at the end, nobody has tried yet whether runs may share an arena there.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        provider: Literal["auto", "cuda", "cpu"],
        rows: int,
        intra_op_threads: int = 1,
        instances: int = 1,
    ) -> None:
        self.spec = spec
        try:
            device = choose_device(provider, spec.options)
            self.device = str(device)
            self.gpu = device.index if device.kind == "cuda" else None
            graph = with_arena(onnx.load(spec.onnx_path, load_external_data=False), spec)
            options = session_options(intra_op_threads, spec.options)
            own = replace(device, options=spec.options.cuda)
            self._session = create_session(graph.model, own, options, spec.onnx_path.parent)
            self.arena = Arena(spec.kept, rows, device) if spec.kept else None
        except StartupError as error:
            raise StartupError(f"{spec.onnx_path}: {error}") from None
        self._writers = graph.writers
        on_cpu = device.kind == "cpu"
        self.instances = instances if on_cpu else 1
        runs = self._session, graph, self.arena, run_options(spec.options, device)
        self._free = [Instance(*runs, shares_memory=on_cpu) for _ in range(self.instances)]
        if spec.options.device == "gpu" and on_cpu:
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
        instance = self._free.pop()  # taking and giving back are atomic
        try:
            return instance.run(inputs, read, write)
        except ORT_ERRORS as error:
            raise StepFailed(f"model {self.spec.name!r} failed: {self._reason(error)}") from error
        finally:
            self._free.append(instance)

    def _reason(self, error: Exception) -> str:
        """What ONNX Runtime says, and which state it is about if it could not be stored."""
        text = readable(error)
        named = _NODE_NAME.search(text)
        state = self._writers.get(named[1]) if named else None
        if state is None:
            return text
        shape = next(kept.shape for kept in self.spec.kept if kept.name == state)
        return f"it gave state {state!r} another shape than {list(shape)} for each row: {text}"

    def read(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The states and constants in `rows`, each `(len(rows), *shape)`."""
        return {} if self.arena is None else self.arena.read(rows)

    def write(self, rows: NDArray[np.int64], states: Mapping[str, NDArray[Any]]) -> None:
        """Puts all states and constants into `rows`, which are unique."""
        if self.arena is not None:
            self.arena.write(rows, states)

    def __repr__(self) -> str:
        return f"Engine({self.spec.name!r}, version {self.spec.version}, {self.device})"
