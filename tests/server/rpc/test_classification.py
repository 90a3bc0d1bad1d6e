"""The highest elements of an output as texts."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from server.rpc.classification import classify


def texts_of(content: bytes) -> list[str]:
    """The elements of a BYTES tensor."""
    found = []
    while content:
        (length,) = struct.unpack_from("<I", content)
        found.append(content[4 : 4 + length].decode())
        content = content[4 + length :]
    return found


def classes(row: Any, count: int, labels: tuple[str, ...] = (), dtype: Any = np.float32) -> Any:
    return texts_of(classify(np.array([row], dtype), count, labels))


def test_each_text_has_its_length_before_it() -> None:
    content = classify(np.array([[1, 10]], np.int32), 2, ("ä", ""))
    assert content == b"\x04\x00\x00\x0010:1\x06\x00\x00\x001:0:\xc3\xa4"


def test_the_highest_come_first() -> None:
    assert classes([1, 5, 10, 4], 2, dtype=np.int32) == ["10:2", "5:1"]
    assert classes([1, 5, 10, 4], 4, dtype=np.uint8) == ["10:2", "5:1", "4:3", "1:0"]


def test_of_equal_ones_the_first() -> None:
    assert classes([3, 7, 3, 7, 7, 3], 5, dtype=np.int64) == ["7:1", "7:3", "7:4", "3:0", "3:2"]


def test_every_row_for_itself() -> None:
    rows = np.array([[1, 2, 3], [6, 5, 4]], np.int16)
    assert texts_of(classify(rows, 2, ("a", "b"))) == ["3:2", "2:1:b", "6:0:a", "5:1:b"]


@pytest.mark.parametrize(
    ("dtype", "value", "text"),
    [
        (np.float32, 0.1, "0.100000"),
        (np.float32, 16777216.0, "16777216.000000"),
        (np.float64, -1.0000004, "-1.000000"),
        (np.float64, 1e21, "1000000000000000000000.000000"),
        (np.float16, 0.333, "0.333008"),
        (np.float32, np.inf, "inf"),
        (np.float32, -np.inf, "-inf"),
        (np.uint64, 2**64 - 1, "18446744073709551615"),
        (np.int64, -(2**63), "-9223372036854775808"),
        (np.int8, -128, "-128"),
    ],
)
def test_values_are_shown_as_other_servers_do(dtype: Any, value: Any, text: str) -> None:
    assert classes([value], 1, dtype=dtype) == [f"{text}:0"]


def test_large_unsigned_numbers_are_larger() -> None:
    assert classes([1, 2**64 - 1, 2**63], 3, dtype=np.uint64)[0] == "18446744073709551615:1"


def test_labels_of_some() -> None:
    labels = ("zero", "", "two")
    assert classes([1, 2, 3, 4], 4, labels, np.int32) == ["4:3", "3:2:two", "2:1", "1:0:zero"]


def test_what_is_no_number_is_seen() -> None:
    assert classes([1, np.nan, 2], 2) == ["nan:1", "2.000000:2"]
