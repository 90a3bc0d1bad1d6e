"""Whatever is asked, cancelled, refused or fails, in random order over both protocols: no session
stays that should not, every row comes back, and nothing is a bug's doing.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb
from server.errors import StepFailed

X = np.array([[[1, 2], [3, 4], [5, 6]]])
STATES = {"encoder": "h", "decoder": "d"}  # the decoder has a constant, too
WALKS, ROUNDS = 12, 30


class Walks:
    """Clients that know each other's sessions and share a few sequence ids."""

    def __init__(self, rig: Any, seed: int) -> None:
        self.rig = rig
        self.rng = np.random.default_rng(seed)
        self.keys = [(pb.SessionKey(session_id="none", token="none"), "encoder")]
        self.outcomes: set[str] = set()

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def fail_at_times(self, model: str) -> None:
        engine = self.rig.serving.model(model).driver.engine

        def failing(method: Any) -> Any:
            def run(*arguments: Any) -> Any:
                if self.chance(0.08):
                    raise StepFailed("on purpose")
                return method(*arguments)

            return run

        for name in ("run", "read", "write"):
            setattr(engine, name, failing(getattr(engine, name)))

    async def walk(self) -> None:
        for _ in range(ROUNDS):
            call = asyncio.ensure_future(self.call())
            if self.chance(0.25):
                await asyncio.sleep(self.rng.random() / 500)
                call.cancel()
            try:
                await call
                self.outcomes.add("done")
            except asyncio.CancelledError:
                self.outcomes.add("cancelled")
            except grpc.aio.AioRpcError as error:
                was_made = "was made, but its states could not be read" in str(error.details())
                kind = dict(error.trailing_metadata())["rnnserve-error"]
                self.outcomes.add("made" if was_made else kind)
            if self.chance(0.05):
                self.rig.serving.expire()

    async def call(self) -> None:
        key, model = self.keys[self.rng.integers(len(self.keys))]
        sessions = self.rig.sessions
        match self.rng.integers(8):
            case 0 | 1:
                await self.open(key)
            case 2:
                await self.infer()
            case 3:
                await sessions.CloseSession(pb.CloseSessionRequest(session=key))
            case 4:
                await sessions.ResetStates(pb.ResetStatesRequest(session=key))
            case 5:
                state = self.rig.tensor(STATES[model], np.array([[1, 2]]))
                await sessions.SetStates(pb.SetStatesRequest(session=key, states=[state]))
            case _:
                await self.rig.step(key, X, return_state=self.chance(0.4))

    async def open(self, source: pb.SessionKey) -> None:
        model = str(self.rng.choice(list(STATES)))
        idle_ttl_s = float(self.rng.choice([0.005, 60]))
        request = pb.OpenSessionRequest(model_name=model, idle_ttl_s=idle_ttl_s)
        if model == "decoder" and self.chance(0.8):
            request.constants.append(self.rig.tensor("gain", self.rng.integers(1, 5, (1, 2))))
        if self.chance(0.6):
            request.states_of.session.CopyFrom(source)
        self.keys.append(((await self.rig.sessions.OpenSession(request)).session, model))

    async def infer(self) -> None:
        model = str(self.rng.choice(list(STATES)))
        start, id = self.chance(0.5), int(self.rng.integers(1, 5))
        gain = {"gain": np.array([[2, 3]])} if model == "decoder" and start else {}
        request = self.rig.infer(model, {"x": X, **gain}, id, start=start, end=self.chance(0.3))
        if start and self.chance(0.5):
            request.parameters["rnnserve_states_of"].string_param = f"encoder/{5 - id}"
        await self.rig.inference.ModelInfer(request)


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_asked(make_rig: Any, seed: int) -> None:
    rig = await make_rig(max_sessions=30, max_pending=40, max_pending_per_session=6)
    walks = Walks(rig, seed)
    for model in STATES:
        walks.fail_at_times(model)
    await asyncio.gather(*(walks.walk() for _ in range(WALKS)))
    assert {"done", "cancelled", "StepFailed", "SessionNotFound"} <= walks.outcomes
    assert "InternalError" not in walks.outcomes
    await rig.serving.idle()
    await rig.until(lambda: all(s.phase.name == "IDLE" for s in rig.serving.sessions))
    for session in rig.serving.sessions:
        session.home.close(session)
    assert rig.serving.empty.is_set()
    for model in STATES:
        ledger = rig.serving.model(model).scheduler.ledger
        assert (ledger.reserved_rows, ledger.pending, ledger.working_rows) == (0, 0, 0)
        assert ledger.rows.free == ledger.rows.size - 1
