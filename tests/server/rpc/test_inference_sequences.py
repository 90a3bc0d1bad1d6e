"""Open Inference: sequences are sessions, told apart by model, version and id."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

FIRST, SECOND, THIRD = (np.array([[[n, -n]]]) for n in (5, 7, 11))


async def run(rig: Any, *arguments: Any, **options: Any) -> list[Any]:
    """The outputs "y" of one inference with "fold", without the batch axis."""
    response = await rig.inference.ModelInfer(rig.infer("fold", *arguments, **options))
    return rig.outputs_of(response)["y"][0].tolist()


def folded(rig: Any, *frames: Any) -> list[Any]:
    return rig.fold(np.concatenate(frames, axis=1))[0, -1:].tolist()


@pytest.mark.parametrize("sequence", [1, 2**63 - 1, -1, "a", "sequence 1", "☃" * 50])
async def test_state_goes_from_request_to_request(rig: Any, sequence: Any) -> None:
    assert await run(rig, {"x": FIRST}, sequence, start=True) == folded(rig, FIRST)
    assert await run(rig, {"x": SECOND}, sequence) == folded(rig, FIRST, SECOND)
    assert await run(rig, {"x": THIRD}, sequence, end=True) == folded(rig, FIRST, SECOND, THIRD)
    assert len(rig.serving.sessions) == 0


async def test_ids_are_told_apart_by_type_model_and_version(rig: Any) -> None:
    keys: list[tuple[Any, dict[str, str]]] = [
        (1, {}), ("1", {}), (2, {}), (1, {"model_version": "1"}),
    ]  # fmt: skip
    for number, (sequence, fields) in enumerate(keys):
        x = {"x": FIRST + number}
        await run(rig, x, sequence, start=True, **fields)
    mixed = {"x": np.zeros((1, 2), np.float32), "place": np.array([1])}
    await rig.inference.ModelInfer(rig.infer("mixed", mixed, 1, start=True))
    for number, (sequence, fields) in enumerate(keys):
        expected = folded(rig, FIRST + number, SECOND)
        assert await run(rig, {"x": SECOND}, sequence, **fields) == expected
    response = await rig.inference.ModelInfer(rig.infer("mixed", mixed, 1))
    assert rig.outputs_of(response)["y"].tolist() == [[20, 40]]


async def test_no_version_means_the_latest(rig: Any) -> None:
    await run(rig, {"x": FIRST}, 1, start=True)
    request = rig.infer("fold", {"x": SECOND}, 1, model_version="2", id="same sequence")
    response = await rig.inference.ModelInfer(request)
    assert response.model_version == "2"
    assert rig.outputs_of(response)["y"][0].tolist() == folded(rig, FIRST, SECOND)


async def test_start_on_a_live_sequence_begins_anew(rig: Any) -> None:
    await run(rig, {"x": FIRST}, 1, start=True)
    assert await run(rig, {"x": SECOND}, 1, start=True) == folded(rig, SECOND)
    assert await run(rig, {"x": THIRD}, 1) == folded(rig, SECOND, THIRD)
    assert len(rig.serving.sessions) == 1


async def test_start_may_change_the_batch_size(rig: Any) -> None:
    await run(rig, {"x": FIRST}, 1, start=True)
    three = np.arange(6).reshape(3, 1, 2)
    response = await rig.inference.ModelInfer(rig.infer("fold", {"x": three}, 1, start=True))
    assert (rig.outputs_of(response)["y"] == three).all()


async def test_start_waits_for_what_was_sent_before(make_rig: Any) -> None:
    """The old sequence's steps still see the old sequence."""
    rig = await make_rig(max_chunk=1)
    x = np.arange(1, 1001).reshape(1, 500, 2)
    requests = [
        rig.infer("fold", {"x": x}, 1, start=True),
        rig.infer("fold", {"x": FIRST}, 1),
        rig.infer("fold", {"x": SECOND}, 1, start=True),
        rig.infer("fold", {"x": THIRD}, 1),
    ]
    calls = [await rig.arrived(rig.inference.ModelInfer(request)) for request in requests[:2]]
    assert not calls[0].done()
    calls += [rig.inference.ModelInfer(requests[2])]
    await calls[2]  # the new sequence waits for nobody
    calls += [rig.inference.ModelInfer(requests[3])]
    answers = [rig.outputs_of(call)["y"][0, -1:].tolist() for call in await asyncio.gather(*calls)]
    expected = [(x,), (x, FIRST), (SECOND,), (SECOND, THIRD)]
    assert answers == [folded(rig, *frames) for frames in expected]
    assert len(rig.serving.sessions) == 1


