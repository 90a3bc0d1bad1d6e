"""What a caller of the exported graph sees: inputs, outputs and states, with their shapes.

Both the graph's own inputs and outputs and config.pbtxt are made from it, so they cannot differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from export.description import Dense, Normalization, Recurrent
from export.errors import ExportError

if TYPE_CHECKING:
    from export.description import Description
    from export.graph import Dims

BATCH, TIME = "batch", "time"
TIME_AXIS = 1  # of input and output, counted with the batch axis
_NAME = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Tensor:
    """A float32 tensor of the graph: (batch, time, width), or (batch, width) without `time`."""

    name: str
    width: int
    time: bool

    @property
    def shape(self) -> Dims:
        """With the batch axis."""
        return (BATCH, TIME, self.width) if self.time else (BATCH, self.width)


@dataclass(frozen=True, slots=True)
class State:
    """A float32 state, (batch, units), zero at the start of a session."""

    name: str
    units: int

    @property
    def output(self) -> str:
        """The graph's output that holds the state after the last timestep."""
        return f"{self.name}_next"

    @property
    def shape(self) -> Dims:
        """With the batch axis."""
        return (BATCH, self.units)


@dataclass(frozen=True, slots=True)
class Signature:
    """The exported step `(input, *states) → (output, *states)`, for any number of timesteps.

    A model without states may have no timesteps either.

    Raises:
        ExportError: a name occurs twice, or has characters that a served model cannot use.
    """

    input: Tensor
    output: Tensor
    states: tuple[State, ...]

    def __post_init__(self) -> None:
        names = [self.input.name, self.output.name]
        names += [name for state in self.states for name in (state.name, state.output)]
        for name in names:
            if not _NAME.fullmatch(name):
                raise ExportError(f"tensor name {name!r}: use letters, digits, '_', '-' and '.'")
            if names.count(name) > 1:
                raise ExportError(
                    f"two tensors of the model are called {name!r}: rename the input, "
                    "the output or a layer"
                )


def signature_of(description: Description) -> Signature:
    """Follow the width through the layers."""
    width = description.features
    states: list[State] = []
    for layer in description.layers:
        match layer:
            case Recurrent():
                width = layer.units
                states.extend(State(name, layer.units) for name in layer.states)
            case Dense():
                width = int(layer.kernel.shape[1])
            case Normalization():
                pass
    return Signature(
        input=Tensor(description.input_name, description.features, description.time),
        output=Tensor(description.output_name, width, description.time),
        states=tuple(states),
    )
