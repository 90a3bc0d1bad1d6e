"""Open Inference: one stream, many sequences, answers in the order of the requests."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

X = np.array([[[1, 2]]])


async def read_all(stream: Any) -> list[Any]:
    return [answer async for answer in stream]


async def test_sequences_interleave_and_answers_keep_the_order(rig: Any) -> None:
    rng = np.random.default_rng(1)
    frames = rng.integers(-100, 100, (5, 1, 8, 2))
    stream = rig.inference.ModelStreamInfer()
    order = [(number, t) for t in range(8) for number in rng.permutation(5).tolist()]
    for number, t in order:
        x = {"x": frames[number, :, t : t + 1]}
        flags = {"start": t == 0, "end": t == 7}
        await stream.write(rig.infer("fold", x, number + 1, id=f"{number}/{t}", **flags))
    await stream.done_writing()
    answers = await read_all(stream)
    assert [a.infer_response.id for a in answers] == [f"{n}/{t}" for n, t in order]
    assert not any(a.error_message for a in answers)
    expected = [rig.fold(frames[number])[:, t : t + 1].tolist() for number, t in order]
    assert [rig.outputs_of(a.infer_response)["y"].tolist() for a in answers] == expected
    assert len(rig.serving.sessions) == 0


async def test_a_fast_request_does_not_overtake_a_slow_one(make_rig: Any) -> None:
    rig = await make_rig(hold="mixed")
    stream = rig.inference.ModelStreamInfer()
    slow = {"x": np.zeros((1, 2), np.float32), "place": np.array([0])}
    await stream.write(rig.infer("mixed", slow, 1, id="slow", start=True))
    await stream.write(rig.infer("fold", {"x": X}, 1, id="fast", start=True))
    await stream.write(rig.infer("other", {"x": X}, 1, id="wrong"))
    first = asyncio.ensure_future(stream.read())
    await rig.until(lambda: rig.serving.model("fold").statistics.success.count == 1)
    assert not first.done()
    rig.held["mixed"].released.set()
    await first
    answers = [first.result(), await stream.read(), await stream.read()]
    assert [a.infer_response.id for a in answers] == ["slow", "fast", "wrong"]
    assert [bool(a.error_message) for a in answers] == [False, False, True]
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF


async def test_half_close_finishes_what_is_pending(make_rig: Any) -> None:
    rig = await make_rig(hold="fold")
    stream = rig.inference.ModelStreamInfer()
    for n in range(20):
        await stream.write(rig.infer("fold", {"x": X + n}, 1, start=n == 0))
    await stream.done_writing()
    await rig.until(lambda: rig.serving.model("fold").scheduler.pending == 20)
    rig.held["fold"].released.set()
    assert len(await read_all(stream)) == 20
    assert await stream.code() is grpc.StatusCode.OK
    (session,) = rig.serving.sessions
    assert session.step == 20


async def test_more_requests_than_may_be_open(make_rig: Any) -> None:
    """The client is slowed down, not refused."""
    rig = await make_rig(max_pending_per_session=4)
    stream = rig.inference.ModelStreamInfer()

    async def write() -> None:
        for n in range(60):
            await stream.write(rig.infer("fold", {"x": X}, 1, start=n == 0, id=str(n)))
        await stream.done_writing()

    writing = asyncio.ensure_future(write())
    answers = await read_all(stream)
    await writing
    assert [a.infer_response.id for a in answers] == [str(n) for n in range(60)]
    assert not any(a.error_message for a in answers)


async def test_a_cancelled_stream_cancels_what_has_not_run(make_rig: Any) -> None:
    rig = await make_rig(hold="fold")
    scheduler = rig.serving.model("fold").scheduler
    stream = rig.inference.ModelStreamInfer()
    for n in range(10):
        await stream.write(rig.infer("fold", {"x": X}, 1, start=n == 0))
    await rig.until(lambda: scheduler.pending == 10)
    stream.cancel()
    await rig.until(lambda: scheduler.pending <= 1)  # the one that runs
    rig.held["fold"].released.set()
    await rig.until(lambda: scheduler.pending == 0)
    (session,) = rig.serving.sessions
    assert session.step == 1
    response = await rig.inference.ModelInfer(rig.infer("fold", {"x": X}, 1))
    assert (
        rig.outputs_of(response)["y"].tolist()
        == rig.fold(np.concatenate([X, X], 1))[:, -1:].tolist()
    )


async def test_a_stream_that_is_cancelled_disturbs_no_other(make_rig: Any) -> None:
    rig = await make_rig(hold="fold")
    streams = [rig.inference.ModelStreamInfer() for _ in range(2)]
    for number, stream in enumerate(streams, start=1):
        for n in range(5):
            await stream.write(rig.infer("fold", {"x": X + n}, number, start=n == 0))
    await rig.until(lambda: rig.serving.model("fold").scheduler.pending == 10)
    streams[0].cancel()
    rig.held["fold"].released.set()
    await streams[1].done_writing()
    answers = [rig.outputs_of(a.infer_response)["y"][0, 0] for a in await read_all(streams[1])]
    x = np.concatenate([X + n for n in range(5)], axis=1)
    assert (np.stack(answers) == rig.fold(x)[0]).all()


async def test_one_sequence_over_two_streams_and_a_call(rig: Any) -> None:
    frames = [X + n for n in range(3)]
    expected = rig.fold(np.concatenate(frames, axis=1))[0]
    got = []
    for n in range(2):
        stream = rig.inference.ModelStreamInfer()
        await stream.write(rig.infer("fold", {"x": frames[n]}, "s", start=n == 0))
        await stream.done_writing()
        got += [rig.outputs_of(a.infer_response)["y"][0, 0] for a in await read_all(stream)]
    response = await rig.inference.ModelInfer(rig.infer("fold", {"x": frames[2]}, "s", end=True))
    assert (np.stack([*got, rig.outputs_of(response)["y"][0, 0]]) == expected).all()


async def test_an_empty_stream(rig: Any) -> None:
    stream = rig.inference.ModelStreamInfer()
    await stream.done_writing()
    assert await read_all(stream) == []
    assert await stream.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("rows", [1, 3])
async def test_models_without_states_in_a_stream(rig: Any, rows: int) -> None:
    stream = rig.inference.ModelStreamInfer()
    for n in range(10):
        x = np.full((rows, 2), n, np.float32)
        await stream.write(rig.infer("affine", {"x": x}))
    await stream.done_writing()
    answers = [rig.outputs_of(a.infer_response)["y"] for a in await read_all(stream)]
    assert [a.tolist() for a in answers] == [[[2 * n + 1] * 2] * rows for n in range(10)]
