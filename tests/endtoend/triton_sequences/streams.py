"""One stream: answers in the order of the requests, whoever they are for and whatever they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.endtoend.triton_sequences.talk import SUMS, Answers, add, no_start, request, slow, stream

if TYPE_CHECKING:
    from collections.abc import Callable


def test_sequences_interleaved(address: str, new_id: Callable[[], int]) -> None:
    rng = np.random.default_rng(3)
    ids: list[int | str] = [new_id() if n % 2 else f"stream {new_id()}" for n in range(10)]
    steps = [(id, t) for t in range(12) for id in rng.permutation(np.array(ids, object))]
    with stream(address) as (client, answers):
        for id, t in steps:
            flags = {0: "start", 11: "end"}.get(t, "")
            client.async_stream_infer(**request(SUMS, t + 1, id, flags, request_id=f"{id}/{t}"))
        results = [answers.next() for _ in steps]
    assert [result.get_response().id for result in results] == [f"{id}/{t}" for id, t in steps]
    expected = [(t + 1) * (t + 2) // 2 for _, t in steps]
    assert [result.as_numpy("sum").item() for result in results] == expected


def test_models_beside_each_other(address: str, new_id: Callable[[], int]) -> None:
    """A quick one does not overtake a slow one."""
    one, other = new_id(), new_id()
    with stream(address) as (client, answers):
        client.async_stream_infer(**slow(one, "start end", 100_000, request_id="slow"))
        client.async_stream_infer(**request(SUMS, 1, other, "start end", request_id="quick"))
        assert [answers.next().get_response().id for _ in range(2)] == ["slow", "quick"]


def test_begun_anew_without_waiting(address: str, sequence: int) -> None:
    """Everything is sent before the first answer is read."""
    flags = ["start", "", "start", "end", "start end", "start", "end"]
    with stream(address) as (client, answers):
        for x, flag in enumerate(flags, start=1):
            client.async_stream_infer(**request(SUMS, x, sequence, flag))
        assert answers.sums(len(flags)) == [1, 3, 3, 7, 5, 6, 13]


def test_after_an_end_that_still_waits(address: str, sequence: int) -> None:
    flags = ["start", "end", "", "end", "start", "end"]
    with stream(address) as (client, answers):
        for x, flag in enumerate(flags, start=1):
            client.async_stream_infer(**request(SUMS, x, sequence, flag))
        assert answers.sums(2) == [1, 3]
        for _ in range(2):
            assert answers.next().message().startswith(no_start(sequence))
        assert answers.sums(2) == [5, 11]


def test_half_closed_it_finishes_what_is_pending(address: str, sequence: int) -> None:
    with stream(address) as (client, answers):
        for n in range(200):
            client.async_stream_infer(**request(SUMS, 1, sequence, "" if n else "start"))
        client.stop_stream()  # returns when the last answer has come
        assert answers.sums(200) == list(range(1, 201))
        assert answers.empty
        assert add(client, 1, sequence, "end") == 201


def test_a_stream_that_is_never_used(address: str) -> None:
    with stream(address) as (client, answers):
        client.stop_stream()
        assert answers.empty


@pytest.mark.parametrize("id", ["", "7", "a/b c", "é☃", "x" * 1000])
def test_ids_come_back(address: str, sequence: int, id: str) -> None:
    with stream(address) as (client, answers):
        client.async_stream_infer(**request(SUMS, 1, sequence, "start", request_id=id))
        client.async_stream_infer(**request(SUMS, 1, sequence, "end", request_id=id))
        for _ in range(2):
            assert answers.next().get_response().id == id
        result = client.infer(**request(SUMS, 1, sequence, "start end", request_id=id))
        assert result.get_response().id == id


@pytest.mark.parametrize("asked", [False, True])
def test_one_answer_each_and_it_is_the_last(address: str, sequence: int, asked: bool) -> None:
    """Who asks for an empty last answer as well gets none: that is for models that answer often."""
    with stream(address) as (client, answers):
        for flags in ("start", "", "end"):
            sent = request(SUMS, 1, sequence, flags)
            client.async_stream_infer(**sent, enable_empty_final_response=asked)
        client.stop_stream()
        for total in (1, 2, 3):
            response = answers.next().get_response()
            assert response.parameters["triton_final_response"].bool_param
            assert len(response.outputs) == len(response.raw_output_contents) == 3
            assert triton.InferResult(response).as_numpy("sum").item() == total
        assert answers.empty


def test_outputs_as_each_request_asks_for_them(address: str, sequence: int) -> None:
    asked = [["id", "sum"], ["sum"], ["flags", "id", "sum"], []]
    with stream(address) as (client, answers):
        for n, names in enumerate(asked):
            outputs = [triton.InferRequestedOutput(name) for name in names] or None
            sent = request(SUMS, 1, sequence, {0: "start", 3: "end"}.get(n, ""))
            client.async_stream_infer(**sent, outputs=outputs)
        got = [[o.name for o in answers.next().get_response().outputs] for _ in asked]
    assert got == [*asked[:3], ["sum", "flags", "id"]]


def test_one_sequence_over_streams_and_calls(address: str, sequence: int) -> None:
    with stream(address) as (one, answers), stream(address) as (other, others):
        one.async_stream_infer(**request(SUMS, 1, sequence, "start"))
        assert answers.sums(1) == [1]
        other.async_stream_infer(**request(SUMS, 2, sequence))
        assert others.sums(1) == [3]
        assert add(one, 3, sequence) == 6
        one.async_stream_infer(**request(SUMS, 4, sequence, "end"))
        assert answers.sums(1) == [10]
        other.async_stream_infer(**request(SUMS, 5, sequence))
        assert others.next().message().startswith(no_start(sequence))


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed(address: str, sequence: int, algorithm: str) -> None:
    with stream(address, compression_algorithm=algorithm) as (client, answers):
        client.async_stream_infer(**request(SUMS, 1, sequence, "start"))
        assert answers.sums(1) == [1]
        assert add(client, 2, sequence, "end", compression_algorithm=algorithm) == 3


def test_errors_as_statuses_end_the_stream(address: str, client: Any, sequence: int) -> None:
    """With the header `triton_grpc_error`. What was sent before is answered before; what comes
    after is not done.
    """
    answers = Answers()
    with triton.InferenceServerClient(address) as own:
        own.start_stream(answers.callback, headers={"triton_grpc_error": "true"})
        own.async_stream_infer(**request(SUMS, 1, sequence, "start"))
        assert answers.sums(1) == [1]
        own.async_stream_infer(**request(SUMS, 2, sequence))
        own.async_stream_infer(**request(SUMS, 4, sequence + 10**6))
        assert answers.sums(1) == [3]
        error = answers.next()
        assert error.status() == "StatusCode.INVALID_ARGUMENT"
        assert error.message() == no_start(sequence + 10**6)
        with pytest.raises(InferenceServerException, match="no longer in valid state"):
            own.async_stream_infer(**request(SUMS, 8, sequence))
        own.stop_stream()
        own.start_stream(answers.callback, headers={"triton_grpc_error": "true"})
        own.async_stream_infer(**request(SUMS, 16, sequence))
        assert answers.sums(1) == [19]
    assert add(client, 0, sequence, "end") == 19


@pytest.mark.parametrize("headers", [{}, {"triton_grpc_error": "false"}])
def test_errors_as_answers_leave_it_open(
    address: str, sequence: int, headers: dict[str, str]
) -> None:
    answers = Answers()
    with triton.InferenceServerClient(address) as own:
        own.start_stream(answers.callback, headers=headers)
        own.async_stream_infer(**request(SUMS, 1, sequence))
        error = answers.next()
        assert (error.status(), error.message()) == (None, no_start(sequence))
        own.async_stream_infer(**request(SUMS, 2, sequence, "start end"))
        assert answers.sums(1) == [2]
