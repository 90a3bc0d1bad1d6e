"""Several runs of one model at a time, over one arena and one copy of the weights."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from server.engine.engine import Engine
from server.errors import StepFailed
from server.repository.load import load
from tests.server.engine.memory import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import onnx

    from tests.server.conftest import LstmModel, MakeModel

    Ints = np.ndarray[Any, np.dtype[np.int64]]

INSTANCES = 4
ROWS = 300_000  # a pool that was copied for a run would lose what others write meanwhile
OFFSETS = [[0, 0], [10, 20]]  # of the model `mixed`, at `place`
PATIENCE_S = 30


def start(path: Path, rows: int = ROWS, instances: int = INSTANCES) -> Engine:
    return Engine(load(path)[0], provider="cpu", rows=rows, instances=instances)


def beside(calls: Iterable[Callable[[], Any]]) -> list[Any]:
    """What the calls return, each on a thread of its own."""
    calls = list(calls)
    with ThreadPoolExecutor(len(calls)) as threads:
        return [future.result() for future in [threads.submit(call) for call in calls]]


class Together(dict[str, Any]):
    """Inputs that a run gets when as many other runs are under way as are to meet."""

    def __init__(self, meeting: Barrier, **inputs: Any) -> None:
        super().__init__(inputs)
        self._meeting = meeting

    def __getitem__(self, name: str) -> Any:
        self._meeting.wait(PATIENCE_S)
        return super().__getitem__(name)


class Player:
    """Some sessions in rows of their own, anywhere in the arena, and what their states must be."""

    def __init__(self, engine: Engine, seed: int, rows: Ints) -> None:
        self.engine = engine
        self.rng = np.random.default_rng(seed)
        self.own = rows
        self.rows = np.zeros(6, np.int64)  # all begin with the same one
        self.total, self.count = np.zeros((6, 2), np.float32), np.zeros(6, np.int64)

    def play(self, rounds: int) -> None:
        for _ in range(rounds):
            chosen = self.rng.permutation(6)[: self.rng.integers(1, 7)]
            how = self.rng.random()
            if how < 0.1:
                self.replace(chosen)
            else:
                self.step(chosen, fails=how < 0.2)
            self.check(self.rng.permutation(6)[:2])
        self.check(np.arange(6))

    def free_rows(self, count: int) -> Ints:
        return self.rng.choice(np.setdiff1d(self.own, self.rows), count, replace=False)

    def step(self, chosen: Ints, *, fails: bool) -> None:
        x = self.rng.integers(0, 100, (len(chosen), 2)).astype(np.float32)
        place = self.rng.integers(0, 2, len(chosen))
        write = self.free_rows(len(chosen))
        if fails:
            place[-1] = 99
            with pytest.raises(StepFailed, match="idx=99"):
                self.engine.run({"x": x, "place": place}, self.rows[chosen], write)
            return
        outputs = self.engine.run({"x": x, "place": place}, self.rows[chosen], write)
        self.rows[chosen] = write
        self.total[chosen] += x + np.array(OFFSETS, np.float32)[place]
        self.count[chosen] += 1
        np.testing.assert_array_equal(outputs["y"], self.total[chosen])
        np.testing.assert_array_equal(outputs["count_next"], self.count[chosen])

    def replace(self, chosen: Ints) -> None:
        self.rows[chosen] = self.free_rows(len(chosen))
        self.total[chosen] = self.rng.integers(0, 100, (len(chosen), 2))
        self.count[chosen] = self.rng.integers(0, 100, len(chosen))
        self.engine.write(self.rows[chosen], self.states(chosen))

    def states(self, chosen: Ints) -> dict[str, Any]:
        odd = (self.count[chosen] % 2 == 1)[:, np.newaxis]
        return {"total": self.total[chosen], "count": self.count[chosen], "odd": odd}

    def check(self, chosen: Ints) -> None:
        found = self.engine.read(self.rows[chosen])
        for name, expected in self.states(chosen).items():
            np.testing.assert_array_equal(found[name], expected)


@pytest.fixture
def mixed(make_model: MakeModel, mixed_model: onnx.ModelProto, mixed_config: str) -> Path:
    return make_model("mixed", mixed_config, mixed_model)


def test_runs_reads_and_writes_at_the_same_time_lose_nothing(mixed: Path) -> None:
    engine = start(mixed)
    anywhere = np.random.default_rng(0).permutation(np.arange(1, ROWS))[: INSTANCES * 40]
    parts = np.split(anywhere, INSTANCES)
    players = [Player(engine, seed, rows) for seed, rows in enumerate(parts)]
    beside([lambda player=player: player.play(300) for player in players])
    for player in players:  # and nobody has changed what was another's
        player.check(np.arange(6))
    elsewhere = np.setdiff1d(np.arange(ROWS), anywhere)
    assert not any(values.any() for values in engine.read(elsewhere).values())


def test_as_many_runs_as_instances_are_under_way_at_a_time(mixed: Path) -> None:
    engine = start(mixed, rows=20)
    meeting = Barrier(INSTANCES)  # which breaks unless all of them come

    def run(number: int) -> list[list[float]]:
        x = np.full((1, 2), number, np.float32)
        inputs = Together(meeting, x=x, place=np.zeros(1, np.int64))
        y: list[list[float]] = engine.run(inputs, np.zeros(1, np.int64), np.array([1 + number]))[
            "y"
        ].tolist()
        return y

    answers = beside([lambda number=number: run(number) for number in range(INSTANCES)])
    assert answers == [[[number, number]] for number in range(INSTANCES)]
    assert engine.read(np.arange(1, 5))["total"][:, 0].tolist() == [0, 1, 2, 3]


def test_what_a_run_gives_does_not_depend_on_those_beside_it(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str
) -> None:
    """To the last bit: batches of different sizes and lengths, beside each other and alone."""
    path = make_model("lstm", lstm_config, lstm_model())

    def steps(engine: Engine, size: int) -> list[Any]:
        rng, found = np.random.default_rng(size), []
        read, write = 100 * size + np.arange(2 * size).reshape(2, size)
        for timesteps in [1, 2, 7] * 50:
            frames = rng.normal(size=(size, timesteps, 3)).astype(np.float32)
            found.append(engine.run({"frames": frames}, read, write)["y"])
            read, write = write, read
        return [*found, *engine.read(read).values()]

    sizes = [1, 3, 5, 8]
    engine, alone = start(path, 1000), start(path, 1000, instances=1)
    together = beside([lambda size=size: steps(engine, size) for size in sizes])
    for size, found in zip(sizes, together, strict=True):
        for ours, expected in zip(found, steps(alone, size), strict=True):
            np.testing.assert_array_equal(ours, expected)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/statm")
def test_no_instance_copies_a_pool(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str
) -> None:
    """Pools of 512 MiB each that nobody has written take no memory; a copy of one would."""
    rows, limit, before = 1 << 25, 64 << 20, resident_bytes()
    engine = start(make_model("lstm", lstm_config, lstm_model()), rows, instances=2)
    frames, meeting = np.ones((1, 1, 3), np.float32), Barrier(2)

    def run(row: int) -> Any:
        inputs = Together(meeting, frames=frames)
        return engine.run(inputs, np.zeros(1, np.int64), np.array([row]))["y"]

    first, second = beside([lambda: run(rows - 1), lambda: run(rows // 2)])
    np.testing.assert_array_equal(first, second)
    assert engine.spec.state_nbytes * rows > 4 * limit
    assert resident_bytes() - before < limit
