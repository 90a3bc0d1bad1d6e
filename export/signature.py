"""What a caller of the exported graph sees: inputs, outputs and states, with their shapes.

Both the graph's own inputs and outputs and config.pbtxt are made from it, so they cannot differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from export.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from export.graph import Dims

BATCH, TIME = "batch", "time"
_NAME = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the graph. `shape` counts the batch axis; a str is a size that may vary.

    `time_axis` counts timesteps, None where the tensor has none. `constant`: given when a session
    begins. `optional`: a mask, all true where a request leaves it out.
    """

    name: str
    dtype: str  # numpy's name
    shape: Dims
    time_axis: int | None = None
    constant: bool = False
    optional: bool = False

    def sized(self, time: int) -> tuple[int, ...]:
        """The shape of one row, without the batch axis, at so many timesteps."""
        return tuple(
            time if axis == self.time_axis else int(size)
            for axis, size in enumerate(self.shape)
            if axis > 0
        )


DTYPES = frozenset(
    {"bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"}
)


@dataclass(frozen=True, slots=True)
class State:
    """A state of the graph, zero at the start of a session; `shape` counts the batch axis."""

    name: str
    output: str  # the graph's output that holds it after the last timestep
    shape: Dims
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class Signature:
    """The exported step `(inputs, states) → (outputs, states)`.

    `may_be_cut`: a request of several timesteps gives the same if it runs in several pieces.

    Raises:
        ExportError: a name occurs twice, or has characters that a served model cannot use.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    states: tuple[State, ...]
    may_be_cut: bool

    def __post_init__(self) -> None:
        names = list(self._names())
        for name in names:
            if not _NAME.fullmatch(name):
                raise ExportError(f"tensor name {name!r}: use letters, digits, '_', '-' and '.'")
            if names.count(name) > 1:
                raise ExportError(
                    f"two tensors of the model are called {name!r}: rename the input, "
                    "the output or a layer"
                )

    def _names(self) -> Iterator[str]:
        yield from (tensor.name for tensor in (*self.inputs, *self.outputs))
        for state in self.states:
            yield state.name
            yield state.output

    @property
    def has_time(self) -> bool:
        """Whether any input counts timesteps."""
        return any(tensor.time_axis is not None for tensor in self.inputs)
