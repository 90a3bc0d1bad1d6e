"""Frames, copies of sessions and numbered steps beside each other, cancelled, cut and failing at
random, with fewer rows than sessions: every row comes back, every step is made once, and nothing is
a bug's doing.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb
from server.errors import StepFailed
from tests.server.rpc.wire import Stream, all_rows_are_free, column, frame, framed

LIMITS = {"max_sessions": 60, "max_resident": 16, "max_pending": 400}
X = np.arange(1, 23).reshape(1, 11, 2)
STATES = {"encoder": "h", "starts": "h"}


def fail_at_times(rig: Any, rng: Any, probability: float) -> None:
    for model in STATES:
        engine = rig.serving.model(model).driver.engine
        for name in ("run", "read", "write"):
            method = getattr(engine, name)

            def failing(*arguments: Any, method: Any = method) -> Any:
                if rng.random() < probability:
                    raise StepFailed("on purpose")
                return method(*arguments)

            setattr(engine, name, failing)


class Walks:
    """Clients that know each other's sessions."""

    def __init__(self, rig: Any, rng: Any) -> None:
        self.rig, self.rng = rig, rng
        self.keys = [(pb.SessionKey(session_id="none", token="none"), "encoder")]
        self.snapshots = [b"none"]
        self.kinds: set[str] = set()

    def note(self, error: pb.Error) -> None:
        made = "its states could not be read" in error.message
        self.kinds.add("made" if made else error.kind)

    async def calls(self) -> None:
        """One call after the other, some of them given up."""
        for _ in range(40):
            call = asyncio.ensure_future(self.call())
            if self.rng.random() < 0.25:
                await asyncio.sleep(self.rng.random() / 500)
                call.cancel()
            try:
                await call
                self.kinds.add("")
            except asyncio.CancelledError:
                self.kinds.add("cancelled")
            except grpc.aio.AioRpcError as error:
                kind = dict(error.trailing_metadata())["rnnserve-error"]
                self.note(pb.Error(kind=kind, message=error.details()))

    async def call(self) -> None:
        sessions, rng = self.rig.sessions, self.rng
        key, _ = self.keys[rng.integers(len(self.keys))]
        match rng.integers(7):
            case 0 | 1:
                answer = await sessions.Fork(pb.ForkRequest(session=key, idle_ttl_s=30))
                self.keys.append((answer.session, answer.model_name))
            case 2:
                stored = await sessions.Snapshot(pb.SnapshotRequest(session=key))
                self.snapshots.append(stored.snapshot)
            case 3:
                stored = self.snapshots[rng.integers(len(self.snapshots))]
                answer = await sessions.Restore(pb.RestoreRequest(snapshot=stored))
                self.keys.append((answer.session, answer.model_name))
            case 4:
                await sessions.CloseSession(pb.CloseSessionRequest(session=key))
            case _:
                step, peek = (int(rng.integers(6)), False) if rng.random() < 0.7 else (0, True)
                x = X[:, : rng.integers(1, 12)]
                await self.rig.step(key, x, step=step, peek=peek, return_state=rng.random() < 0.3)

    async def streams(self) -> None:
        for _ in range(6):
            await self.stream()

    async def stream(self) -> None:
        """Sessions of its own and of others, frames and single requests, all sent at once."""
        rng, stream = self.rng, Stream(self.rig)
        model = str(rng.choice(list(STATES)))
        known = [key for key, of in self.keys if of == model][-8:]
        opening = pb.OpenManyRequest(open=pb.OpenSessionRequest(model_name=model), count=8)
        asked = [await stream.send(0, open_many=opening)]
        asked.append(await stream.send(8, resume_many=pb.ResumeManyRequest(sessions=known)))
        asked += [await self.send(stream) for _ in range(15)]
        if rng.random() < 0.4:
            await asyncio.sleep(rng.random() / 100)
            stream.call.cancel()
            return
        for request in asked:
            self.read(await stream.answer(request), model)
        await stream.end()

    async def send(self, stream: Stream) -> int:
        rng = self.rng
        numbers = rng.permutation(17)[: rng.integers(1, 17)]
        one, step = int(numbers[0]), int(rng.integers(5))
        x = np.repeat(X[:, : rng.integers(1, 12)], len(numbers), 0)
        match rng.integers(8):
            case 0:
                return await stream.step(one, x[:1], step=step)
            case 1:
                return await stream.send(one, reset=pb.ResetStatesRequest())
            case 2:
                few = column(*numbers[:3])
                return await stream.send(close_many=pb.CloseManyRequest(sessions=few))
            case 3:
                return await stream.send(one, close=pb.CloseSessionRequest())
            case _:
                return await stream.send(frame=frame(self.rig, numbers, {"x": x}, steps=step))

    def read(self, answer: pb.StreamResponse, model: str) -> None:
        match answer.WhichOneof("result"):
            case "error":
                self.note(answer.error)
            case "open_many":
                self.keys += [(key, model) for key in answer.open_many.sessions]
            case "frame":
                for error in framed(self.rig, answer).errors.values():
                    self.note(error)
                self.kinds.add("frame")


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_asked(make_rig: Any, seed: int) -> None:
    rig, rng = await make_rig(**LIMITS), np.random.default_rng(seed)
    fail_at_times(rig, rng, 0.05)
    walks = Walks(rig, rng)
    await asyncio.gather(*(walks.streams() for _ in range(4)), *(walks.calls() for _ in range(4)))
    expected = {
        "",
        "frame",
        "cancelled",
        "StepFailed",
        "StepGap",
        "InvalidRequest",
    }
    assert expected <= walks.kinds
    assert "InternalError" not in walks.kinds
    await rig.serving.idle()
    await rig.until(lambda: all(s.phase.name == "IDLE" for s in rig.serving.sessions))
    for session in rig.serving.sessions:
        session.home.close(session)
    assert rig.serving.empty.is_set()
    assert all(all_rows_are_free(rig, model) for model in STATES)


