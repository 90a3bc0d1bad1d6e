"""Requests that nobody waits for any more: a step that has not begun is withdrawn, and its sequence
is as it was; one that runs is finished and counts.

"slow" runs one request at a time and counts those of each sequence. While one takes long, the
others wait.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio

from tests.endtoend.triton_sequences.talk import (
    Answers,
    count,
    no_start,
    refusal,
    slow,
    stream,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Busy = Callable[[], Any]
    UntilPending = Callable[[int], None]


@pytest.mark.parametrize("flags", ["", "end"])
def test_a_deadline(
    client: Any, sequence: int, busy: Busy, until_pending: UntilPending, flags: str
) -> None:
    assert count(client.infer(**slow(sequence, "start"))) == 1
    busy()
    code, text = refusal(client.infer, **slow(sequence, flags), client_timeout=0.1)
    assert code == "DEADLINE_EXCEEDED"
    assert "Deadline Exceeded" in text
    until_pending(1)
    assert count(client.infer(**slow(sequence, "end"))) == 2


def test_a_call_that_is_cancelled(
    client: Any, sequence: int, busy: Busy, until_pending: UntilPending
) -> None:
    """Those of the same sequence before and behind it run as if it had not been."""
    assert count(client.infer(**slow(sequence, "start"))) == 1
    busy()
    answers = [Answers() for _ in range(3)]
    calls = []
    for n in range(3):
        calls.append(client.async_infer(callback=answers[n].callback, **slow(sequence)))
        until_pending(n + 2)
    calls[1].cancel()
    error = answers[1].next()
    assert error.status() == "StatusCode.CANCELLED"
    assert error.message() == "Locally cancelled by application!"
    assert [count(answers[n].next()) for n in (0, 2)] == [2, 3]
    assert count(client.infer(**slow(sequence, "end"))) == 4


def test_a_start_that_is_cancelled(
    client: Any, sequence: int, busy: Busy, until_pending: UntilPending
) -> None:
    busy()
    answers = Answers()
    call = client.async_infer(callback=answers.callback, **slow(sequence, "start"))
    until_pending(2)
    call.cancel()
    until_pending(1)
    assert answers.next().status() == "StatusCode.CANCELLED"
    assert refusal(client.infer, **slow(sequence))[1].startswith(no_start(sequence, "slow"))


def test_what_waits_behind_a_start_that_is_cancelled(
    client: Any, sequence: int, busy: Busy, until_pending: UntilPending
) -> None:
    """Is told that there is none, as if it had come alone."""
    busy()
    answers = [Answers() for _ in range(3)]
    calls = []
    for n in range(3):
        sent = slow(sequence, "" if n else "start")
        calls.append(client.async_infer(callback=answers[n].callback, **sent))
        until_pending(n + 2)
    calls[0].cancel()
    for n in (1, 2):
        error = answers[n].next()
        assert error.status() == "StatusCode.INVALID_ARGUMENT"
        assert error.message().startswith(no_start(sequence, "slow"))
    assert count(client.infer(**slow(sequence, "start end"))) == 1


def test_what_runs_is_finished(
    client: Any, sequence: int, many_turns: int, until_pending: UntilPending
) -> None:
    assert count(client.infer(**slow(sequence, "start"))) == 1
    sent = slow(sequence, turns=many_turns)
    assert refusal(client.infer, **sent, client_timeout=0.4)[0] == "DEADLINE_EXCEEDED"
    until_pending(0)
    assert count(client.infer(**slow(sequence, "end"))) == 3


def test_a_stream_that_is_cancelled(
    address: str,
    client: Any,
    new_id: Callable[[], int],
    busy: Busy,
    until_pending: UntilPending,
) -> None:
    """With everything that waits in it; the sequences live on."""
    ids = [new_id(), new_id()]
    with stream(address) as (own, answers):
        for id in ids:
            own.async_stream_infer(**slow(id, "start"))
        assert [count(answers.next()) for _ in ids] == [1, 1]
        busy()
        for _ in range(5):
            for id in ids:
                own.async_stream_infer(**slow(id))
        until_pending(11)
        own.stop_stream(cancel_requests=True)
        error = answers.next()
        assert error.status() == "StatusCode.CANCELLED"
        assert answers.empty
        until_pending(1)
        own.start_stream(answers.callback)
        for id in ids:
            own.async_stream_infer(**slow(id, "end"))
        assert [count(answers.next()) for _ in ids] == [2, 2]


def test_a_stream_past_its_deadline(
    address: str,
    client: Any,
    sequence: int,
    busy: Busy,
    until_pending: UntilPending,
) -> None:
    assert count(client.infer(**slow(sequence, "start"))) == 1
    busy()
    with stream(address, stream_timeout=0.1) as (own, answers):
        own.async_stream_infer(**slow(sequence))
        error = answers.next()
        assert error.status() == "StatusCode.DEADLINE_EXCEEDED"
        assert "Deadline Exceeded" in error.message()
    until_pending(1)
    assert count(client.infer(**slow(sequence, "end"))) == 2


def test_a_client_that_goes_away(
    address: str,
    client: Any,
    sequence: int,
    busy: Busy,
    until_pending: UntilPending,
) -> None:
    assert count(client.infer(**slow(sequence, "start"))) == 1
    busy()
    other = triton.InferenceServerClient(address)
    answers = Answers()
    for n in range(3):
        other.async_infer(callback=answers.callback, **slow(sequence))
        until_pending(n + 2)
    other.close()
    until_pending(1)
    assert count(client.infer(**slow(sequence, "end"))) == 2


def test_tasks_and_streams_of_asyncio(
    address: str,
    client: Any,
    sequence: int,
    busy: Busy,
    until_pending: UntilPending,
) -> None:
    assert count(client.infer(**slow(sequence, "start"))) == 1
    busy()

    async def run() -> None:
        async with triton_aio.InferenceServerClient(address) as own:
            task = asyncio.create_task(own.infer(**slow(sequence)))
            await asyncio.to_thread(until_pending, 2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(until_pending, 1)

            async def requests() -> Any:
                yield slow(sequence)

            answers = own.stream_infer(requests())
            reading = asyncio.create_task(anext(answers))
            await asyncio.to_thread(until_pending, 2)
            assert answers.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await asyncio.to_thread(until_pending, 1)

    asyncio.run(run())
    assert count(client.infer(**slow(sequence, "end"))) == 2
