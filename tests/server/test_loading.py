"""A model directory whose configuration asks for several instances, as it is served."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from server.config import LimitsConfig, ServerConfig
from server.core.requests import Step
from server.loading import load_models
from server.serving import Serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import onnx

    from server.core.session import Session
    from server.serving import ServedModel
    from tests.server.conftest import MakeModel

SESSIONS, STEPS = 60, 20  # the device has room for 48


@pytest.fixture
def repository(make_model: MakeModel, mixed_model: onnx.ModelProto, mixed_config: str) -> Path:
    config = (
        f"{mixed_config}\ninstance_group [ {{ count: 2 kind: KIND_CPU }}, {{ kind: KIND_CPU }} ]\n"
    )
    return make_model("mixed", config, mixed_model).parent


@pytest.fixture
async def serving() -> AsyncIterator[Serving]:
    serving = Serving(SESSIONS)
    yield serving
    serving.stop()


@pytest.fixture
async def model(repository: Path, serving: Serving) -> ServedModel:
    limits = LimitsConfig(max_sessions=SESSIONS, max_resident=10)
    config = ServerConfig(repository=repository, provider="cpu", engine_thread="own", limits=limits)
    [model] = await load_models(repository / "mixed", config, serving)
    serving.add(model)
    return model


def step(session: Session, x: list[int], place: int) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    inputs = {"x": np.array([x], np.float32), "place": np.array([place])}
    request = Step(inputs=inputs, answer=future.set_result, return_state=x[0] == 0)
    session.home.submit(session, request)
    return future


async def test_the_instances_of_a_configuration_serve(model: ServedModel) -> None:
    assert model.scheduler.limits.instances == model.driver.engine.instances == 3  # type: ignore[attr-defined]
    assert [group.count for group in model.spec.config.instance_group] == [2, 1]


async def test_sessions_on_three_instances_are_as_if_each_were_alone(
    model: ServedModel, serving: Serving
) -> None:
    """To the last digit: whole numbers, batches of several sessions, and a device too small for all
    of them.
    """
    moved = 0

    async def live(seed: int) -> None:
        nonlocal moved
        random, session = Random(seed), serving.open(model)
        total, place = np.zeros(2, np.float32), seed % 2
        for count in range(1, STEPS + 1):
            x = [random.randint(0, 9), random.randint(0, 9)]
            moved += sum(other.on_host for other in serving.sessions)
            result = await step(session, x, place)
            total = total + np.array(x, np.float32) + place * np.array([10, 20], np.float32)
            assert result.outputs["y"].tolist() == [total.tolist()]
            assert result.outputs["count_next"].tolist() == [count]
            if result.states is not None:
                assert result.states["total"].tolist() == [total.tolist()]
        model.close(session)

    await asyncio.gather(*(live(seed) for seed in range(SESSIONS)))
    await model.driver.idle()
    assert moved
    assert model.statistics.success.count == SESSIONS * STEPS
    assert model.scheduler.ledger.rows.free == model.scheduler.ledger.rows.size - 1
