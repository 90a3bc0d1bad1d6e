"""Many requests at once: of one sequence in the order in which they came, of many in any order."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.endtoend.triton_sequences.talk import SUMS, Answers, add, count, request, slow, stream

if TYPE_CHECKING:
    from collections.abc import Callable


def test_in_order_of_arrival(
    client: Any, sequence: int, many_turns: int, until_pending: Callable[[int], None]
) -> None:
    """Each is sent when the one before has certainly arrived, and none of them is done yet."""
    answers = Answers()
    for n in range(1, 9):
        sent = slow(sequence, "" if n > 1 else "start", 2 * many_turns if n == 1 else 1)
        client.async_infer(callback=answers.callback, request_id=str(n), **sent)
        until_pending(n)
    assert answers.empty, "nobody has waited, so this test shows nothing"
    results = [answers.next() for _ in range(8)]
    assert [(r.get_response().id, count(r)) for r in results] == [(str(n), n) for n in range(1, 9)]
    assert count(client.infer(**slow(sequence, "end"))) == 9


def test_bursts(client: Any, new_id: Callable[[], int]) -> None:
    """Each right behind the other, over one connection: they run in the order of sending."""
    rng = np.random.default_rng(5)
    add(client, 0, new_id(), "start end")  # what is sent before it is connected has no order
    for _ in range(40):
        answers, numbers, id = Answers(), rng.integers(-1000, 1000, 30).tolist(), new_id()
        for n, x in enumerate(numbers):
            flags = {0: "start", 29: "end"}.get(n, "")
            sent = request(SUMS, x, id, flags, request_id=str(n))
            client.async_infer(callback=answers.callback, **sent)
        results = [answers.next() for _ in numbers]
        assert not [one for one in results if isinstance(one, InferenceServerException)]
        sums = {int(one.get_response().id): one.as_numpy("sum").item() for one in results}
        assert [sums[n] for n in range(30)] == np.cumsum(numbers).tolist()


def test_sequences_that_follow_each_other(
    client: Any, sequence: int, many_turns: int, pending: Callable[[], float]
) -> None:
    """Under one id, with an END or without, while the first request still runs."""
    answers = Answers()
    flags = ["start", "", "end", "start", "", "start", "start end", "start", "end"]
    for n, flag in enumerate(flags):
        sent = slow(sequence, flag, turns=1 if n else 2 * many_turns)
        before = pending()
        client.async_infer(callback=answers.callback, request_id=str(n), **sent)
        while pending() == before:
            assert answers.empty, "nobody has waited, so this test shows nothing"
            time.sleep(0.005)
    results = {r.get_response().id: count(r) for r in (answers.next() for _ in flags)}
    assert [results[str(n)] for n in range(len(flags))] == [1, 2, 3, 1, 2, 1, 1, 1, 2]


@pytest.mark.parametrize("model", [SUMS, "sums_int32_alone", "direct", "oldest_full"])
def test_more_sequences_than_a_batch_holds(
    address: str, new_id: Callable[[], int], model: str
) -> None:
    """However many candidates or slots are configured: nobody waits for another sequence's end."""
    shape = (1,) if model.endswith("_alone") else (1, 1)
    ids = [new_id() for _ in range(40)]
    with stream(address) as (client, answers):
        for n in range(1, 6):
            for id in ids:
                x = np.full(shape, id * n, np.int32)
                client.async_stream_infer(**request(model, x, id, "" if n > 1 else "start"))
        expected = [id * n * (n + 1) // 2 for n in range(1, 6) for id in ids]
        assert answers.sums(5 * len(ids)) == expected
        for id in ids:
            client.async_stream_infer(**request(model, np.zeros(shape, np.int32), id, "end"))
        assert answers.sums(len(ids)) == [15 * id for id in ids]


def test_threads_with_sequences_of_their_own(address: str, new_id: Callable[[], int]) -> None:
    """Some over calls, some over streams of their own, all of them again and again."""

    def play(number: int, id: int | str) -> list[list[int]]:
        rng = np.random.default_rng(number)
        wrong = []
        with stream(address) as (client, answers):
            for _ in range(4):
                numbers = rng.integers(-1000, 1000, rng.integers(1, 20)).tolist()
                got = []
                for t, x in enumerate(numbers):
                    flags = ("start " if t == 0 else "") + ("end" if t == len(numbers) - 1 else "")
                    if number % 2:
                        got.append(add(client, x, id, flags))
                    else:
                        client.async_stream_infer(**request(SUMS, x, id, flags))
                got += [] if number % 2 else answers.sums(len(numbers))
                if got != np.cumsum(numbers).tolist():
                    wrong.append(got)
        return wrong

    ids: list[int | str] = [new_id() if n % 3 else f"thread {new_id()}" for n in range(24)]
    with ThreadPoolExecutor(len(ids)) as pool:
        assert list(pool.map(play, range(len(ids)), ids)) == [[]] * len(ids)


def test_one_sequence_over_several_connections(address: str, sequence: int) -> None:
    clients = [triton.InferenceServerClient(address) for _ in range(4)]
    try:
        for n in range(40):
            flags = {0: "start", 39: "end"}.get(n, "")
            assert add(clients[n % 4], 1, sequence, flags) == n + 1
    finally:
        for client in clients:
            client.close()


def test_one_sequence_over_several_connections_at_once(address: str, sequence: int) -> None:
    """In whichever order they arrive, each counts once."""
    go = threading.Barrier(6)
    clients = [triton.InferenceServerClient(address) for _ in range(6)]
    add(clients[0], 0, sequence, "start")

    def play(client: Any) -> list[int]:
        go.wait()
        return [add(client, 1, sequence) for _ in range(20)]

    try:
        with ThreadPoolExecutor(len(clients)) as pool:
            sums = list(pool.map(play, clients))
        assert all(own == sorted(own) for own in sums)
        assert sorted(chain.from_iterable(sums)) == list(range(1, 121))
        assert add(clients[0], 0, sequence, "end") == 120
    finally:
        for client in clients:
            client.close()
