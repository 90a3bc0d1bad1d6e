"""What is refused: each with its code and its text, as the client sees them; and the live sequence
that it was meant for goes on as if nothing had been sent, whether END was set or not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton

from tests.endtoend.triton_sequences.talk import (
    SUMS,
    Answers,
    add,
    inputs_of,
    no_start,
    refusal,
    request,
    stream,
)

ONE = np.ones((1, 1), np.int32)


def of(shape: tuple[int, ...], datatype: str, size: int) -> Any:
    """An input as described, with so many bytes."""
    tensor = triton.InferInput("x", list(shape), datatype)
    tensor._raw_content = bytes(size)
    return tensor


# what differs from a good request to a live sequence; what comes of it
CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "another sequence, without START": (
        {"sequence_id": 10**9}, "INVALID_ARGUMENT", no_start(10**9),
    ),
    "a text instead of the number, without START": (
        {"sequence_id": "a text"}, "INVALID_ARGUMENT", no_start("a text"),
    ),
    "no sequence": (
        {"sequence_id": 0}, "INVALID_ARGUMENT",
        f"inference request to model '{SUMS}' must specify a non-zero or non-empty correlation ID",
    ),
    "type": (
        {"inputs": inputs_of(x=ONE.astype(np.float32))}, "INVALID_ARGUMENT",
        f"inference input 'x' data-type is 'FP32', but model '{SUMS}' expects 'INT32'",
    ),
    "type of the same size": (
        {"inputs": inputs_of(x=ONE.astype(np.uint32))}, "INVALID_ARGUMENT",
        f"inference input 'x' data-type is 'UINT32', but model '{SUMS}' expects 'INT32'",
    ),
    "texts instead of numbers": (
        {"inputs": inputs_of(x=np.array([["1"]], np.object_))}, "INVALID_ARGUMENT",
        f"inference input 'x' data-type is 'BYTES', but model '{SUMS}' expects 'INT32'",
    ),
    "shape": (
        {"inputs": inputs_of(x=np.ones((1, 2), np.int32))}, "INVALID_ARGUMENT",
        f"unexpected shape for input 'x' for model '{SUMS}'. Expected [-1,1], got [1,2].",
    ),
    "no batch axis": (
        {"inputs": inputs_of(x=np.ones(1, np.int32))}, "INVALID_ARGUMENT",
        f"unexpected shape for input 'x' for model '{SUMS}'. Expected [-1,1], got [1].",
    ),
    "an axis too many": (
        {"inputs": inputs_of(x=np.ones((1, 1, 1), np.int32))}, "INVALID_ARGUMENT",
        f"unexpected shape for input 'x' for model '{SUMS}'. Expected [-1,1], got [1,1,1].",
    ),
    "no rows": (
        {"inputs": inputs_of(x=np.ones((0, 1), np.int32))}, "INVALID_ARGUMENT",
        f"unexpected shape for input 'x' for model '{SUMS}'. Expected [-1,1], got [0,1].",
    ),
    "a negative axis": (
        {"inputs": [of((-1, 1), "INT32", 4)]}, "INVALID_ARGUMENT",
        f"unexpected shape for input 'x' for model '{SUMS}'. Expected [-1,1], got [-1,1].",
    ),
    "too few bytes": (
        {"inputs": [of((1, 1), "INT32", 3)]}, "INVALID_ARGUMENT",
        f"input byte size mismatch for input 'x' for model '{SUMS}'. Expected 4, got 3",
    ),
    "too many bytes": (
        {"inputs": [of((1, 1), "INT32", 8)]}, "INVALID_ARGUMENT",
        f"input byte size mismatch for input 'x' for model '{SUMS}'. Expected 4, got 8",
    ),
    "no input": (
        {"inputs": []}, "INVALID_ARGUMENT",
        f"expected 1 inputs but got 0 inputs for model '{SUMS}'. Got input(s) [], but missing "
        "required input(s) ['x']. Please provide all required input(s).",
    ),
    "another input": (
        {"inputs": inputs_of(y=ONE)}, "INVALID_ARGUMENT",
        f"unexpected inference input 'y' for model '{SUMS}'",
    ),
    "an input too many": (
        {"inputs": inputs_of(x=ONE, y=ONE)}, "INVALID_ARGUMENT",
        f"unexpected inference input 'y' for model '{SUMS}'",
    ),
    "an input twice": (
        {"inputs": inputs_of(x=ONE) * 2}, "INVALID_ARGUMENT",
        f"input 'x' for model '{SUMS}' is given twice",
    ),
    "output": (
        {"outputs": [triton.InferRequestedOutput("total_next")]}, "INVALID_ARGUMENT",
        f"unexpected inference output 'total_next' for model '{SUMS}'",
    ),
    "model": (
        {"model_name": "other"}, "NOT_FOUND", "Request for unknown model: 'other' is not found",
    ),
    "version": (
        {"model_version": "7"}, "NOT_FOUND",
        f"Request for unknown model: '{SUMS}' version 7 is not found",
    ),
    "no version": (
        {"model_version": "one"}, "INVALID_ARGUMENT",
        "model version must be a whole number, got 'one'",
    ),
    "a step of ours that is no number": (
        {"parameters": {"rnnserve_step": "one"}}, "INVALID_ARGUMENT",
        "invalid value type for 'rnnserve_step' parameter, expected int64_param",
    ),
    "a parameter of ours that there is not": (
        {"parameters": {"rnnserve_stap": 1}}, "UNIMPLEMENTED",
        "request parameter 'rnnserve_stap' is not offered by this server",
    ),
}  # fmt: skip


@pytest.mark.parametrize("flags", ["", "end"])
@pytest.mark.parametrize("case", CASES)
def test_a_refusal_changes_nothing(client: Any, sequence: int, case: str, flags: str) -> None:
    change, code, text = CASES[case]
    assert add(client, 5, sequence, "start") == 5
    got_code, got_text = refusal(client.infer, **request(SUMS, 1, sequence, flags) | change)
    assert (got_code, got_text[: len(text)]) == (code, text)
    assert add(client, 7, sequence, "end") == 12


def test_refusals_in_a_stream(address: str, client: Any, sequence: int) -> None:
    """Each is an answer in its place; the stream goes on, and so does the sequence."""
    add(client, 5, sequence, "start")
    with stream(address) as (streaming, answers):
        for change, _, _ in CASES.values():
            streaming.async_stream_infer(**request(SUMS, 1, sequence, "end") | change)
            streaming.async_stream_infer(**request(SUMS, 10, sequence))
        for count, (_, _, text) in enumerate(CASES.values(), start=1):
            assert answers.next().message().startswith(text)
            assert answers.sums(1) == [5 + 10 * count]
    assert add(client, 0, sequence, "end") == 5 + 10 * len(CASES)


@pytest.mark.parametrize(
    ("given", "missing"), [((), ("x", "y")), (("x",), ("y",)), (("y",), ("x",))]
)
def test_missing_inputs(
    client: Any, sequence: int, given: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    """In Triton's own spelling, which people have in their tests."""
    arrays = {name: np.float32([[1]]) for name in given}
    sent = request("two_inputs", 1, sequence, "start") | {"inputs": inputs_of(**arrays)}
    names = [",".join(f"'{name}'" for name in names) for names in (given, missing)]
    assert refusal(client.infer, **sent) == (
        "INVALID_ARGUMENT",
        f"expected 2 inputs but got {len(given)} inputs for model 'two_inputs'. Got input(s) "
        f"[{names[0]}], but missing required input(s) [{names[1]}]. Please provide all required "
        "input(s).",
    )


