"""Sequences of several rows: a batch that begins, goes on and ends together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.endtoend.triton_sequences.talk import refusal, request

MODEL = "sums_int32"


def sums(client: Any, rows: list[int], sequence: int, flags: str = "") -> list[int]:
    x = np.array(rows, np.int32)[:, None]
    result: list[int] = client.infer(**request(MODEL, x, sequence, flags)).as_numpy("sum").tolist()
    return [number for [number] in result]


def test_rows_go_on_side_by_side(client: Any, sequence: int) -> None:
    assert sums(client, [1, 20, 300], sequence, "start") == [1, 20, 300]
    assert sums(client, [4, 5, 6], sequence) == [5, 25, 306]
    assert sums(client, [0, 0, 1], sequence, "end") == [5, 25, 307]


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_as_many_as_the_model_takes(client: Any, sequence: int, count: int) -> None:
    rows = list(range(count))
    assert sums(client, rows, sequence, "start") == rows
    assert sums(client, rows, sequence, "end") == [2 * row for row in rows]


@pytest.mark.parametrize("flags", ["", "end"])
@pytest.mark.parametrize("count", [1, 3])
def test_as_many_as_at_the_start(client: Any, sequence: int, count: int, flags: str) -> None:
    sums(client, [1, 2], sequence, "start")
    code, text = refusal(sums, client, [1] * count, sequence, flags)
    assert code == "INVALID_ARGUMENT"
    assert text == (
        f"sequence {sequence} to model '{MODEL}' has batch size 2 since its START, but this "
        f"request has {count}"
    )
    assert sums(client, [1, 2], sequence, "end") == [2, 4]


def test_a_new_start_may_have_another_number(client: Any, sequence: int) -> None:
    assert sums(client, [1, 2], sequence, "start") == [1, 2]
    assert sums(client, [3, 4, 5, 6], sequence, "start") == [3, 4, 5, 6]
    assert sums(client, [1] * 4, sequence) == [4, 5, 6, 7]
    assert sums(client, [9], sequence, "start end") == [9]


def test_more_than_the_model_takes(client: Any, sequence: int) -> None:
    sums(client, [5], sequence, "start")
    for flags in ("start", "start end"):
        code, text = refusal(sums, client, [1] * 9, sequence, flags)
        assert code == "INVALID_ARGUMENT"
        assert text.startswith(f"inference request batch-size must be <= 8 for '{MODEL}'")
    assert sums(client, [5], sequence, "end") == [10]


def test_a_model_without_a_batch_axis_has_one(client: Any, sequence: int) -> None:
    """Every axis that it has counts."""
    model = "sums_int32_alone"
    for shape in ((1, 1), (2,), ()):
        code, text = refusal(
            client.infer, **request(model, np.ones(shape, np.int32), sequence, "start end")
        )
        assert code == "INVALID_ARGUMENT"
        got = ",".join(map(str, shape))
        assert text.startswith(
            f"unexpected shape for input 'x' for model '{model}'. Expected [1], got [{got}]."
        )
