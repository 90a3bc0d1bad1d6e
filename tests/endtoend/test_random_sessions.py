"""Random clients of exported models, all at once, each against a lone run in torch.

Sessions step (numbered, pipelined, in frames), lose answers and ask again, peek, fork, are saved
and restored, reset, set, read, expire and close, while most of them have to leave the device for
each other. The services are the real ones, on a real gRPC server in the test's own loop, and so are
the engines.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import torch

import export
import models
from export.carrier import Carrier
from rnnserve.v1 import session_pb2 as pb
from rnnserve.v1 import session_pb2_grpc as pb_grpc
from server.config import LimitsConfig
from server.engine.engine import Engine
from server.repository.load import load
from server.rpc.session_service import SessionService
from server.serving import ServedModel, Serving, limits_of
from tests.server.rpc.wire import NUMBERS, STEPS, Stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from numpy.typing import NDArray

TOLERANCE = 2e-6
ROUNDS, SESSIONS = 12, 14
LIMITS = LimitsConfig(max_sessions=200, max_pending_per_session=64, max_chunk=4)
BATCH, RESIDENT = 4, 8  # of the sessions' rows, so many are on the device
FRAMES, FILMS = (5,), (4, 5, 1)

MODELS: dict[str, tuple[Callable[[], models.Layer], tuple[int, ...]]] = {
    "lstm": (lambda: models.LSTM(6, return_sequences=True), FRAMES),
    "gru": (lambda: models.GRU(5, reset_after=True, return_sequences=True), FRAMES),
    "stacked": (
        lambda: models.RNN([models.LSTMCell(3), models.GRUCell(2)], return_sequences=True),
        FRAMES,
    ),
    "films": (lambda: models.ConvLSTM2D(2, 3, padding="same", return_sequences=True), FILMS),
}


@dataclass
class Served:
    """A model in torch, its shape of a timestep, and its engine."""

    carrier: Carrier
    shape: tuple[int, ...]
    spec: Any
    engine: Engine
    limits: Any


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Served]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    root, found = tmp_path_factory.mktemp("random"), {}
    for name, (make, shape) in MODELS.items():
        model = models.Sequential([make()])
        model.build((None, None, *shape))
        export.install(model, root, name=name)
        (spec,) = load(root / name)
        limits = limits_of(spec, LIMITS)
        limits = replace(limits, max_batch_size=BATCH, max_resident_rows=RESIDENT)
        engine = Engine(spec, provider="cpu", rows=limits.arena_rows, instances=2)
        found[name] = Served(Carrier(model), shape, spec, engine, limits)
    return found


@pytest.fixture
async def make_world(served: dict[str, Served]) -> AsyncIterator[Any]:
    started = []

    async def make(name: str, seed: int, instances: int) -> World:
        serving, one = Serving(LIMITS.max_sessions), served[name]
        limits = replace(one.limits, max_batch_size=BATCH // instances, instances=instances)
        own = instances > 1 or None  # so that runs do overlap, short as they are
        serving.add(ServedModel(one.spec, one.engine, limits, serving.closed, own_thread=own))
        server = grpc.aio.server()
        service = SessionService(serving, LIMITS.max_pending_per_session)
        pb_grpc.add_SessionServiceServicer_to_server(service, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        serving.started = True
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        started.append((serving, server, channel))
        stub = pb_grpc.SessionServiceStub(channel)
        stream = SharedStream(SimpleNamespace(sessions=stub))
        return World(serving, stub, stream, one, np.random.default_rng(seed))

    yield make
    for serving, server, channel in started:
        await channel.close()
        await server.stop(None)
        serving.stop()


class SharedStream(Stream):
    """For many tasks at a time."""

    def __init__(self, rig: Any) -> None:
        super().__init__(rig)
        self._writing, self._reading = asyncio.Lock(), asyncio.Lock()

    async def send(self, session: int = 0, **action: Any) -> int:
        async with self._writing:
            return await super().send(session, **action)

    async def answer(self, request_id: int) -> pb.StreamResponse:
        async with self._reading:
            return await super().answer(request_id)


@dataclass
class Life:
    """A session, and the states that torch has come to by the same requests."""

    key: pb.SessionKey
    number: int  # on the stream
    states: Any = None
    step: int = 0
    last: tuple[pb.StepRequest, pb.StepResponse] | None = None


@dataclass
class World:
    serving: Serving
    stub: Any
    stream: Stream
    model: Served
    rng: np.random.Generator
    lives: list[Life] = field(default_factory=list)
    count: int = 0

    # ---- what torch says ------------------------------------------------------------------------

    def frames(self, count: int = 1, length: int | None = None) -> NDArray[Any]:
        """Random inputs, (count, time, …)."""
        length = length or int(self.rng.integers(1, 10))
        return self.rng.normal(size=(count, length, *self.model.shape)).astype(np.float32)

    def alone(self, x: NDArray[Any], states: Any) -> tuple[NDArray[Any], Any]:
        """Outputs of every timestep and the states after the last, by torch."""
        (name,) = [tensor.name for tensor in self.model.spec.inputs]
        with torch.inference_mode():
            outputs, after, _ = self.model.carrier.run({name: torch.from_numpy(x)}, states)
        (y,) = outputs.values()
        return y.numpy(), after

    def advance(self, life: Life, x: NDArray[Any]) -> NDArray[Any]:
        y, life.states = self.alone(x, life.states)
        life.step += 1
        return y

    # ---- what the server says -------------------------------------------------------------------

    def message(self, life: Life, x: NDArray[Any], **fields: Any) -> pb.StepRequest:
        inputs = [tensor_of(self.model.spec.inputs[0].name, x)]
        how = {"session": life.key, "inputs": inputs, "return_sequences": True}
        return pb.StepRequest(**how, **fields)

    async def born(self, answer: Awaitable[Any], states: Any = None, step: int = 0) -> Life:
        opened = await answer
        assert opened.step == step
        self.count += 1
        life = Life(opened.session, self.count, states, step)
        resumed = await self.stream.ask(life.number, resume=life.key)
        assert resumed.open.step == step, resumed
        self.lives.append(life)
        return life

    async def open(self) -> Life:
        wanted = pb.OpenSessionRequest(model_name=self.model.spec.name, idle_ttl_s=60.0)
        return await self.born(self.stub.OpenSession(wanted))

    async def is_gone(self, life: Life, kind: str) -> None:
        self.lives.remove(life)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.stub.GetStates(pb.GetStatesRequest(session=life.key))
        assert dict(caught.value.trailing_metadata())["rnnserve-error"] == kind

    # ---- what a client does ---------------------------------------------------------------------

    async def step(self, life: Life) -> None:
        x = self.frames()
        request = self.message(life, x, step=life.step + 1)
        answer = await self.stub.Step(request)
        close(answer.outputs, [self.advance(life, x)])
        assert answer.step == life.step
        life.last = request, answer

    async def again(self, life: Life) -> None:
        """The answer was lost, and another step may have been made since."""
        if life.last is not None:
            request, answer = life.last
            assert await self.stub.Step(request) == answer

    async def lose(self, life: Life) -> None:
        """Nobody waits for the answer; whether the step was made or not, it is asked for again."""
        x = self.frames()
        request = self.message(life, x, step=life.step + 1, return_state=True)
        await self.cancelled(self.stub.Step(request))
        answer = await self.stub.Step(request)
        close(answer.outputs, [self.advance(life, x)])
        close(answer.states, life.states)

    async def cancel(self, life: Life) -> None:
        """A step without a number has left no trace, or all of it."""
        x = self.frames()
        await self.cancelled(self.stub.Step(self.message(life, x)))
        states = await self.stub.GetStates(pb.GetStatesRequest(session=life.key))
        if states.step > life.step:
            self.advance(life, x)
        assert states.step == life.step

    async def cancelled(self, call: Any) -> None:
        task = asyncio.ensure_future(_answer(call))
        for _ in range(int(self.rng.integers(0, 30))):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([task])

    async def peek(self, life: Life) -> None:
        x = self.frames()
        answer = await self.stub.Step(self.message(life, x, peek=True, return_state=True))
        y, states = self.alone(x, life.states)
        close(answer.outputs, [y])
        close(answer.states, states)
        assert answer.step == life.step

    async def pipeline(self, life: Life) -> None:
        sent = []
        for _ in range(int(self.rng.integers(2, 6))):
            x = self.frames()
            expected = self.advance(life, x)
            step = self.message(life, x, step=life.step)
            step.ClearField("session")
            sent.append((await self.stream.send(life.number, step=step), expected, life.step))
        for request, expected, step in sent:
            answer = await self.stream.answer(request)
            assert answer.WhichOneof("result") == "step", answer
            close(answer.step.outputs, [expected])
            assert answer.step.step == step

    async def fork(self, life: Life) -> None:
        states, step = life.states, life.step
        await self.born(self.stub.Fork(pb.ForkRequest(session=life.key)), states, step)

    async def save(self, life: Life) -> None:
        """And go on; what is restored later goes on from before."""
        saved = await self.stub.Snapshot(pb.SnapshotRequest(session=life.key))
        states, step = life.states, life.step
        await self.step(life)
        restored = self.stub.Restore(pb.RestoreRequest(snapshot=saved.snapshot, idle_ttl_s=60.0))
        await self.born(restored, states, step)

    async def reset(self, life: Life) -> None:
        await self.stub.ResetStates(pb.ResetStatesRequest(session=life.key))
        life.states = None

    async def set(self, life: Life) -> None:
        got = await self.stub.GetStates(pb.GetStatesRequest(session=life.key))
        assert got.step == life.step
        if life.states is not None:
            close(got.states, life.states)
        given = [tensor_of(tensor.name, -0.5 * array_of(tensor)) for tensor in got.states]
        await self.stub.SetStates(pb.SetStatesRequest(session=life.key, states=given))
        life.states = tuple(torch.from_numpy(array_of(tensor).copy()) for tensor in given)

    async def expire(self, life: Life) -> None:
        session = self.serving.sessions.get(life.key.session_id, life.key.token)
        session.last_used_s -= 120.0
        assert self.serving.expire() == 1
        await self.is_gone(life, "SessionExpired")

    async def end(self, life: Life) -> None:
        await self.stub.CloseSession(pb.CloseSessionRequest(session=life.key))
        await self.is_gone(life, "SessionNotFound")

    async def frame(self, lives: list[Life]) -> None:
        """A step of all of them, some more behind it, and the last one once more."""
        sent = []
        for _ in range(int(self.rng.integers(1, 4))):
            x = self.frames(len(lives))
            expected = [self.advance(life, x[i : i + 1])[0] for i, life in enumerate(lives)]
            sent.append(await self._send_frame(lives, x, np.stack(expected)))
        sent.append(await self._send_frame(lives, x, np.stack(expected)))
        for request, expected, steps in sent:
            answer = await self.stream.answer(request)
            assert not answer.frame.errors, answer
            close(answer.frame.outputs, [expected])
            assert np.frombuffer(answer.frame.steps, STEPS).tolist() == steps

    async def _send_frame(self, lives: list[Life], x: NDArray[Any], expected: Any) -> Any:
        steps = [life.step for life in lives]
        frame = pb.Frame(
            sessions=np.array([life.number for life in lives], NUMBERS).tobytes(),
            steps=np.array(steps, STEPS).tobytes(),
            inputs=[tensor_of(self.model.spec.inputs[0].name, x)],
            return_sequences=True,
        )
        return await self.stream.send(frame=frame), expected, steps


OFTEN = ("step", "step", "lose", "pipeline", "peek", "again", "cancel")
SOMETIMES = ("fork", "save", "reset", "set", "expire", "end")


@pytest.mark.parametrize("instances", [1, 2])
@pytest.mark.parametrize("name", MODELS)
async def test_random_sessions(make_world: Any, name: str, instances: int) -> None:
    world: World = await make_world(name, seed=2, instances=instances)
    rng, seen = world.rng, set()
    deck: list[str] = []
    for _ in range(ROUNDS):
        while len(world.lives) < SESSIONS:
            await world.open()
        lives = [world.lives[i] for i in rng.permutation(len(world.lives))]
        framed = int(rng.integers(0, len(lives)))
        if len(deck) < len(lives):
            deck += rng.permutation([*OFTEN, *OFTEN, *SOMETIMES, *OFTEN]).tolist()
        chosen = [deck.pop() for _ in lives[framed:]]
        actions = zip(chosen, lives[framed:], strict=True)
        todo = [getattr(world, action)(life) for action, life in actions]
        if framed:
            todo.insert(int(rng.integers(len(todo) + 1)), world.frame(lives[:framed]))
        await asyncio.gather(*todo)
        seen.update(chosen)
    assert seen == {*OFTEN, *SOMETIMES}
    table = world.serving.model(name).table
    assert (table.row[: len(table.sessions)] < 0).any()  # some were moved off the device
    for life in world.lives:
        await world.step(life)
        await world.stub.CloseSession(pb.CloseSessionRequest(session=life.key))
    rows = world.serving.model(name).scheduler.ledger.rows
    assert rows.free == rows.size - 1


async def _answer(call: Any) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await call


def tensor_of(name: str, array: NDArray[Any]) -> pb.Tensor:
    contents = np.ascontiguousarray(array, np.float32).tobytes()
    return pb.Tensor(name=name, datatype="FP32", shape=array.shape, contents=contents)


def array_of(tensor: pb.Tensor) -> NDArray[Any]:
    return np.frombuffer(tensor.contents, np.float32).reshape(tuple(tensor.shape))


def close(got: Any, expected: Any) -> None:
    """Tensors as torch has them, in order."""
    for tensor, array in zip(got, expected, strict=True):
        np.testing.assert_allclose(array_of(tensor), np.asarray(array), rtol=0, atol=TOLERANCE)
