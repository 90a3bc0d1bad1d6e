"""The engine alone: gather, one timestep, scatter, without any network."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from bench.shapes import FEATURES
from server.engine.engine import Engine
from server.repository.load import load

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 100_000


def steps_per_s(
    repository: Path, model: str, batch_sizes: list[int], seconds: float
) -> list[float]:
    """Session-steps per second at each batch size, states in random rows of a large arena."""
    engine = load_engine(repository, model)
    return [measure(engine, size, seconds) for size in batch_sizes]


def load_engine(repository: Path, model: str) -> Engine:
    return Engine(load(repository / model)[0], provider="auto", rows=ROWS)


def measure(engine: Engine, size: int, seconds: float) -> float:
    """Session-steps per second."""
    rng = np.random.default_rng(0)
    inputs = {"frames": rng.normal(size=(size, 1, FEATURES)).astype(np.float32)}
    read, write = rng.choice(np.arange(1, ROWS), 2 * size, replace=False).reshape(2, size)
    for _ in range(4):  # the operating system gives memory to rows when they are first touched
        engine.run(inputs, read, write)
        read, write = write, read
    runs, start_s = 0, time.perf_counter()
    while time.perf_counter() - start_s < seconds:
        for _ in range(10):
            engine.run(inputs, read, write)
            read, write = write, read
        runs += 10
    return runs * size / (time.perf_counter() - start_s)
