"""The peer's model, run by Triton's Python backend: the same ONNX file, its states kept here.

Triton hands over what its sequence batcher has put together, at most one request of a sequence, and
each batch is one run of ONNX Runtime. States are rows of arrays, so that gathering and scattering
them is one operation of numpy each, however many sequences there are.

Lives in the peer's environment, inside Triton, which brings `triton_python_backend_utils`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

INPUT, OUTPUT = "frames", "hidden"
STATES = {"lstm_h": "lstm_h_next", "lstm_c": "lstm_c_next"}
FIRST_ROWS = 64


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1  # steps of microseconds: a second thread only waits
        options.inter_op_num_threads = 1
        file = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self._session = ort.InferenceSession(str(file), options, ["CPUExecutionProvider"])
        self._rows: dict[int | str, int] = {}  # of each live sequence
        self._free = list(range(FIRST_ROWS))
        units = {put.name: put.shape[1] for put in self._session.get_inputs()}
        self._states = {n: np.zeros((FIRST_ROWS, units[n]), np.float32) for n in STATES}

    def execute(self, requests: list[Any]) -> list[Any]:
        """One step of each request's sequence; who continues an unknown one gets an error."""
        found = [(request, self._row(request)) for request in requests]
        known = [(request, row) for request, row in found if row is not None]
        hidden = iter(self._step(known) if known else ())
        for request, row in known:
            if request.flags() & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END:
                del self._rows[request.correlation_id()]
                self._free.append(row)
        return [_unknown(r) if row is None else next(hidden) for r, row in found]

    def _step(self, steps: list[tuple[Any, int]]) -> list[Any]:
        """The answers to requests, each with its row."""
        rows = [row for _, row in steps]
        tensors = [pb_utils.get_input_tensor_by_name(r, INPUT).as_numpy() for r, _ in steps]
        frames = tensors[0] if len(tensors) == 1 else np.concatenate(tensors)
        states = {name: array[rows] for name, array in self._states.items()}
        hidden, *after = self._session.run([OUTPUT, *STATES.values()], {INPUT: frames, **states})
        for array, new in zip(self._states.values(), after, strict=True):
            array[rows] = new
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor(OUTPUT, hidden[i : i + 1])])
            for i in range(len(steps))
        ]

    def _row(self, request: Any) -> int | None:
        """Where the state of the request's sequence is: zeros if the sequence begins."""
        sequence = request.correlation_id()
        if not request.flags() & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START:
            return self._rows.get(sequence)
        if sequence not in self._rows:
            if not self._free:
                self._grow()
            self._rows[sequence] = self._free.pop()
        row = self._rows[sequence]
        for array in self._states.values():
            array[row] = 0
        return row

    def _grow(self) -> None:
        used = len(self._rows)
        self._free = list(range(used, 2 * used))
        for name, array in self._states.items():
            self._states[name] = np.concatenate([array, np.zeros_like(array)])


def _unknown(request: Any) -> Any:
    error = pb_utils.TritonError(f"sequence {request.correlation_id()} has not been started")
    return pb_utils.InferenceResponse([], error)
