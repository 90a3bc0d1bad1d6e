"""Models that others made: `rnnserve add`, then a real server, its answers as plain ONNX Runtime's.

Two sessions at a time, their steps interleaved, over gRPC.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest
import torch

import rnnserve

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MODELS = Path(__file__).parents[1] / "inspection" / "models"
RNNSERVE = Path(sys.executable).with_name("rnnserve")
STEPS = 5
# A step's input, with its batch axis where the model has one, and what else plain ONNX Runtime
# wants; the states by the names of input and output, and their shapes.
CASES: dict[str, Any] = {
    "silero_vad_16k": {
        "input": (1, 576),
        "constants": {"sr": np.array(16000)},
        "states": {"state": ("stateN", (2, 1, 128))},
    },
    "gtcrn": {
        "mix": (1, 257, 1, 2),
        "states": {
            "conv_cache": ("conv_cache_out", (2, 1, 16, 16, 33)),
            "tra_cache": ("tra_cache_out", (2, 3, 1, 1, 16)),
            "inter_cache": ("inter_cache_out", (2, 1, 33, 16)),
        },
    },
    "dtln_1": {
        "input_2": (1, 1, 257),
        "states": {"input_3": ("tf_op_layer_stack_2", (1, 2, 128, 2))},
    },
    "silero_vad_v6": {
        "input": (3, 576),
        "states": {"h": ("hn", (1, 1, 128)), "c": ("cn", (1, 1, 128))},
    },
    "keras_gru": {"frames": (1, 4, 5), "states": {"h0_in": ("Identity_1:0", (1, 8))}},
}


class TimeMajor(torch.nn.Module):
    """As torch's layers are by default: x (time, batch, 3), states (2, batch, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = torch.nn.LSTM(3, 5, 2), torch.nn.Linear(5, 2)

    def forward(self, x: Any, h: Any, c: Any) -> Any:
        y, (h, c) = self.rnn(x, (h, c))
        return self.head(y), h, c


@pytest.fixture(scope="module")
def time_major() -> TimeMajor:
    torch.manual_seed(0)
    return TimeMajor().eval()


@pytest.fixture(scope="module")
def foreign_server(
    start: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, time_major: TimeMajor
) -> Any:
    folder = tmp_path_factory.mktemp("foreign")
    files = {name: MODELS / f"{name}.onnx" for name in CASES}
    files |= {"silero": MODELS / "silero_vad_16k.onnx", "time_major": folder / "time_major.onnx"}
    states = [torch.zeros(2, 1, 5), torch.zeros(2, 1, 5)]
    with warnings.catch_warnings(action="ignore"):  # the exporter's own
        torch.onnx.export(
            time_major, (torch.zeros(4, 1, 3), *states), files["time_major"], dynamo=False,
            input_names=["x", "h", "c"], output_names=["y", "hn", "cn"],
            dynamic_axes={"x": {0: "time", 1: "batch"}, "h": {1: "batch"}, "c": {1: "batch"}},
        )  # fmt: skip
    for name, file in files.items():
        command = [RNNSERVE, "add", file, "--repository", folder / "repository", "--name", name]
        subprocess.run(command, check=True, capture_output=True)
    return start(folder / "repository", "--provider", "cpu").wait_until_serving()


def test_a_model_with_time_first_shares_batches_and_answers_with_the_batch_first(
    foreign_server: Any, time_major: TimeMajor
) -> None:
    """Sessions of one and of two rows, requests of several lengths at once, against torch."""
    rng = np.random.default_rng(5)
    x = [
        [rng.normal(size=(rows, length, 3)).astype(np.float32) for length in (4, 1, 3)]
        for rows in (1, 2, 1, 1)
    ]

    async def client_of(client: rnnserve.aio.Client, requests: list[Any]) -> list[Any]:
        async with client.session("time_major", batch_size=len(requests[0])) as session:
            return [await session.step(a, return_sequences=True) for a in requests]

    async def clients() -> list[Any]:
        async with rnnserve.aio.connect(foreign_server.grpc) as client:
            return await asyncio.gather(*(client_of(client, requests) for requests in x))

    for requests, answers in zip(x, asyncio.run(clients()), strict=True):
        whole = torch.from_numpy(np.concatenate(requests, axis=1)).transpose(0, 1)
        states = [torch.zeros(2, len(requests[0]), 5) for _ in range(2)]
        with torch.no_grad():
            expected = time_major(whole, *states)[0].transpose(0, 1).numpy()
        np.testing.assert_allclose(np.concatenate(answers, axis=1), expected, atol=1e-6)


def test_the_snippet_of_the_documentation(foreign_server: Any) -> None:
    page = (Path(__file__).parents[2] / "docs" / "foreign-models.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    code = snippet.replace("localhost:8001", foreign_server.grpc)
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint(probability.shape, 0 < probability[0] < 0.1)"],
        capture_output=True,
        text=True,
    )
    assert (ran.stdout, ran.stderr) == ("(1,) True\n", "")


class Plain:
    """The model alone, its states carried by hand."""

    def __init__(self, name: str) -> None:
        self._session = ort.InferenceSession(
            str(MODELS / f"{name}.onnx"), providers=["CPUExecutionProvider"]
        )
        self._pairs = {i: o for i, (o, _) in CASES[name]["states"].items()}
        self._more = CASES[name].get("constants", {})
        self.states = {
            i: np.zeros(shape, np.float32) for i, (_, shape) in CASES[name]["states"].items()
        }

    def step(self, inputs: dict[str, NDArray[Any]]) -> NDArray[Any]:
        names = [output.name for output in self._session.get_outputs()]
        results = self._session.run(names, {**inputs, **self._more, **self.states})
        found = dict(zip(names, results, strict=True))
        self.states = {i: found.pop(o) for i, o in self._pairs.items()}
        (answer,) = found.values()
        return answer


@pytest.mark.parametrize("name", CASES)
def test_two_sessions_as_each_alone(foreign_server: Any, name: str) -> None:
    tensor, shape = next(iter(CASES[name].items()))
    rng = np.random.default_rng(3)
    plain = [Plain(name), Plain(name)]
    with rnnserve.connect(foreign_server.grpc) as client:
        sessions = [client.session(name).open() for _ in plain]
        for _ in range(STEPS):
            for session, alone in zip(sessions, plain, strict=True):
                x = (0.3 * rng.normal(size=shape)).astype(np.float32)
                answer = session.step({tensor: x}, return_sequences=True)
                np.testing.assert_allclose(answer, alone.step({tensor: x}), atol=1e-5)
        for session, alone in zip(sessions, plain, strict=True):
            states = session.states
            for state, array in alone.states.items():
                assert np.abs(array).max() > 0
                # the session's has its batch axis, of size 1, first: the same elements in order
                np.testing.assert_allclose(states[state].ravel(), array.ravel(), atol=1e-5)
            session.close()
