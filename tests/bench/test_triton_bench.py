"""What of the comparison with Triton can be wrong without Triton: the peer's model, the order of
the measurements, reading what perf_analyzer reports.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import bench.triton
from bench import repository
from bench.libraries import Unavailable, package_of
from bench.triton import perf_analyzer
from bench.triton.environment import Environment
from bench.triton.figures import Figures
from bench.triton.plan import COMPARISONS, HTTP2, NATIVE, OURS, TRITON, turns

START, END = 1, 2  # Triton's numbers for the flags of a request


@dataclass
class Tensor:
    name: str
    array: np.ndarray

    def as_numpy(self) -> np.ndarray:
        return self.array


@dataclass
class Response:
    tensors: list[Tensor]
    error: Exception | None = None


class Request:
    def __init__(self, sequence: int, frame: np.ndarray, flags: int = 0) -> None:
        self._sequence, self._flags = sequence, flags
        self.frames = Tensor("frames", frame.reshape(1, 1, -1))

    def correlation_id(self) -> int:
        return self._sequence

    def flags(self) -> int:
        return self._flags


class Backend(ModuleType):
    """As much of Triton's module as the model uses."""

    TRITONSERVER_REQUEST_FLAG_SEQUENCE_START = START
    TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = END
    Tensor, InferenceResponse, TritonError = Tensor, Response, RuntimeError

    @staticmethod
    def get_input_tensor_by_name(request: Request, name: str) -> Tensor:
        assert name == request.frames.name
        return request.frames


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    repository.write(folder, [64])
    return folder / "lstm64"


@pytest.fixture
def peer(entry: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(
        sys.modules, "triton_python_backend_utils", Backend("triton_python_backend_utils")
    )
    file = Path(bench.triton.__path__[0]) / "model.py"
    spec = importlib.util.spec_from_file_location("peer_model", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.TritonPythonModel()
    model.initialize({"model_repository": str(entry), "model_version": "1"})
    return model


def whole(entry: Path, frames: np.ndarray) -> np.ndarray:
    """`(steps, units)`: the layer over `(steps, features)` in one go, from zeros."""
    session = ort.InferenceSession(str(entry / "1" / "model.onnx"))
    zeros = np.zeros((1, 64), np.float32)
    (hidden,) = session.run(["hidden"], {"frames": frames[None], "lstm_h": zeros, "lstm_c": zeros})
    return np.asarray(hidden)[0]


def frames_of(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((*shape, 64)).astype(np.float32)


def test_each_sequence_is_as_if_it_were_alone(peer: Any, entry: Path) -> None:
    count, steps = 200, 4  # more than the rows that the model begins with
    frames = frames_of(steps, count)
    outputs = []
    for step in range(steps):
        flags = START * (step == 0) | END * (step == steps - 1)
        order = np.random.default_rng(step).permutation(count)
        answers = peer.execute([Request(int(i) + 1, frames[step, i], flags) for i in order])
        hidden = np.stack([answer.tensors[0].array[0, 0] for answer in answers])
        outputs.append(hidden[np.argsort(order)])
    for i in (0, 63, 64, count - 1):
        alone = whole(entry, frames[:, i])
        np.testing.assert_allclose(np.stack(outputs)[:, i], alone, atol=1e-6)


def test_rows_of_ended_sequences_begin_with_zeros_again(peer: Any) -> None:
    (frame,) = frames_of(1)
    (first,) = peer.execute([Request(1, frame, START)])
    peer.execute([Request(1, frame, END)])
    (again,) = peer.execute([Request(2, frame, START | END)])
    np.testing.assert_array_equal(first.tensors[0].array, again.tensors[0].array)


def test_a_start_begins_a_live_sequence_anew(peer: Any) -> None:
    (frame,) = frames_of(1)
    first, _, again = (peer.execute([Request(1, frame, flag)])[0] for flag in (START, 0, START))
    np.testing.assert_array_equal(first.tensors[0].array, again.tensors[0].array)


def test_only_who_continues_an_unknown_sequence_gets_an_error(peer: Any) -> None:
    known, unknown = frames_of(2)
    refused, answered = peer.execute([Request(7, unknown), Request(8, known, START)])
    assert "sequence 7 has not been started" in str(refused.error)
    assert answered.error is None
    (alone,) = peer.execute([Request(9, known, START)])
    np.testing.assert_array_equal(answered.tensors[0].array, alone.tensors[0].array)


def test_who_is_compared_is_measured_one_after_the_other() -> None:
    order = turns({OURS, HTTP2, NATIVE, TRITON})
    assert len(order) == len(set(order))
    for comparison in COMPARISONS:
        if comparison.load == comparison.theirs:
            here = order.index((comparison.name, comparison.load))
            assert abs(here - order.index((TRITON, comparison.theirs))) <= 2
        assert (comparison.name, comparison.load) in order
        assert (TRITON, comparison.theirs) in order


def test_a_server_that_is_not_there_is_not_measured() -> None:
    assert NATIVE not in {name for name, _ in turns({OURS, TRITON})}


def test_a_report_of_perf_analyzer() -> None:
    report = (
        "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,"
        "Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,"
        "p50 latency,p90 latency,p95 latency,p99 latency\n"
        "64,9904.32,2,948,2098,344,1130,1772,0,6038,8560,9424,11903\n"
    )
    assert perf_analyzer.read(report) == Figures(steps_per_s=9904.32, p50_us=6038)


@pytest.mark.parametrize(
    ("library", "package"),
    [
        ("libpython3.11.so.1.0", "libpython3.11"),
        ("libssl.so.3", "libssl3"),
        ("libcrypto.so.3", "libssl3"),
        ("libz.so.1", "zlib1g"),
        ("libb64.so.0d", "libb64-0d"),
    ],
)
def test_a_missing_library_is_named_with_its_package(library: str, package: str) -> None:
    assert package_of(library) == package


def test_an_environment_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="is no virtual environment"):
        Environment(tmp_path / "nowhere", tmp_path)
