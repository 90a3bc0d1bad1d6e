"""Requests that say which they are: made once, however often they are sent."""

from __future__ import annotations

from typing import Any

import pytest

from tests.endtoend.triton_sequences.talk import SUMS, add, no_start, refusal, request, stream


def step(client: Any, number: int, x: int, sequence: int | str, flags: str = "") -> Any:
    return add(client, x, sequence, flags, parameters={"rnnserve_step": number})


@pytest.mark.parametrize("text", [False, True])
def test_sent_again(client: Any, sequence: int, text: bool) -> None:
    name: int | str = f"once {sequence}" if text else sequence
    for _ in range(3):
        assert step(client, 1, 5, name, "start") == 5
    for _ in range(3):
        assert step(client, 2, 7, name) == 12
    for _ in range(3):
        assert step(client, 3, 9, name, "end") == 21
    assert refusal(add, client, 1, name)[1].startswith(no_start(name))


def test_a_gap(client: Any, sequence: int) -> None:
    step(client, 1, 5, sequence, "start")
    code, text = refusal(step, client, 3, 7, sequence)
    assert code == "FAILED_PRECONDITION"
    assert "2" in text
    assert step(client, 2, 7, sequence, "end") == 12


def test_another_request_under_the_same_number(client: Any, sequence: int) -> None:
    step(client, 1, 5, sequence, "start")
    assert step(client, 2, 7, sequence) == 12
    assert refusal(step, client, 2, 8, sequence)[0] == "FAILED_PRECONDITION"
    assert step(client, 3, 0, sequence, "end") == 12


def test_in_a_stream(address: str, sequence: int) -> None:
    sent = [(1, 5, "start"), (1, 5, "start"), (2, 7, ""), (2, 7, ""), (3, 1, "end"), (3, 1, "end")]
    with stream(address) as (client, answers):
        for number, x, flags in sent:
            parameters = {"rnnserve_step": number}
            client.async_stream_infer(**request(SUMS, x, sequence, flags, parameters=parameters))
        assert answers.sums(len(sent)) == [5, 5, 12, 12, 13, 13]


def test_a_start_that_is_another_begins_anew(client: Any, sequence: int) -> None:
    assert step(client, 1, 5, sequence, "start") == 5
    assert step(client, 1, 6, sequence, "start") == 6
    assert step(client, 2, 1, sequence, "end") == 7


def test_with_the_states_of_another(client: Any, sequence: int) -> None:
    """A sequence that begins where another one stands, which goes on unharmed."""
    other = f"of {sequence}"
    add(client, 40, sequence, "start")
    parameters = {"rnnserve_states_of": f"{SUMS}/{sequence}"}
    assert add(client, 2, other, "start", parameters=parameters) == 42
    assert add(client, 1, sequence, "end") == 41
    assert add(client, 1, other, "end") == 43
    code, _ = refusal(add, client, 2, other, "start", parameters=parameters)
    assert code == "NOT_FOUND"
