"""Where a sequence begins and where it ends: START and END, alone, together, missing, too early."""

from __future__ import annotations

from typing import Any

import pytest

from tests.endtoend.triton_sequences.talk import SUMS, add, no_start, refusal, request

NO_ID = f"inference request to model '{SUMS}' must specify a non-zero or non-empty correlation ID"


def test_a_sequence_from_start_to_end(client: Any, sequence: int) -> None:
    flags = ["start", *[""] * 7, "end"]
    sums = [add(client, x, sequence, flag) for x, flag in enumerate(flags, start=1)]
    assert sums == [1, 3, 6, 10, 15, 21, 28, 36, 45]


def test_a_sequence_of_one_request(client: Any, sequence: int) -> None:
    assert add(client, 42, sequence, "start end") == 42
    assert refusal(add, client, 1, sequence) == ("INVALID_ARGUMENT", no_start(sequence))
    assert add(client, 43, sequence, "start end") == 43


def test_a_sequence_without_start(client: Any, sequence: int) -> None:
    for flags in ("", "end"):
        assert refusal(add, client, 1, sequence, flags) == ("INVALID_ARGUMENT", no_start(sequence))
    assert add(client, 5, sequence, "start end") == 5


def test_nothing_goes_on_after_the_end(client: Any, sequence: int) -> None:
    assert [add(client, x, sequence, f) for x, f in ((1, "start"), (2, ""), (3, "end"))] == [
        1,
        3,
        6,
    ]
    for flags in ("", "end"):
        assert refusal(add, client, 55, sequence, flags)[1].startswith(no_start(sequence))


def test_the_same_id_begins_again_after_the_end(client: Any, sequence: int) -> None:
    for offset in (0, 100):
        assert add(client, offset + 1, sequence, "start") == offset + 1
        assert add(client, 1, sequence, "end") == offset + 2


def test_start_on_a_live_sequence_begins_anew(client: Any, sequence: int) -> None:
    steps = ((1, "start"), (2, ""), (42, "start"), (9, "end"))
    assert [add(client, x, sequence, flags) for x, flags in steps] == [1, 3, 42, 51]


def test_start_and_end_on_a_live_sequence(client: Any, sequence: int) -> None:
    """The one that was there is over, too."""
    assert add(client, 1, sequence, "start") == 1
    assert add(client, 7, sequence, "start end") == 7
    assert refusal(add, client, 1, sequence)[1].startswith(no_start(sequence))


def test_starting_over_and_over(client: Any, sequence: int) -> None:
    for n in range(20):
        assert add(client, n, sequence, "start") == n
        assert add(client, 1, sequence, "end" if n == 19 else "") == n + 1


def test_a_refused_end_ends_nothing(client: Any, sequence: int) -> None:
    """A request that is refused is as if it had never been sent."""
    assert add(client, 1, sequence, "start") == 1
    wrong = request(SUMS, 1, sequence, "end") | {"outputs": [_output("other")]}
    assert refusal(client.infer, **wrong)[0] == "INVALID_ARGUMENT"
    assert add(client, 2, sequence, "end") == 3


def test_a_refused_start_begins_nothing(client: Any, sequence: int) -> None:
    wrong = request(SUMS, 1, sequence, "start") | {"outputs": [_output("other")]}
    assert refusal(client.infer, **wrong)[0] == "INVALID_ARGUMENT"
    assert refusal(add, client, 1, sequence) == ("INVALID_ARGUMENT", no_start(sequence))


def test_a_refused_restart_leaves_the_live_sequence(client: Any, sequence: int) -> None:
    assert add(client, 1, sequence, "start") == 1
    wrong = request(SUMS, 1, sequence, "start") | {"outputs": [_output("other")]}
    assert refusal(client.infer, **wrong)[0] == "INVALID_ARGUMENT"
    assert add(client, 2, sequence, "end") == 3


@pytest.mark.parametrize("sequence_id", [0, ""])
@pytest.mark.parametrize("flags", ["", "start", "start end"])
def test_no_id(client: Any, sequence_id: int | str, flags: str) -> None:
    assert refusal(add, client, 1, sequence_id, flags) == ("INVALID_ARGUMENT", NO_ID)


@pytest.mark.parametrize(
    "model", ["sums_int32_alone", "direct", "direct_full", "oldest", "oldest_full"]
)
def test_however_it_is_configured(client: Any, sequence: int, model: str) -> None:
    def step(x: int, flags: str) -> Any:
        sent = request(model, x, sequence, flags)
        if model.endswith("_alone"):
            sent["inputs"][0].set_shape([1])
        return client.infer(**sent).as_numpy("sum").item()

    assert [step(x, f) for x, f in ((1, "start"), (2, ""), (3, "end"))] == [1, 3, 6]
    assert refusal(step, 1, "") == ("INVALID_ARGUMENT", no_start(sequence, model))
    assert [step(x, f) for x, f in ((4, "start"), (5, "start"), (6, "end"))] == [4, 5, 11]


def test_a_model_that_is_no_sequence_model(client: Any, sequence: int) -> None:
    """Whoever sends an id all the same is served."""
    for number, flags in ((0, ""), (sequence, ""), (sequence, "start"), (sequence, "end")):
        sent = request("plain", one_float(3), number, flags)
        assert client.infer(**sent).as_numpy("y").item() == 6


def test_a_sequence_model_whose_state_the_client_keeps(client: Any, sequence: int) -> None:
    """`sequence_batching {}` alone: the rules hold, although nothing is kept."""

    def step(number: int, flags: str = "") -> Any:
        return client.infer(**request("kept_by_client", one_float(3), number, flags)).as_numpy("y")

    text = "inference request to model 'kept_by_client' must specify a non-zero or non-empty"
    assert refusal(step, 0)[1].startswith(text)
    assert refusal(step, sequence)[1].startswith(no_start(sequence, "kept_by_client"))
    assert [step(sequence, flags).item() for flags in ("start", "", "end")] == [6, 6, 6]
    assert refusal(step, sequence)[1].startswith(no_start(sequence, "kept_by_client"))


def _output(name: str) -> Any:
    import tritonclient.grpc as triton

    return triton.InferRequestedOutput(name)


def one_float(x: float) -> Any:
    import numpy as np

    return np.array([[x]], np.float32)
