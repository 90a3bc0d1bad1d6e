"""What the inputs that are no states are for: data of each request, or the same for all of them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inspection import names
from inspection.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from inspection.reading import Model, Value

_FILE_SUFFIX = ".npy"
_SAMPLE_RATE = 16000
_MOST_AXES_OF_A_FLAG = 2
# The types that a START control may have, and the field of the configuration that says so.
START_TYPES = {
    np.dtype(np.int32): "int32_false_true",
    np.dtype(np.float32): "fp32_false_true",
    np.dtype(np.bool_): "bool_false_true",
}


@dataclass(frozen=True, slots=True)
class Constant:
    """An input that is the same for every request: `text` is a number, a list as JSON, or the path
    of a .npy file.
    """

    name: str
    text: str
    why: str

    @property
    def file(self) -> Path | None:
        """The file that holds the value."""
        return Path(self.text) if self.text.endswith(_FILE_SUFFIX) else None

    @property
    def configured(self) -> str:
        """The value as the configuration has it: a file by the name that it gets in the entry."""
        plain = re.sub(r"\W", "_", self.name)
        return self.text if self.file is None else f"{plain}{_FILE_SUFFIX}"

    def array(self, value: Value) -> NDArray[Any]:
        """The value in the input's own shape and type; an axis of any size has what it needs.

        Raises Refused.
        """
        assert value.dtype is not None
        try:
            found = self._read()
        except (ValueError, EOFError):
            raise self._no_value_for(value) from None
        except OSError as error:
            raise Refused(f"--constant {self.name}={self.text}: {error.strerror}") from None
        if found.dtype.kind not in "biuf":
            raise self._no_value_for(value)
        cast = found.astype(value.dtype)
        if value.dtype.kind != "f" and not np.array_equal(cast, found):
            raise self._no_value_for(value)
        shape = [dim if isinstance(dim, int) else -1 for dim in value.dims or ()]
        try:
            if cast.ndim == 0:
                return np.full([abs(size) for size in shape], cast)
            return cast.reshape(shape)
        except ValueError:
            raise self._no_value_for(value) from None

    def _read(self) -> NDArray[Any]:
        if self.file is not None:
            return np.asarray(np.load(self.file, allow_pickle=False))
        return np.asarray(json.loads(self.text))

    def _no_value_for(self, value: Value) -> Refused:
        return Refused(
            f"--constant {self.name}={self.text}: not a value for {value}; expected a number, a"
            f" list of numbers as JSON, or a {_FILE_SUFFIX} file"
        )


def constants(model: Model, states: set[str], chosen: Mapping[str, str]) -> tuple[Constant, ...]:
    """Those that somebody named (`chosen`: name → text), and those that can be guessed.

    Raises Refused at a name that is no such input.
    """
    inputs = {value.name: value for value in model.inputs if value.name not in states}
    for name in chosen:
        if name not in inputs:
            listed = ", ".join(inputs) or "none"
            raise Refused(f"--constant {name}: no such input beside the states; there is: {listed}")
    found = []
    for name, value in inputs.items():
        if name in chosen:
            found.append(Constant(name, chosen[name], "named on the command line"))
        elif is_single(value) and names.sounds_like_sample_rate(name):
            why = (
                "its name is a sample rate's; most speech models run at 16000,"
                f" the other common one is --constant {name}=8000"
            )
            found.append(Constant(name, str(_SAMPLE_RATE), why))
    return tuple(found)


def start_signal(model: Model, taken: set[str]) -> Value | None:
    """The input that says that a sequence begins, which the server can feed by itself.

    `taken` are inputs that are something else.
    """
    for value in model.inputs:
        dims = value.dims or ()
        flag = value.dtype in START_TYPES and len(dims) <= _MOST_AXES_OF_A_FLAG
        one_each = all(dim == 1 for dim in dims if isinstance(dim, int))
        if value.name not in taken and flag and one_each and names.sounds_like_start(value.name):
            return value
    return None


def is_single(value: Value) -> bool:
    """Whether the input is one number, of whatever rank."""
    return value.dims is not None and all(dim == 1 for dim in value.dims)


def is_scalar(value: Value) -> bool:
    """Whether it has rank 0: then it cannot differ from row to row of a batch."""
    return value.rank == 0


def is_lengths(value: Value) -> bool:
    """Whether the input says how long each row of the batch is."""
    whole = value.dtype is not None and value.dtype.kind in "iu"
    return whole and value.rank in (0, 1) and names.sounds_like_length(value.name)
