"""A model of two instances: requests of different sessions run at the same time, those of one do
not.
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

PATIENCE_S = 30


class GatedEngine:
    """A run whose first number is `n` waits until `gates[n]` opens."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.read, self.write = engine.read, engine.write
        self.gates: dict[int, threading.Event] = defaultdict(threading.Event)
        self.begun: list[int] = []

    def run(self, inputs: Any, read: Any, write: Any) -> Any:
        number = int(inputs["x"].flat[0])
        self.begun.append(number)
        assert self.gates[number].wait(PATIENCE_S)
        return self._engine.run(inputs, read, write)


@pytest.fixture
async def rig(make_rig: Any) -> Any:
    """With `rig.gated` in the place of the engine of "fold"."""
    rig = await make_rig(hold="fold", instances=2)
    rig.held["fold"].released.set()
    driver = rig.serving.model("fold").driver
    rig.gated = driver.engine = GatedEngine(driver.engine)
    return rig


def x(number: int) -> Any:
    return np.array([[[number, 0]]])


async def test_two_slow_steps_overlap(rig: Any) -> None:
    keys = [await rig.open() for _ in range(3)]
    calls = [
        asyncio.ensure_future(rig.step(key, x(number))) for number, key in enumerate(keys, start=1)
    ]
    await rig.until(lambda: len(rig.gated.begun) == 2)
    late, early = rig.gated.begun
    rig.gated.gates[early].set()
    assert (await calls[early - 1]).step == 1
    assert not calls[late - 1].done()
    (last,) = {1, 2, 3} - {late, early}  # has taken the place of the one that is done
    rig.gated.gates[last].set()
    await calls[last - 1]
    assert not calls[late - 1].done()
    rig.gated.gates[late].set()
    for number, call in enumerate(calls, start=1):
        assert (rig.array_of((await call).outputs[0]) == rig.fold(x(number))).all()


async def test_two_slow_sequences_overlap(rig: Any) -> None:
    def infer(number: int) -> Any:
        request = rig.infer("fold", {"x": x(number)}, number, start=True, end=True)
        return asyncio.ensure_future(rig.inference.ModelInfer(request))

    first, second = infer(1), infer(2)
    await rig.until(lambda: sorted(rig.gated.begun) == [1, 2])
    rig.gated.gates[2].set()
    assert (rig.outputs_of(await second)["y"] == rig.fold(x(2))).all()
    assert not first.done()
    rig.gated.gates[1].set()
    await first
    await rig.serving.idle()
    statistics = rig.serving.model("fold").statistics
    assert statistics.execution_count == statistics.success.count == 2


async def test_answers_of_one_stream_keep_the_order(rig: Any) -> None:
    stream = rig.inference.ModelStreamInfer()
    for number in (1, 2):
        await stream.write(rig.infer("fold", {"x": x(number)}, number, id=str(number), start=True))
    await rig.until(lambda: sorted(rig.gated.begun) == [1, 2])
    answer = asyncio.ensure_future(stream.read())
    rig.gated.gates[2].set()
    await rig.until(lambda: rig.serving.model("fold").scheduler.pending == 1)
    assert not answer.done()
    rig.gated.gates[1].set()
    ids = [(await answer).infer_response.id, (await stream.read()).infer_response.id]
    assert ids == ["1", "2"]
    await stream.done_writing()


async def test_the_steps_of_one_session_do_not_overlap(rig: Any) -> None:
    key = await rig.open()
    calls = [await rig.arrived(rig.step(key, x(number))) for number in (1, 2)]
    await asyncio.sleep(0.02)
    assert rig.gated.begun == [1]
    for number in (1, 2):
        rig.gated.gates[number].set()
    states = [rig.array_of((await call).outputs[0]) for call in calls]
    expected = rig.fold(np.concatenate([x(1), x(2)], axis=1))
    np.testing.assert_array_equal(np.stack(states, axis=1), expected)


async def test_a_step_asked_for_twice_runs_once(rig: Any) -> None:
    key = await rig.open()
    calls = [await rig.arrived(rig.step(key, x(1), step=1)) for _ in range(2)]
    await rig.until(lambda: rig.gated.begun)
    await asyncio.sleep(0.02)
    rig.gated.gates[1].set()
    first, again = [await call for call in calls]
    assert first == again
    assert rig.gated.begun == [1]
