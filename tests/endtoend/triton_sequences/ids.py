"""What a sequence may be called, and who shares a name with whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.endtoend.triton_sequences.talk import add, no_start, refusal, request

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    "name",
    [2**63 - 1, -1, -(2**63), "a", "0", " ", "a sequence / 1", "☃" * 42, "x" * 128, "x" * 256],
)
def test_a_name(client: Any, name: int | str) -> None:
    assert [add(client, x, name, f) for x, f in ((1, "start"), (2, ""), (3, "end"))] == [1, 3, 6]
    assert refusal(add, client, 1, name) == ("INVALID_ARGUMENT", no_start(name))


@pytest.mark.parametrize("name", [2**63, 2**64 - 1])
def test_numbers_that_the_client_cannot_send(client: Any, name: int) -> None:
    """They have 64 bits on the wire, one of them for the sign."""
    with pytest.raises(ValueError, match="out of range"):
        add(client, 1, name, "start")


def test_too_long_a_name(client: Any) -> None:
    text = "sequence_id: expected at most 256 bytes"
    assert refusal(add, client, 1, "x" * 257, "start") == ("INVALID_ARGUMENT", text)
    assert refusal(add, client, 1, "☃" * 86, "start") == ("INVALID_ARGUMENT", text)


def test_digits_are_no_number(client: Any, sequence: int) -> None:
    """Nor are two spellings one name."""
    names = [sequence, str(sequence), f"0{sequence}", f" {sequence}"]
    for place, name in enumerate(names, start=1):
        assert add(client, place, name, "start") == place
    for place, name in enumerate(names, start=1):
        assert add(client, 10, name, "end") == place + 10


def test_names_are_the_model_s_own(client: Any, sequence: int) -> None:
    add(client, 1, sequence, "start", model="direct")
    assert refusal(add, client, 1, sequence, model="oldest")[1] == no_start(sequence, "oldest")
    add(client, 100, sequence, "start", model="oldest")
    assert add(client, 1, sequence, "end", model="direct") == 2
    assert add(client, 1, sequence, "end", model="oldest") == 101


def test_names_are_the_version_s_own(client: Any, sequence: int) -> None:
    """Without a version it is the latest one, under whichever name it was begun."""

    def step(version: str, flags: str = "") -> Any:
        return add(client, 1, sequence, flags, model="versions", model_version=version)

    assert step("1", "start") == 1
    assert refusal(step, "2")[1] == no_start(sequence, "versions")
    assert step("", "start") == 100
    assert step("2") == 200
    assert step("1", "end") == 2
    assert step("", "end") == 300
    result = client.infer(**request("versions", 1, sequence, "start end"))
    assert result.get_response().model_version == "2"


@pytest.mark.parametrize(
    ("model", "sent", "told"),
    [
        ("sums_int32", 2**63 - 1, 2**63 - 1),  # UINT64
        ("sums_int32", -1, 2**64 - 1),
        ("sums_fp32", -5, -5),  # INT64
        ("sums_bool", 2**32 - 1, 2**32 - 1),  # UINT32
        ("sums_bool", 2**40 + 9, 9),  # the low bits
        ("sums_int64", 2**31 - 1, 2**31 - 1),  # INT32
    ],
)
def test_the_model_is_told_the_number(client: Any, model: str, sent: int, told: int) -> None:
    dtype = {"sums_fp32": np.float32, "sums_int64": np.int64}.get(model, np.int32)
    result = client.infer(**request(model, np.ones((1, 1), dtype), sent, "start end"))
    assert int(result.as_numpy("id").item()) == told


def test_the_model_is_told_a_number_for_a_text(client: Any) -> None:
    """Always the same one for the same text, and none that a client would choose by itself."""

    def told(name: str, flags: str) -> int:
        result = client.infer(**request("sums_int32", 1, name, flags))
        return int(result.as_numpy("id").item())

    numbers = [told("one text", flags) for flags in ("start", "", "end", "start end")]
    assert len(set(numbers)) == 1
    assert 2**40 < numbers[0] < 2**63
    assert told("another text", "start end") not in numbers
    assert told("7", "start end") != 7


def test_many_names_at_once(client: Any, new_id: Callable[[], int]) -> None:
    names = [new_id() if n % 2 else f"name {new_id()}" for n in range(60)]
    for place, name in enumerate(names):
        assert add(client, place, name, "start") == place
    for place, name in reversed(list(enumerate(names))):
        assert add(client, 1000, name, "end") == place + 1000
