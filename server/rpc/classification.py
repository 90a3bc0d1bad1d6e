"""The classification extension: instead of an output its highest elements, as texts
`VALUE:INDEX[:LABEL]` of type BYTES, each as its length (4 bytes, little-endian) and itself.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


def classify(rows: NDArray[Any], count: int, labels: Sequence[str]) -> bytes:
    """The `count` highest elements of each row of `(rows, elements)`, highest first; of equal ones
    the first. Nothing is higher than NaN.
    """
    return b"".join(
        struct.pack("<I", len(text)) + text for row in rows for text in _texts(row, count, labels)
    )


def _texts(row: NDArray[Any], count: int, labels: Sequence[str]) -> Iterator[bytes]:
    backwards = np.argsort(row[::-1], kind="stable")[::-1][:count]
    for index in (len(row) - 1 - backwards).tolist():
        label = labels[index] if index < len(labels) else ""
        yield f"{_shown(row[index])}:{index}{label and ':' + label}".encode()


def _shown(value: Any) -> str:
    """As C++'s `to_string` writes it."""
    return f"{value:f}" if value.dtype.kind == "f" else str(value)
