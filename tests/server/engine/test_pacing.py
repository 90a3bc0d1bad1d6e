"""How long a run of a model that may be cut should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from server.engine import pacing
from server.errors import StepFailed
from server.repository.load import load

if TYPE_CHECKING:
    from server.repository.spec import ModelSpec


class Clockwork:
    """An engine whose runs take a tenth of a millisecond and `each_s` for each timestep."""

    def __init__(self, spec: ModelSpec, clock: list[float], each_s: float) -> None:
        self.spec = spec
        self._clock = clock
        self._each_s = each_s
        self.row = "as it was"

    def read(self, rows: Any) -> Any:
        return self.row

    def write(self, rows: Any, states: Any) -> None:
        self.row = states

    def run(self, inputs: Any, read: Any, write: Any) -> None:
        self.row = "written"
        (x,) = inputs.values()
        assert x.shape[0] == 1
        assert not np.any(x)
        self._clock[0] += 1e-4 + self._each_s * x.shape[1]


@pytest.fixture
def lstm_spec(make_model: Any, lstm_config: str, lstm_model: Any) -> ModelSpec:
    return load(make_model("lstm", lstm_config, lstm_model()))[0]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now_s = [0.0]
    monkeypatch.setattr(pacing.time, "perf_counter", lambda: now_s[0])
    return now_s


@pytest.mark.parametrize(
    ("each_s", "timesteps"),
    [(25e-6, 32), (1.6e-6, 512), (100e-6, 8), (1.0, 8), (1e-9, 1024), (0.0, 1024)],
)
def test_a_chunk_takes_about_as_long_as_it_should(
    lstm_spec: ModelSpec, clock: list[float], each_s: float, timesteps: int
) -> None:
    engine: Any = Clockwork(lstm_spec, clock, each_s)
    assert pacing.measured_chunk(engine, otherwise=32) == timesteps
    assert engine.row == "as it was"


def test_a_model_that_refuses_zeros_has_the_usual_chunk(
    lstm_spec: ModelSpec, clock: list[float]
) -> None:
    engine: Any = Clockwork(lstm_spec, clock, 1e-6)

    def refuse(*_: Any) -> None:
        raise StepFailed("no zeros, please")

    engine.run = refuse
    assert pacing.measured_chunk(engine, otherwise=48) == 48
    assert engine.row == "as it was"
