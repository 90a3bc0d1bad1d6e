"""How many timesteps make a run that is long enough to be worth its overhead, and short enough for
others to wait for it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from server.engine.warmup import zeros_of
from server.errors import StepFailed

if TYPE_CHECKING:
    from server.engine.engine import Engine

RUN_S = 0.0008  # of one row
FEWEST, MOST = 8, 1024
_SHORT, _LONG = 8, 72  # timesteps of the runs that are compared
_ROUNDS = 5


def measured_chunk(engine: Engine, otherwise: int) -> int:
    """Timesteps, a power of two, that take about `RUN_S` for one row; the arena is afterwards as it
    was. `otherwise` for a model that does not run on zeros.
    """
    before = engine.read(np.ones(1, np.int64))
    try:
        short_s, long_s = _seconds(engine, _SHORT), _seconds(engine, _LONG)
    except StepFailed:
        return otherwise
    finally:
        engine.write(np.ones(1, np.int64), before)
    each_s = max((long_s - short_s) / (_LONG - _SHORT), 1e-9)
    fitting = min(max(RUN_S / each_s, FEWEST), MOST)
    return int(2 ** round(np.log2(fitting)))


def _seconds(engine: Engine, timesteps: int) -> float:
    """Of one run of one row, the quickest of a few. Raises StepFailed."""
    inputs = {
        tensor.name: zeros_of(engine.spec, tensor, 1, timesteps) for tensor in engine.spec.fed
    }
    read, write = np.zeros(1, np.int64), np.ones(1, np.int64)
    passed = []
    for _ in range(_ROUNDS):
        start_s = time.perf_counter()
        engine.run(inputs, read, write)
        passed.append(time.perf_counter() - start_s)
    return min(passed)