def test_inputs_that_do_not_fit_together(client: Any, sequence: int) -> None:
    arrays = {"x": np.ones((1, 1), np.float32), "y": np.ones((2, 1), np.float32)}
    sent = request("two_inputs", 1, sequence, "start") | {"inputs": inputs_of(**arrays)}
    code, text = refusal(client.infer, **sent)
    assert code == "INVALID_ARGUMENT"
    assert text.startswith("input 'y' batch size does not match other inputs for 'two_inputs'")


def test_parameters_that_mean_something_to_others_are_let_through(
    client: Any, sequence: int
) -> None:
    """Clients may tell a model's backend what they like."""
    own = {"trace_tag": "abc", "temperature": 0.5, "seed": 7, "verbose": True}
    options = {"parameters": own, "priority": 1, "timeout": 10_000_000}
    assert add(client, 5, sequence, "start", **options) == 5
    assert add(client, 7, sequence, "end", **options) == 12


def test_calls_of_a_thousand_errors_leave_nothing(address: str, sequence: int) -> None:
    answers = Answers()
    with triton.InferenceServerClient(address) as client:
        for n in range(300):
            client.async_infer(callback=answers.callback, **request(SUMS, 1, sequence + 10**6 + n))
        texts = {answers.next().message() for _ in range(300)}
    assert texts == {no_start(sequence + 10**6 + n) for n in range(300)}
