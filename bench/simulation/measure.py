"""What a run costs on this machine: the engine alone, and the driver around it.

    python -m bench.simulation measure

The real driver serves sessions of equal length, so that every run has the size that is asked for.
What `Engine.run` takes is the engine's time, all else the driver's: choosing sessions, laying
inputs side by side, handing over to the thread and back, answers. Both are the processor's time,
which other programs hardly change, and of several rounds the least, because they can only add. How
long a thread takes to wake is not in it.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import report, repository
from bench.shapes import FEATURES, HIDDEN_SIZES
from bench.simulation.cost import LONGEST, MAX_BATCH, MEASURED
from server.core.ledger import Limits
from server.core.requests import Step
from server.core.session import Session
from server.engine.engine import Engine
from server.repository.load import load
from server.serving import ServedModel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from server.repository.spec import ModelSpec

BATCHES = [1, 2, 4, 8, 16, 32, 64, 128, 256, MAX_BATCH]
TIMESTEPS = [1, 4, 16, 64, LONGEST]
ROUNDS = 3
ROW_STEPS = 20_000  # timesteps of all sessions in one measurement, unless a single run has more
MOST_RUNS = 200
LIMITS = Limits(max_batch_size=MAX_BATCH, max_rows=MAX_BATCH)


class TimedEngine:
    """The engine, and the processor's seconds that were spent in it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.read, self.write = engine.read, engine.write
        self.used_s, self.runs = 0.0, 0

    def run(
        self, inputs: Mapping[str, NDArray[Any]], read: NDArray[Any], write: NDArray[Any]
    ) -> Mapping[str, NDArray[Any]]:
        start_s = time.thread_time()
        outputs = self._engine.run(inputs, read, write)
        self.used_s += time.thread_time() - start_s
        self.runs += 1
        return outputs


def measure(begin: Callable[[str], None], done: Callable[[], None]) -> None:
    """Write `MEASURED`. Calls `done` once for each of `rounds()`."""
    head = {"conditions": report.conditions(), "batches": BATCHES, "timesteps": TIMESTEPS}
    curves: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        repository.write(Path(folder), HIDDEN_SIZES)
        for hidden in HIDDEN_SIZES:
            name = f"lstm{hidden}"
            spec = load(Path(folder) / name)[0]
            engine = TimedEngine(Engine(spec, provider="cpu", rows=LIMITS.arena_rows))
            samples = []
            for round in range(ROUNDS):
                begin(f"{name}, round {round + 1}")
                samples.append(asyncio.run(_grid(spec, engine)))
                done()
            curves[name] = {
                what: [[_least(samples, b, t, i) for t in TIMESTEPS] for b in BATCHES]
                for i, what in enumerate(("engine_us", "driver_us"))
            }
    text = json.dumps({**head, "curves": curves}, indent=1)
    MEASURED.write_text(_one_line_a_list(text) + "\n")


def rounds() -> int:
    """How many pieces the work has."""
    return ROUNDS * len(HIDDEN_SIZES)


Sample = dict[tuple[int, int], tuple[float, float]]


async def _grid(spec: ModelSpec, engine: TimedEngine) -> Sample:
    """Microseconds of a run in the engine and around it, by batch and timesteps."""
    return {(b, t): await _cell(spec, engine, b, t) for b in BATCHES for t in TIMESTEPS}


async def _cell(
    spec: ModelSpec, engine: TimedEngine, batch: int, timesteps: int
) -> tuple[float, float]:
    limits = Limits(max_batch_size=batch, max_rows=batch, max_chunk=timesteps)
    served = ServedModel(spec, engine, limits, lambda session: None)  # type: ignore[arg-type]
    sessions = [Session(number, served) for number in range(batch)]
    for session in sessions:
        served.admit(session)
    runs = min(MOST_RUNS, ROW_STEPS // (batch * timesteps)) or 1
    await _serve(served, sessions, timesteps)  # binds the shapes, touches the memory
    engine.used_s, engine.runs = 0.0, 0
    used_s = await _serve(served, sessions, timesteps * runs)
    assert engine.runs == runs, f"{engine.runs} runs instead of {runs}"
    served.driver.stop()
    return 1e6 * engine.used_s / runs, 1e6 * (used_s - engine.used_s) / runs


async def _serve(served: ServedModel, sessions: list[Session], timesteps: int) -> float:
    """The processor's seconds for a request of so many timesteps of every session."""
    frames = np.zeros((1, timesteps, FEATURES), np.float32)
    for session in sessions:
        request = Step(inputs={"frames": frames}, timesteps=timesteps)
        served.scheduler.submit(session, request, time.monotonic())
    start_s = time.process_time()
    served.driver.wake()
    await served.driver.idle()
    return time.process_time() - start_s


def _least(samples: list[Sample], batch: int, timesteps: int, what: int) -> float:
    return round(min(sample[batch, timesteps][what] for sample in samples), 1)


def _one_line_a_list(text: str) -> str:
    """The JSON with each list of numbers on a line of its own."""
    return re.sub(r"\[[^\[\]]*\]", lambda numbers: " ".join(numbers[0].split()), text)
