"""Numbers, lists and files as arrays of an input's own type: exactly, or not at all."""

from __future__ import annotations

import json
import math
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from server.repository.problem import Problem

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from server.datatypes import Datatype
    from server.repository.tensors import Shape

FILE_SUFFIX = ".npy"
_NUMBER_KINDS = "biuf"
_SHOWN = 60  # characters of a text that a message repeats


def parse_value(text: str, label: str, datatype: Datatype, directory: Path) -> NDArray[Any]:
    """`text` as an array of `datatype`: a number or a list, as in JSON, or the name of a .npy file
    in `directory`. Raises Problem, which begins with `label`.
    """
    if text.endswith(FILE_SUFFIX):
        return _exact(_read(text, label, directory), label, text, datatype)
    array = _from_json(text)
    if array is None:
        raise Problem(
            f"{label}: {_shown(text)}; expected a number, true, false, a list of them such as"
            f" [[1, 2], [3, 4]], or the name of a {FILE_SUFFIX} file in {directory.name}/"
        )
    return _exact(array, label, text, datatype)


def parse_number(text: str, label: str, datatype: Datatype) -> NDArray[Any]:
    """`text` as a scalar array of `datatype`. Raises Problem, which begins with `label`."""
    array = _from_json(text)
    if array is None or array.ndim:
        raise Problem(f"{label}: {_shown(text)}; expected a number, true or false")
    return _exact(array, label, text, datatype)


def read_raw(
    directory: Path,
    name: str,
    label: str,
    datatype: Datatype,
    shape: Shape,
    *,
    may_be_longer: bool = False,
) -> NDArray[Any]:
    """The elements in the file `name` of `directory`: little endian, row-major and nothing else.
    Raises Problem, which begins with `label`.
    """
    path = _file(directory, name, label)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Problem(f"{label} {path}: {error.strerror}") from None
    dtype, elements = datatype.dtype.newbyteorder("<"), math.prod(shape)
    expected = elements * dtype.itemsize
    if len(data) < expected or (len(data) > expected and not may_be_longer):
        of = f"{datatype.name} {list(shape)}"
        raise Problem(f"{label} {path}: {len(data)} bytes; expected {expected} for {of}")
    if dtype.kind == "b":
        dtype = np.dtype(np.uint8)  # any byte other than 0 is true
    return np.frombuffer(data, dtype, elements).reshape(shape).astype(datatype.dtype)


def _file(directory: Path, name: str, label: str) -> Path:
    if PurePath(name).name != name:
        raise Problem(f"{label} {name!r}; expected a file in {directory.name}/")
    return directory / name


def _from_json(text: str) -> NDArray[Any] | None:
    try:
        array = np.array(json.loads(text))
    except (ValueError, RecursionError):  # not JSON, or a list whose rows differ in length
        return None
    return array if array.dtype.kind in _NUMBER_KINDS else None


def _read(name: str, label: str, directory: Path) -> NDArray[Any]:
    path = _file(directory, name, f"{label}:")
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise Problem(f"{label}: {path}: {error.strerror or error}") from None
    except (ValueError, EOFError, MemoryError):
        array = None
    if array is None or array.dtype.kind not in _NUMBER_KINDS:
        raise Problem(f"{label}: {path}: expected an array of numbers, as numpy.save has")
    return array


def _exact(array: NDArray[Any], label: str, text: str, datatype: Datatype) -> NDArray[Any]:
    """`array` as `datatype`. Fractions may be rounded to the nearest number that it has, everything
    else must come through as it is: 0.1 is good for FP32, 16000.5 for no INT64.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        cast = array.astype(datatype.dtype)
    fractions = array.dtype.kind == cast.dtype.kind == "f"
    same = np.isfinite(array) == np.isfinite(cast) if fractions else _equal(cast, array)
    if not same.all():
        wrong = array[~same].flat[0]
        raise Problem(f"{label}: {_shown(text)}: {wrong} is no {datatype.name}")
    cast.flags.writeable = False
    return cast


def _equal(cast: NDArray[Any], array: NDArray[Any]) -> NDArray[np.bool_]:
    """Element by element, as Python's numbers, which know no rounding: an int64 and a float64 would
    be compared as float64.
    """
    pairs = zip(cast.ravel().tolist(), array.ravel().tolist(), strict=True)
    return np.array([one == other for one, other in pairs], np.bool_).reshape(array.shape)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …")
