"""The same by `tritonclient.grpc.aio`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from tests.endtoend.triton_sequences.talk import SUMS, no_start, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.asyncio


@pytest.fixture
async def own(address: str) -> AsyncIterator[Any]:
    async with triton_aio.InferenceServerClient(address) as client:
        yield client


async def add(client: Any, x: int, sequence: int | str, flags: str = "", **options: Any) -> Any:
    result = await client.infer(**request(SUMS, x, sequence, flags, **options))
    return result.as_numpy("sum").item()


async def test_a_sequence(own: Any, sequence: int) -> None:
    assert [await add(own, x, sequence, f) for x, f in ((1, "start"), (2, ""), (3, "end"))] == [
        1, 3, 6
    ]  # fmt: skip
    with pytest.raises(InferenceServerException) as caught:
        await add(own, 4, sequence)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert caught.value.message() == no_start(sequence)


async def test_sequences_beside_each_other(own: Any, new_id: Callable[[], int]) -> None:
    async def play(id: int | str, numbers: list[int]) -> list[int]:
        last = len(numbers) - 1
        flags = [{0: "start", last: "end"}.get(t, "") for t in range(len(numbers))]
        return [await add(own, x, id, flag) for x, flag in zip(numbers, flags, strict=True)]

    rng = np.random.default_rng(4)
    plays = [rng.integers(-99, 99, rng.integers(2, 16)).tolist() for _ in range(40)]
    ids: list[int | str] = [new_id() if n % 2 else f"aio {new_id()}" for n in range(40)]
    got = await asyncio.gather(*map(play, ids, plays))
    assert got == [np.cumsum(numbers).tolist() for numbers in plays]


async def test_a_stream(own: Any, new_id: Callable[[], int]) -> None:
    """Two sequences and what is refused between them, from one generator to one iterator."""
    one, other = new_id(), f"aio {new_id()}"
    sent = [
        (1, one, "start"), (10, other, "start"), (2, one, ""), (3, one, "end"), (4, one, ""),
        (20, other, ""), (30, other, "end"),
    ]  # fmt: skip

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number, (x, id, flags) in enumerate(sent):
            yield request(SUMS, x, id, flags, request_id=str(number))

    got: list[Any] = []
    async for result, error in own.stream_infer(requests()):
        got.append(error.message() if error else result.as_numpy("sum").item())
        assert error or result.get_response().id == str(len(got) - 1)
    assert got == [1, 10, 3, 6, no_start(one), 30, 60]


async def test_a_stream_as_a_conversation(own: Any, sequence: int) -> None:
    """The next request depends on the answer before."""
    answered: asyncio.Queue[int] = asyncio.Queue()

    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield request(SUMS, 1, sequence, "start")
        for t in range(5):
            yield request(SUMS, await answered.get(), sequence, "end" if t == 4 else "")

    sums = []
    async for result, error in own.stream_infer(requests()):
        assert error is None
        sums.append(result.as_numpy("sum").item())
        answered.put_nowait(sums[-1])
    assert sums == [1, 2, 4, 8, 16, 32]


async def test_errors_as_statuses(own: Any, sequence: int) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield request(SUMS, 1, sequence, "start")
        yield request(SUMS, 2, sequence + 10**6)
        await asyncio.Event().wait()  # what is sent to a stream that is over fails in the client

    answers = own.stream_infer(requests(), headers={"triton_grpc_error": "true"})
    result, error = await anext(answers)
    assert (result.as_numpy("sum").item(), error) == (1, None)
    with pytest.raises(grpc.aio.AioRpcError, match="must specify the START flag") as caught:
        await anext(answers)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await add(own, 4, sequence, "end") == 5
