"""A model as the emitters see it: plain values and numpy arrays, no torch.

Kernels and biases keep Keras' layout: gates side by side along the last axis, in the order
i, f, c, o (LSTM) and z, r, h (GRU). D is the number of features that a layer reads, u its units.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]


class Kind(Enum):
    """The recurrent layers; the value is the number of gates."""

    SIMPLE_RNN = 1
    GRU = 3
    LSTM = 4


@dataclass(frozen=True, slots=True, eq=False)
class Recurrent:
    """SimpleRNN, GRU or LSTM.

    A layer without a bias has zeros here. `recurrent_bias` is other than zero only in a GRU with
    `reset_after`. `states` are the names of the state inputs, h first.
    """

    name: str
    kind: Kind
    kernel: Array  # (D, gates * u)
    recurrent_kernel: Array  # (u, gates * u)
    bias: Array  # (gates * u,)
    recurrent_bias: Array  # (gates * u,)
    activation: str
    recurrent_activation: str  # "linear" for SimpleRNN, which has no gates
    reset_after: bool
    states: tuple[str, ...]

    @property
    def units(self) -> int:
        """u, the width of each state."""
        return int(self.recurrent_kernel.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """`activation(x · kernel + bias)` on the last axis."""

    name: str
    kernel: Array  # (D, u)
    bias: Array | None  # (u,)
    activation: str


@dataclass(frozen=True, slots=True, eq=False)
class Normalization:
    """`(x - mean) / std` on the last axis."""

    name: str
    mean: Array  # (D,)
    std: Array  # (D,)


Layer = Recurrent | Dense | Normalization


@dataclass(frozen=True, slots=True, eq=False)
class Description:
    """A causal stack of layers, (batch, time, features) to (batch, time, width).

    Without `time`, which a stack without states may do without, both lack that axis.
    """

    input_name: str
    output_name: str
    features: int
    time: bool
    layers: tuple[Layer, ...]