async def test_start_and_end_in_one_request(rig: Any) -> None:
    assert await run(rig, {"x": FIRST}, 1, start=True, end=True) == folded(rig, FIRST)
    assert len(rig.serving.sessions) == 0
    call = rig.inference.ModelInfer(rig.infer("fold", {"x": FIRST}, 1))
    await rig.refused(call, grpc.StatusCode.INVALID_ARGUMENT)


async def test_requests_of_one_sequence_run_in_order_of_arrival(make_rig: Any) -> None:
    rig = await make_rig(max_chunk=1)
    x = np.arange(1, 2001).reshape(1, 1000, 2)
    frames = [x, *(np.array([[[n, n * n]]]) for n in range(15))]
    calls = []
    for n, frame in enumerate(frames):
        request = rig.infer("fold", {"x": frame}, 1, start=n == 0)
        calls.append(await rig.arrived(rig.inference.ModelInfer(request)))
    assert not calls[0].done(), "nobody has waited, so this test shows nothing"
    answers = [rig.outputs_of(answer)["y"][0, -1:] for answer in await asyncio.gather(*calls)]
    assert [a.tolist() for a in answers] == [folded(rig, *frames[: n + 1]) for n in range(16)]


async def test_many_sequences_share_batches_and_never_states(make_rig: Any) -> None:
    rig = await make_rig(hold="fold")
    rng = np.random.default_rng(0)
    frames = rng.integers(-1000, 1000, (20, 1, 12, 2))

    async def client(number: int) -> list[Any]:
        got = []
        for t in range(12):
            x = {"x": frames[number, :, t : t + 1]}
            got += await run(rig, x, number + 1, start=t == 0, end=t == 11)
        return got

    clients = [asyncio.ensure_future(client(number)) for number in range(20)]
    scheduler = rig.serving.model("fold").scheduler
    await rig.until(lambda: scheduler.pending == 20)
    rig.held["fold"].released.set()
    expected = [rig.fold(frames[number])[0].tolist() for number in range(20)]
    assert await asyncio.gather(*clients) == expected
    assert max(rig.serving.model("fold").statistics.batches) == 8
    assert len(rig.serving.sessions) == 0


async def test_several_rows_and_timesteps(rig: Any) -> None:
    x = np.arange(3 * 9 * 2).reshape(3, 9, 2)
    response = await rig.inference.ModelInfer(rig.infer("fold", {"x": x[:, :4]}, 1, start=True))
    assert (rig.outputs_of(response)["y"] == rig.fold(x)[:, :4]).all()
    response = await rig.inference.ModelInfer(rig.infer("fold", {"x": x[:, 4:]}, 1))
    assert (rig.outputs_of(response)["y"] == rig.fold(x)[:, 4:]).all()


async def test_a_sequence_of_a_model_without_states_is_none(rig: Any) -> None:
    x = {"x": np.float32([[1, 2]])}
    for options in ({}, {"sequence": 1}, {"sequence": 1, "end": True}):
        response = await rig.inference.ModelInfer(rig.infer("affine", x, **options))
        assert rig.outputs_of(response)["y"].tolist() == [[3, 5]]
    assert len(rig.serving.sessions) == 0


