"""What a run of the model costs, in seconds, by its rows and timesteps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MEASURED = Path(__file__).with_name("measured.json")
MAX_BATCH, LONGEST = 512, 400  # rows and timesteps of the largest run

GPU_LAUNCH_S = 30e-6  # of a run
GPU_TIMESTEP_S = 160e-6  # of a timestep, however few rows it has
GPU_FLAT_ROWS = 128  # … and up to so many


@dataclass(frozen=True)
class Cost:
    """`table[batch][timesteps]` in seconds, up to `MAX_BATCH` and `LONGEST`."""

    name: str
    table: Sequence[Sequence[float]]

    def seconds(self, batch: int, timesteps: int) -> float:
        return self.table[batch][timesteps]

    def slower(self, factor: float) -> Cost:
        """The same of a machine on which everything takes `factor` times as long."""
        return Cost(self.name, (factor * np.array(self.table)).tolist())


def measured(model: str, *, driver: bool = True) -> Cost:
    """Of `lstm64` or `lstm256`: the engine's and the driver's time together, or the engine's only.

    Linear between the measured points.
    """
    grid = json.loads(MEASURED.read_text())
    curves = grid["curves"][model]
    points = np.array(curves["engine_us"]) / 1e6
    if driver:
        points += np.array(curves["driver_us"]) / 1e6
    table = _between(points, grid["batches"], grid["timesteps"])
    return Cost(model if driver else f"{model}, engine only", table.tolist())


def gpu_like() -> Cost:
    """Not measured: as flat as a GPU's. A timestep takes the same time up to `GPU_FLAT_ROWS` rows
    and in proportion beyond; nothing is added for the driver but a launch.
    """
    rows = np.arange(MAX_BATCH + 1)
    timestep_s = GPU_TIMESTEP_S * np.maximum(1, rows / GPU_FLAT_ROWS)
    table = GPU_LAUNCH_S + timestep_s[:, None] * np.arange(LONGEST + 1)
    return Cost("synthetic GPU", table.tolist())


def _between(
    points: NDArray[Any], batches: Sequence[int], timesteps: Sequence[int]
) -> NDArray[np.float64]:
    """The `(batches, timesteps)` points as `(MAX_BATCH + 1, LONGEST + 1)` seconds."""
    along = np.array([np.interp(np.arange(LONGEST + 1), timesteps, row) for row in points])
    rows = np.arange(MAX_BATCH + 1)
    return np.array([np.interp(rows, batches, column) for column in along.T]).T
