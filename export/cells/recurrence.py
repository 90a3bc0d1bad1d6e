"""One step of a cell as ONNX nodes, and what may be done for all timesteps before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from export.errors import UnsupportedLayer
from models import activations

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from export.graph import GraphBuilder
    from models.activations import Activation

Shape = tuple[int, ...]


class Step(Protocol):
    """Adds one timestep to `body`.

    `slices` are what was hoisted, at this timestep, `(batch, …)` each. Returns the output and the
    new states.
    """

    def __call__(
        self, body: GraphBuilder, slices: list[str], states: list[str]
    ) -> tuple[str, list[str]]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Recurrence:
    """A cell as nodes.

    `hoisted`: tensors (time, batch, …), of which the step sees one timestep each. `output_is`: the
    place of the state that is the output as well, None where there is none such. `output_shape`
    is without batch. `initial_output`: what stands for the output before the first step that
    counts, where that is neither the initial state at `output_is` nor zeros.
    """

    hoisted: list[str]
    step: Step
    output_shape: Shape
    output_is: int | None = None
    initial_output: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Reads:
    """What a cell reads in the graph outside its loop: names, and shapes without batch and time.

    `x` is (time, batch, …), states and constants are (batch, …).
    """

    x: str
    x_shape: Shape
    states: tuple[str, ...]
    state_shapes: tuple[Shape, ...]
    constants: tuple[str, ...] = ()
    constant_shapes: tuple[Shape, ...] = ()


class Unnamed(UnsupportedLayer):
    """An activation that is a function of one's own: torch's exporter must translate it."""


def named(activation: Activation) -> str:
    """The name of an activation. Raises Unnamed."""
    known = activations.serialize(activation)
    if not isinstance(known, str):
        raise Unnamed(f"{activation!r} is none of the named activations")
    return known


def check_named(*functions: Activation) -> None:
    """Raises Unnamed at the first that has no name."""
    for function in functions:
        named(function)


def array(weight: torch.Tensor) -> NDArray[Any]:
    """A copy of a weight, float32."""
    return weight.detach().cpu().numpy().astype("float32")
