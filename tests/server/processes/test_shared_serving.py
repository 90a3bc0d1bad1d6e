"""Which ids a process holds while its sessions come and go."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from server.config import LimitsConfig
from server.errors import LimitReached, SessionExists, SessionExpired, ShuttingDown
from server.processes.claims import Claims
from server.processes.routes import Routes
from server.processes.serving import SharedServing
from server.repository.spec import ModelSpec, TensorSpec
from server.rpc.sequences import SequenceId
from server.serving import ServedModel, limits_of
from server.stubs.inference.model_config_pb2 import ModelConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from server.core.session import Session

SEQUENCE = SequenceId("echo", 1, 7)


class IdleEngine:
    """Is never asked to run: sessions come and go without a step."""

    def run(self, *arguments: Any) -> Any:
        raise AssertionError

    read = write = run


def served(serving: SharedServing) -> ServedModel:
    tensor = TensorSpec("x", datatype="FP32", dtype=np.dtype(np.float32), shape=(-1, 2))
    spec = ModelSpec(
        name="echo",
        version=1,
        onnx_path=Path("model.onnx"),
        digest="0",
        max_batch_size=4,
        inputs=(tensor,),
        outputs=(tensor,),
        states=(),
        constants=(),
        idle_s=20.0,
        may_be_cut=False,
        config=ModelConfig(),
    )
    limits = limits_of(spec, LimitsConfig())
    model = ServedModel(spec, IdleEngine(), limits, serving.closed, own_thread=False)
    serving.add(model)
    return model


class Process:
    """What one of two processes holds."""

    def __init__(self, directory: Path, number: int) -> None:
        self.claims = Claims(directory, number)
        self.serving = SharedServing(3, self.claims, Routes(self.claims, number, 2), max_ended=2)
        self.model = served(self.serving)

    def open(self, id: Any = None, **fields: Any) -> Session:
        return self.serving.open(self.model, id=id, **fields)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Process, Process]]:
    both = Process(tmp_path, 0), Process(tmp_path, 1)
    yield both
    for process in both:
        process.serving.stop()


async def closed(session: Session) -> None:
    session.home.close(session)
    await asyncio.sleep(0)


async def test_an_id_is_free_when_its_session_has_ended(pair: tuple[Process, Process]) -> None:
    one, other = pair
    session = one.open("a")
    with pytest.raises(SessionExists):
        other.open("a")
    await closed(session)
    await closed(other.open("a"))
    assert one.claims.holder("a") is None


async def test_ids_made_here_need_no_claim(pair: tuple[Process, Process], tmp_path: Path) -> None:
    sessions = [process.open() for process in pair] + [pair[0].open(object())]
    assert [str(session.id)[-2:] for session in sessions[:2]] == [".0", ".1"]
    assert os.listdir(tmp_path) == []
    for session in sessions:
        await closed(session)


async def test_what_could_not_be_opened_is_not_held(pair: tuple[Process, Process]) -> None:
    one, other = pair
    sessions = [one.open(str(number)) for number in range(3)]
    with pytest.raises(LimitReached):
        one.open("one too many")
    with pytest.raises(SessionExists):
        one.open("0")
    one.serving.draining = True
    with pytest.raises(ShuttingDown):
        one.open("too late")
    assert [one.claims.holder(id) for id in ("one too many", "0", "too late")] == [None, 0, None]
    for session in [*sessions, other.open("one too many"), other.open("too late")]:
        await closed(session)


async def test_a_sequence_that_begins_anew_stays_held(pair: tuple[Process, Process]) -> None:
    one, other = pair
    before = one.open(SEQUENCE)
    after = one.open(SEQUENCE, replaces=before)
    await asyncio.sleep(0)
    assert before.closed
    assert one.claims.holder(SEQUENCE) == 0
    with pytest.raises(SessionExists):
        other.open(SEQUENCE)
    await closed(after)
    assert one.claims.holder(SEQUENCE) is None


async def test_expired_ids_are_held_and_not_for_ever(pair: tuple[Process, Process]) -> None:
    """So that whoever asks for them is told here, by this process, what has become of them."""
    one, other = pair
    for id in ("a", "b", "c"):
        one.open(id, token="secret", idle_ttl_s=0.0)
    await asyncio.sleep(0.01)
    assert one.serving.expire() == 3
    await asyncio.sleep(0)
    assert [one.claims.holder(id) for id in ("a", "b", "c")] == [None, 0, 0]
    with pytest.raises(SessionExpired):
        one.serving.sessions.get("c", "secret")
    again = one.open("b")
    with pytest.raises(SessionExists):
        other.open("c")
    await closed(again)  # this one has not expired
    assert [one.claims.holder(id) for id in ("b", "c")] == [None, 0]


async def test_idle_waits_for_what_is_passed_on(pair: tuple[Process, Process]) -> None:
    routes = Routes(pair[0].claims, 0, 2)
    serving = SharedServing(3, pair[0].claims, routes)
    routes.enter("a stream")
    idle = asyncio.ensure_future(serving.idle())
    await asyncio.sleep(0.01)
    assert not idle.done()
    routes.leave("a stream")
    await asyncio.wait_for(idle, 1)
