"""Arrays to bytes and back: the dtypes of the wire, and which conversions are silent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The wire is little-endian whatever the machine is.
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}


def as_dtype(value: object, dtype: np.dtype[Any], what: str) -> NDArray[Any]:
    """`value` as an array of `dtype`, without a copy where it is one already.

    Converted where numpy calls the cast "same_kind" (float64 to float32, integers to floats) and
    between integer types; never a float to an integer, never a number to another number: what
    does not fit is a ValueError. `what` names the tensor in errors.

    Raises:
        TypeError: no such conversion.
        ValueError: not an array, or a value that `dtype` cannot hold.
    """
    if isinstance(value, np.ndarray) and value.dtype == dtype:
        return value
    try:
        array = np.asarray(value)
    except ValueError as error:  # lists of unequal lengths
        raise ValueError(f"{what}: not an array: {error}") from error
    return array if array.dtype == dtype else _convert(array, dtype, what)


def _convert(array: NDArray[Any], dtype: np.dtype[Any], what: str) -> NDArray[Any]:
    to_integer = dtype.kind in "iu"
    if not (
        np.can_cast(array.dtype, dtype, "same_kind") or (to_integer and array.dtype.kind in "iu")
    ):
        raise TypeError(f"{what}: expected {dtype.name}, given {array.dtype.name}")
    try:
        with np.errstate(over="raise"):
            converted = array.astype(dtype)
    except FloatingPointError:
        raise ValueError(f"{what}: a value is too large for {dtype.name}") from None
    if to_integer and not np.array_equal(converted, array):
        raise ValueError(f"{what}: a value does not fit into {dtype.name}")
    return converted
