"""The rules that make the arena right and cheap, pinned on the CPU."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from server.engine.arena import Arena
from server.engine.devices import CPU
from server.engine.engine import Engine
from server.errors import StartupError
from server.repository.load import load
from server.repository.spec import StateSpec
from tests.server.engine.memory import resident_bytes

if TYPE_CHECKING:
    from tests.server.conftest import LstmModel, MakeModel


def float_state(*shape: int) -> StateSpec:
    initial = np.full(shape, 3, np.float32)
    return StateSpec("h", "h_next", "FP32", np.dtype(np.float32), shape, 0, initial)


def test_a_run_writes_its_rows_in_place_and_no_others(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str
) -> None:
    engine = Engine(load(make_model("lstm", lstm_config, lstm_model()))[0], provider="cpu", rows=99)
    arena = engine.arena
    assert arena is not None
    everything = np.arange(1, 99)
    rng = np.random.default_rng(0)
    filling = {name: rng.normal(size=(98, 4)).astype(np.float32) for name in "hc"}
    engine.write(everything, filling)
    pools = {name: pool.numpy() for name, pool in arena.pools.items()}  # views of the buffers
    addresses = {name: pool.data_ptr() for name, pool in arena.pools.items()}
    read, write = np.array([7, 50, 98]), np.array([90, 1, 33])
    engine.run({"frames": np.ones((3, 2, 3), np.float32)}, read, write)
    untouched = np.setdiff1d(everything, write)
    for name, pool in pools.items():
        assert arena.pools[name].data_ptr() == addresses[name] == pool.ctypes.data
        np.testing.assert_array_equal(pool[untouched], filling[name][untouched - 1])
        assert not np.isin(pool[write], filling[name][write - 1]).any()
        np.testing.assert_array_equal(pool[0], 0)
        np.testing.assert_array_equal(engine.read(write)[name], pool[write])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/statm")
def test_a_run_touches_no_memory_but_its_rows(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str
) -> None:
    """Pools of 512 MiB each that nobody has written take no memory; a copy of one would."""
    rows = 1 << 25
    limit = 64 << 20
    before = resident_bytes()
    [spec] = load(make_model("lstm", lstm_config, lstm_model()))
    engine = Engine(spec, provider="cpu", rows=rows)
    last = np.array([rows - 1])
    frames = np.ones((1, 1, 3), np.float32)
    first = engine.run({"frames": frames}, np.array([0]), last)["y"]
    again = engine.run({"frames": frames}, np.array([0]), np.array([rows // 2]))["y"]
    engine.write(np.array([rows // 3]), engine.read(last))
    np.testing.assert_array_equal(first, again)
    assert spec.state_nbytes * rows > 4 * limit
    assert resident_bytes() - before < limit


@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3, 5)])
def test_rows_of_any_shape(shape: tuple[int, ...]) -> None:
    arena = Arena([float_state(*shape)], 200, CPU)
    np.testing.assert_array_equal(arena.read(np.array([0]))["h"], np.full((1, *shape), 3))
    rng = np.random.default_rng(0)
    rows = rng.permutation(np.arange(1, 200))[:150]  # more than "few"
    values = rng.normal(size=(150, *shape)).astype(np.float32)
    arena.write(rows, {"h": values})
    np.testing.assert_array_equal(arena.read(rows)["h"], values)
    np.testing.assert_array_equal(arena.read(rows[::3])["h"], values[::3])
    assert arena.read(rows[:0])["h"].shape == (0, *shape)
    with pytest.raises(IndexError, match="the arena's are 0 to 199"):
        arena.read(rows + 100)


def test_values_must_have_the_rows_shape() -> None:
    arena = Arena([float_state(4)], 3, CPU)
    with pytest.raises(ValueError, match=r"state 'h': \(1, 4\); expected \(2, 4\)"):
        arena.write(np.array([1, 2]), {"h": np.zeros((1, 4), np.float32)})
    np.testing.assert_array_equal(arena.read(np.array([1, 2]))["h"], np.zeros((2, 4)))


def test_pools_that_do_not_fit_are_one_clear_line() -> None:
    with pytest.raises(StartupError) as caught:
        Arena([float_state(1 << 20)], 1 << 40, CPU)
    assert str(caught.value) == (
        "state 'h': 1099511627776 rows of 4194304 bytes do not fit into the memory of cpu; lower"
        " the number of sessions"
    )