async def test_requests_without_state_share_batches(make_rig: Any) -> None:
    rig = await make_rig(hold="affine")
    requests = [
        rig.infer("affine", {"x": np.full((1 + n % 3, 2), n, np.float32)}, id=str(n))
        for n in range(13)
    ]
    calls = [await rig.arrived(rig.inference.ModelInfer(request), "affine") for request in requests]
    rig.held["affine"].released.set()
    for n, response in enumerate(await asyncio.gather(*calls)):
        assert response.id == str(n)
        assert rig.outputs_of(response)["y"].tolist() == [[2 * n + 1] * 2] * (1 + n % 3)
    # rows arrive as 1 (which runs at once) | 2 3 1 2 | 3 1 2 | 3 1 2 | 3 1, eight at a time
    statistics = rig.serving.model("affine").statistics
    sizes = {size: batch.compute_infer.count for size, batch in statistics.batches.items()}
    assert sizes == {1: 1, 8: 1, 6: 2, 4: 1}
    assert len(rig.serving.sessions) == 0


@pytest.mark.parametrize("length", [1, 5])
async def test_a_model_without_a_batch_axis(rig: Any, length: int) -> None:
    x = np.arange(1, length + 1)
    calls = [rig.inference.ModelInfer(rig.infer("whole", {"x": x + n})) for n in range(4)]
    for n, response in enumerate(await asyncio.gather(*calls)):
        assert rig.outputs_of(response)["total"] == (x + n).sum()
        assert list(response.outputs[0].shape) == [1]
    stats = rig.serving.model("whole").statistics
    assert (stats.inference_count, list(stats.batches)) == (4, [1])
    assert len(rig.serving.sessions) == 0


async def test_a_cancelled_request_has_not_happened(make_rig: Any) -> None:
    rig = await make_rig(max_chunk=1)
    await run(rig, {"x": FIRST}, 1, start=True)
    long = np.zeros((1, 100_000, 2), np.int64)
    call = rig.inference.ModelInfer(rig.infer("fold", {"x": long}, 1))
    await rig.arrived(call)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await run(rig, {"x": SECOND}, 1) == folded(rig, FIRST, SECOND)


@pytest.mark.parametrize("place", [0, 7], ids=["cancelled", "failing"])
async def test_what_waits_behind_a_start_in_vain(make_rig: Any, place: int) -> None:
    """Is answered as if it had come alone."""
    rig = await make_rig(hold="mixed")

    async def send(sequence: int, place: int, **flags: bool) -> Any:
        inputs = {"x": np.zeros((1, 2), np.float32), "place": np.array([place])}
        call = rig.inference.ModelInfer(rig.infer("mixed", inputs, sequence, **flags))
        return await rig.arrived(call, "mixed")

    calls = [
        await send(1, 0, start=True, end=True),  # runs, so that the others wait
        await send(2, place, start=True),
        await send(2, 0, end=True),
    ]
    if not place:
        calls[1].cancel()
        await rig.until(lambda: rig.serving.model("mixed").scheduler.pending == 1)
    rig.held["mixed"].released.set()
    *_, error = await asyncio.gather(*calls, return_exceptions=True)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details().startswith(
        "inference request for sequence 2 to model 'mixed' must specify the START flag on the "
        "first request of the sequence; the one that it waited behind"
    )
    assert len(rig.serving.sessions) == 0


async def test_a_cancelled_start_leaves_no_sequence(make_rig: Any) -> None:
    rig = await make_rig(max_chunk=1)
    long = np.zeros((1, 100_000, 2), np.int64)
    call = rig.inference.ModelInfer(rig.infer("fold", {"x": long}, 1, start=True))
    await rig.arrived(call)
    call.cancel()
    await rig.until(lambda: not len(rig.serving.sessions))
    follow = rig.inference.ModelInfer(rig.infer("fold", {"x": FIRST}, 1))
    await rig.refused(follow, grpc.StatusCode.INVALID_ARGUMENT)
