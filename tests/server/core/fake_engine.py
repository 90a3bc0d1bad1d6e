"""An engine that cannot make a mistake unnoticed: integers in an array of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from server.core.batch import Layout
from server.core.rows import RowPool
from server.errors import StepFailed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

INITIAL = 7
BAD = 666  # a run with this among its inputs fails
POISON = -999_999_999
MODULUS = 1_000_003
LAYOUT = Layout(inputs={"x": 1}, outputs={"y": 1, "last": None})


class FakeEngine:
    """`s' = 3 s + x` (mod a prime), so order counts, and a second state that counts timesteps.

    Outputs: `y` (batch, time), the state after each timestep, and `last` (batch,), after the last.
    """

    def __init__(self, rows: int) -> None:
        self.value = np.full(rows, POISON, np.int64)
        self.count = np.full(rows, POISON, np.int64)
        self.value[0], self.count[0] = INITIAL, 0
        self.runs: list[tuple[int, int]] = []  # (rows, timesteps)

    def run(
        self, inputs: dict[str, NDArray[Any]], read: NDArray[Any], write: NDArray[Any]
    ) -> dict[str, NDArray[Any]]:
        x = inputs["x"]
        assert x.flags.c_contiguous
        assert len(x) == len(read) == len(write)
        value, count = self._checked(read)
        y = np.empty(x.shape, np.int64)
        for t in range(x.shape[1]):
            value = (3 * value + x[:, t]) % MODULUS
            y[:, t] = value
        self.value[write], self.count[write] = value, count + x.shape[1]
        if (x == BAD).any():
            raise StepFailed("a bad input")
        self.runs.append((len(x), x.shape[1]))
        return {"y": y, "last": value}

    def read(self, rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
        value, count = self._checked(rows)
        return {"value": value, "count": count}

    def write(self, rows: NDArray[Any], states: dict[str, NDArray[Any]]) -> None:
        assert 0 not in rows, "the initial state is overwritten"
        self.value[rows], self.count[rows] = states["value"], states["count"]

    def _checked(self, rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        assert (np.asarray(rows) >= 0).all(), f"no such rows: {rows}"
        value, count = self.value[rows], self.count[rows]
        assert POISON not in value, f"a free row is read: {rows}"
        return value, count

    def poison(self, row: int) -> None:
        self.value[row] = self.count[row] = POISON


class PoisoningPool(RowPool):
    """Knows which rows are out, and spoils those that come back."""

    def __init__(self, size: int, engine: FakeEngine) -> None:
        super().__init__(size)
        self.out: set[int] = set()
        self._engine = engine

    def owners(self, row: int) -> int:
        """How many are to give the row back."""
        return self._sharers.get(row, 0) + (row in self.out)

    def take(self, count: int) -> tuple[int, ...]:
        rows = super().take(count)
        assert self.out.isdisjoint(rows), f"{rows} handed out twice"
        assert 0 not in rows
        self.out.update(rows)
        return rows

    def give_back(self, rows: Iterable[int]) -> None:
        rows = [row for row in rows if row > 0]
        assert self.out.issuperset(rows), f"{rows} are given back, out are {self.out}"
        before = len(self._returned)
        super().give_back(rows)
        for row in self._returned[before:]:
            self.out.remove(row)
            self._engine.poison(row)


def alone(state: int, values: Iterable[int]) -> list[int]:
    """The states after each of `values`, by nothing but the equation."""
    states = []
    for value in values:
        state = (3 * state + value) % MODULUS
        states.append(state)
    return states
