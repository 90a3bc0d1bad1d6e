"""More sessions than the device has room for: thousands of steps, and every one is right."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb
from tests.server.rpc.wire import Stream, all_rows_are_free, frame, framed

RESIDENT = 16  # the fewest that the server takes: two batches


async def on_host(rig: Any) -> int:
    page = await rig.sessions.ListSessions(pb.ListSessionsRequest(page_size=1000))
    return sum(info.on_host for info in page.sessions)


@pytest.mark.parametrize("seed", range(2))
async def test_clients_of_many_sessions_at_once(make_rig: Any, seed: int) -> None:
    """Each steps on its own: single steps, numbered or not, long and short, read and set, forked
    and stored in between.
    """
    clients = 45
    rig = await make_rig(max_resident=RESIDENT, max_sessions=2 * clients)  # some are being forked
    rng = np.random.default_rng(seed)

    async def client(rounds: int) -> None:
        key, state, step = await rig.open(), np.zeros((1, 2), np.int64), 0
        for _ in range(rounds):
            choice = rng.random()
            if choice < 0.85:
                x = rng.integers(-9, 9, (1, rng.integers(1, 12), 2))
                state, step = rig.fold(x, state)[:, -1], step + 1
                numbered = step if rng.random() < 0.5 else 0
                answer = await rig.step(key, x, step=numbered)
                assert (rig.array_of(answer.outputs[0]) == state).all()
                if numbered and rng.random() < 0.2:
                    assert await rig.step(key, x, step=step) == answer
            elif choice < 0.9:
                state = rng.integers(-9, 9, (1, 2))
                request = pb.SetStatesRequest(session=key, states=[rig.tensor("h", state)])
                await rig.sessions.SetStates(request)
            elif choice < 0.95:
                read = await rig.states(key)
                assert read.step == step
                assert (rig.array_of(read.states[0]) == state).all()
            else:
                moved = await rig.sessions.Fork(pb.ForkRequest(session=key))
                await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))
                key = moved.session
        await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))

    await asyncio.gather(*(client(60) for _ in range(clients)))
    assert len(rig.serving.sessions) == 0
    assert all_rows_are_free(rig)


async def test_by_turns_so_that_nobody_can_stay(make_rig: Any) -> None:
    """Always the one that was used least recently: each step fetches a session back."""
    rig = await make_rig(max_resident=RESIDENT)
    keys = [await rig.open() for _ in range(50)]
    states = np.zeros((50, 2), np.int64)
    for round_number in range(20):
        x = np.random.default_rng(round_number).integers(-9, 9, (50, 1, 2))
        states = rig.fold(x, states)[:, -1]
        for number, key in enumerate(keys):
            answer = await rig.step(key, x[number, None])
            assert (rig.array_of(answer.outputs[0])[0] == states[number]).all()
        assert await on_host(rig) >= 50 - RESIDENT


async def test_frames_and_single_steps(make_rig: Any) -> None:
    rig, rng = await make_rig(max_resident=RESIDENT), np.random.default_rng(4)
    stream = Stream(rig)
    await stream.open_many(0, 50)
    states, sent = np.zeros((50, 2), np.int64), []
    for _ in range(200):
        chosen = rng.permutation(50)[: rng.integers(1, 51)]
        x = rng.integers(-9, 9, (len(chosen), rng.integers(1, 7), 2))
        if rng.random() < 0.6:
            states[chosen] = rig.fold(x, states[chosen])[:, -1]
            sent.append((await stream.send(frame=frame(rig, chosen, {"x": x})), states[chosen]))
        else:
            one = int(chosen[0])
            states[one] = rig.fold(x[:1], states[one])[0, -1]
            sent.append((await stream.step(one, x[:1]), states[one].copy()))
        if len(sent) > 8:
            await compare(rig, stream, *sent.pop(0))
    for request, expected in sent:
        await compare(rig, stream, request, expected)
    assert await on_host(rig) > 0
    await stream.end()


async def compare(rig: Any, stream: Stream, request: int, expected: Any) -> None:
    answer = await stream.answer(request)
    if answer.WhichOneof("result") == "frame":
        assert (framed(rig, answer).outputs["y"] == expected).all()
    else:
        assert (rig.array_of(answer.step.outputs[0])[0] == expected).all()


async def test_sessions_of_several_rows(make_rig: Any) -> None:
    rig, rng = await make_rig(max_resident=RESIDENT), np.random.default_rng(6)
    sizes = [1, 8, 3, 5, 2, 8, 7, 4, 6]  # 44 rows
    keys = [await rig.open(batch_size=size) for size in sizes]
    states = [np.zeros((size, 2), np.int64) for size in sizes]
    for _ in range(150):
        n = int(rng.integers(len(keys)))
        x = rng.integers(-9, 9, (sizes[n], rng.integers(1, 7), 2))
        states[n] = rig.fold(x, states[n])[:, -1]
        assert (rig.array_of((await rig.step(keys[n], x)).outputs[0]) == states[n]).all()
    assert await on_host(rig) > 0
    for key in keys:
        await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))
    assert all_rows_are_free(rig)


async def test_fewer_than_two_batches_are_not_enough(make_rig: Any) -> None:
    """Whoever sets less gets those."""
    rig = await make_rig(max_resident=1)
    keys = [await rig.open() for _ in range(20)]
    x = np.ones((1, 5, 2), np.int64)
    for number in range(1, 4):
        answers = await asyncio.gather(*(rig.step(key, x) for key in keys))
        expected = rig.fold(np.concatenate([x] * number, 1))[:, -1]
        assert all((rig.array_of(answer.outputs[0]) == expected).all() for answer in answers)


async def away(rig: Any, model: str = "fold") -> list[pb.SessionKey]:
    """Sessions of `model` that have moved to the host: the first ones of forty."""
    keys = [await rig.open(model) for _ in range(40)]
    for key in keys:
        request = pb.StepRequest(session=key, inputs=ONCE[model](rig))
        await rig.sessions.Step(request)
    infos = [await describe(rig, key) for key in keys[:10]]
    assert all(info.on_host for info in infos)
    return keys[:10]


async def describe(rig: Any, key: pb.SessionKey) -> pb.SessionInfo:
    return await rig.sessions.DescribeSession(pb.DescribeSessionRequest(session=key))


def mixed(rig: Any, place: int = 1) -> list[pb.Tensor]:
    return [rig.tensor("x", np.float32([[1, 2]])), rig.tensor("place", np.array([place]))]


LONG = np.arange(1, 23).reshape(1, 11, 2)  # three pieces
ONCE: Any = {"fold": lambda rig: [rig.tensor("x", LONG)], "mixed": mixed}


async def test_what_does_not_move_a_session_on_leaves_it_there(make_rig: Any) -> None:
    rig = await make_rig(max_resident=RESIDENT)
    (key, *_) = await away(rig)
    begun = rig.fold(LONG)[:, -1]
    peeked = await rig.step(key, -LONG, peek=True, return_state=True)
    assert (rig.array_of(peeked.states[0]) == rig.fold(-LONG, begun)[:, -1]).all()
    assert (rig.array_of((await rig.states(key)).states[0]) == begun).all()
    assert (await describe(rig, key)).on_host
    answer = await rig.step(key, LONG)
    assert (rig.array_of(answer.outputs[0]) == rig.fold(LONG, begun)[:, -1]).all()
    assert not (await describe(rig, key)).on_host


async def test_a_step_that_fails_leaves_the_state_on_the_host(make_rig: Any) -> None:
    rig = await make_rig(max_resident=RESIDENT)
    keys = await away(rig, "mixed")
    calls = [
        rig.sessions.Step(pb.StepRequest(session=key, inputs=mixed(rig, 9 if n % 3 else 1)))
        for n, key in enumerate(keys)
    ]
    done = await asyncio.gather(*calls, return_exceptions=True)
    for n, (key, outcome) in enumerate(zip(keys, done, strict=True)):
        assert isinstance(outcome, grpc.aio.AioRpcError) == bool(n % 3)
        states = rig.arrays_of((await rig.states(key)).states)
        steps = 1 if n % 3 else 2
        assert (states["count"].tolist(), states["total"].tolist()) == (
            [steps], [[11 * steps, 22 * steps]],
        )  # fmt: skip


async def test_reset_set_and_closed_while_on_the_host(make_rig: Any) -> None:
    rig = await make_rig(max_resident=RESIDENT)
    reset, given, closed, *_ = await away(rig)
    await rig.sessions.ResetStates(pb.ResetStatesRequest(session=reset))
    states = [rig.tensor("h", np.array([[7, 8]]))]
    await rig.sessions.SetStates(pb.SetStatesRequest(session=given, states=states))
    await rig.sessions.CloseSession(pb.CloseSessionRequest(session=closed))
    for key, begun in ((reset, 0), (given, [[7, 8]])):
        answer = await rig.step(key, LONG)
        assert (rig.array_of(answer.outputs[0]) == rig.fold(LONG, begun)[:, -1]).all()
    for session in rig.serving.sessions:
        session.home.close(session)
    assert all_rows_are_free(rig)