@pytest.mark.parametrize("seed", range(4))
async def test_every_step_is_made_once(make_rig: Any, seed: int) -> None:
    """Each client sends a step, alone or in frames, until it has an answer, whatever goes wrong;
    in the end its sessions are where they would be if nothing had.
    """
    rig, rng = await make_rig(**LIMITS), np.random.default_rng(seed)
    fail_at_times(rig, rng, 0.1)
    await asyncio.gather(
        *(alone(rig, rng) for _ in range(20)), *(group(rig, rng) for _ in range(2))
    )
    assert {session.step for session in rig.serving.sessions} == {15}


async def opened(rig: Any) -> pb.SessionKey:
    while True:
        try:
            return await rig.open("encoder")
        except grpc.aio.AioRpcError:
            continue


async def alone(rig: Any, rng: Any) -> None:
    key, state = await opened(rig), np.zeros((1, 2), np.int64)
    for step in range(1, 16):
        x = rng.integers(-9, 9, (1, rng.integers(1, 12), 2))
        for time in range(x.shape[1]):
            state = 3 * state + x[:, time]
        while not await answered(rig, rng, rig.step(key, x, step=step)):
            pass
    await same(rig, key, state)


async def answered(rig: Any, rng: Any, call: Any) -> bool:
    """Whether the call had an answer; at times it is not waited for."""
    task = asyncio.ensure_future(call)
    if rng.random() < 0.3:
        await asyncio.sleep(rng.random() / 200)
        task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return False
    except grpc.aio.AioRpcError as error:
        if dict(error.trailing_metadata())["rnnserve-error"] != "StepFailed":
            raise
        return False
    return True


async def group(rig: Any, rng: Any) -> None:
    """Ten sessions that step in frames; a stream that was cut is taken up by another."""
    keys = [await opened(rig) for _ in range(10)]
    states = np.zeros((10, 2), np.int64)
    stream = await taken_up(rig, keys)
    for step in range(1, 16):
        x = rng.integers(-9, 9, (10, rng.integers(1, 12), 2))
        for time in range(x.shape[1]):
            states = 3 * states + x[:, time]
        left = np.arange(10)
        while len(left):
            sent = await stream.send(frame=frame(rig, left, {"x": x[left]}, steps=step))
            if rng.random() < 0.3:
                await asyncio.sleep(rng.random() / 200)
                stream.call.cancel()
                stream = await taken_up(rig, keys)
                continue
            got = framed(rig, await stream.answer(sent))
            assert set(got.kinds.values()) <= {"StepFailed"}
            left = left[sorted(got.errors)]
    await stream.end()
    for key, state in zip(keys, states, strict=True):
        await same(rig, key, state[None])


async def taken_up(rig: Any, keys: Any) -> Stream:
    stream = Stream(rig)
    answer = await stream.ask(0, resume_many=pb.ResumeManyRequest(sessions=keys))
    assert not answer.resume_many.errors, answer
    return stream


async def same(rig: Any, key: pb.SessionKey, state: Any) -> None:
    while True:
        try:
            read = await rig.states(key)
        except grpc.aio.AioRpcError:
            continue
        assert read.step == 15
        assert rig.array_of(read.states[0]).tolist() == state.tolist()
        return
