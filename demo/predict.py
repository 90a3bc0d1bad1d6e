"""The same utterances three ways: through torch, through the ONNX file, through the server.

Each way gives one array per utterance: the class probabilities at every frame, `(T, 9)` float32.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

import rnnserve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Arrays = list[NDArray[Any]]


def with_torch(run_dir: Path, utterances: Arrays) -> Arrays:
    """Whole utterances through the trained model."""
    import torch

    from models import runs

    model = runs.load(run_dir).model
    with torch.inference_mode():
        return [model(torch.from_numpy(frames[None]))[0].numpy() for frames in utterances]


def with_onnx(path: Path, utterances: Arrays) -> Arrays:
    """Whole utterances through the exported file, in plain ONNX Runtime."""
    import onnxruntime as ort

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (frames_name, *state_names) = (tensor.name for tensor in session.get_inputs())
    output_name = session.get_outputs()[0].name
    sizes = {tensor.name: tensor.shape[-1] for tensor in session.get_inputs()}
    states = {name: np.zeros((1, sizes[name]), np.float32) for name in state_names}
    return [
        session.run([output_name], {frames_name: frames[None], **states})[0][0]
        for frames in utterances
    ]


@dataclass
class Streamed:
    """What came back, and how long each step took from sending to answer, in seconds."""

    outputs: Arrays
    latencies_s: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def percentile_ms(self, q: float) -> float:
        return float(np.percentile(self.latencies_s, q) * 1000)


def with_server(
    target: str, model: str, utterances: Arrays, on_step: Callable[[], None]
) -> Streamed:
    """Every utterance as a session of its own, frame by frame, all sessions at once."""
    return asyncio.run(_stream_all(target, model, utterances, on_step))


async def _stream_all(
    target: str, model: str, utterances: Arrays, on_step: Callable[[], None]
) -> Streamed:
    streamed = Streamed([])
    async with rnnserve.aio.connect(target) as client:

        async def play(frames: NDArray[Any]) -> NDArray[Any]:
            outputs = []
            async with client.session(model) as session:
                for frame in frames:
                    sent_s = time.perf_counter()
                    outputs.append(await session.step(frame))
                    streamed.latencies_s.append(time.perf_counter() - sent_s)
                    on_step()
            return np.stack(outputs)

        started_s = time.perf_counter()
        streamed.outputs = await asyncio.gather(*(play(frames) for frames in utterances))
        streamed.seconds = time.perf_counter() - started_s
    return streamed
