"""The cell: one step of a recurrent layer, without memory of its own.

A cell is a set of weights and one pure function

    output, new_states = cell.call(inputs, states)

where `inputs` is one timestep `(B, D)` and `states` a tuple of tensors, one per entry of
`state_size`. The loop over time, masks and kept states belong to the layer (`models.rnn.RNN`).

The built-in cells split that function in two, so that the layer can do the first half for all
timesteps as one matrix product and only the second in its loop:

    projected = cell.project(inputs)                        # x W + b
    output, new_states = cell.step(projected, states)       # everything that needs the states
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from models import activations, initializers
from models.layer import BatchShape, Initialize, Layer

if TYPE_CHECKING:
    from models.activations import Activation, ActivationLike
    from models.initializers import InitializerLike

States: TypeAlias = tuple[Tensor, ...]


class Cell(Layer):
    """Base of the built-in cells: G gates side by side in each weight.

    Weights, in this order: `kernel (D, G·u)`, `recurrent_kernel (u, G·u)`, `bias (G·u,)`.
    """

    gates: ClassVar[int]
    state_names: ClassVar[tuple[str, ...]]

    units: int
    activation: Activation
    use_bias: bool
    kernel_initializer: Initialize
    recurrent_initializer: Initialize
    bias_initializer: Initialize
    kernel: nn.Parameter
    recurrent_kernel: nn.Parameter
    bias: nn.Parameter

    def __init__(
        self,
        units: int,
        activation: ActivationLike,
        use_bias: bool,
        kernel_initializer: InitializerLike,
        recurrent_initializer: InitializerLike,
        bias_initializer: InitializerLike,
        name: str | None,
    ) -> None:
        super().__init__(name)
        if units < 1:
            raise ValueError(f"`units` is a positive integer, not {units!r}.")
        self.units = units
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.recurrent_initializer = initializers.get(recurrent_initializer)
        self.bias_initializer = initializers.get(bias_initializer)

    @property
    def state_size(self) -> int | tuple[int, ...]:
        """The size of the one state, or a tuple with the size of each."""
        return self.units if len(self.state_names) == 1 else (self.units,) * len(self.state_names)

    @property
    def output_size(self) -> int:
        """The size of the output."""
        return self.units

    def build(self, input_shape: BatchShape) -> None:
        """Makes the weights for inputs `(batch, D)`."""
        features = input_shape[-1]
        if features is None:
            raise ValueError(f"The last dimension of the inputs to `{self.name}` should be known.")
        width = self.gates * self.units
        self.add_weight("kernel", (features, width), self.kernel_initializer)
        self.add_weight("recurrent_kernel", (self.units, width), self.recurrent_initializer)
        if self.use_bias:
            self.register_parameter("bias", nn.Parameter(self.make_bias()))
        self.built = True

    def make_bias(self) -> Tensor:
        """The initial bias."""
        return self.bias_initializer((self.gates * self.units,))

    def project(self, inputs: Tensor) -> Tensor:
        """The part of a step that needs no state: `(…, D) → (…, G·u)`."""
        projected = inputs @ self.kernel
        return projected + self.bias if self.use_bias else projected

    def step(self, projected: Tensor, states: States) -> tuple[Tensor, States]:
        """The rest of a step: `(B, G·u)` and the states → output `(B, u)`, new states."""
        raise NotImplementedError(f"{type(self).__name__} does not define its step")

    def call(self, inputs: Tensor, states: States) -> tuple[Tensor, States]:
        """One timestep: `(B, D)` and the states → output `(B, u)`, new states."""
        return self.step(self.project(inputs), states)

    def get_initial_state(
        self,
        batch_size: int,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> States:
        """Zeros `(batch_size, u)` for each state."""
        return tuple(
            torch.zeros(batch_size, self.units, dtype=dtype, device=device)
            for _ in self.state_names
        )

    def get_initial_output(self, states: States) -> Tensor:
        """What a layer puts out while every step so far was masked: h₀."""
        return states[0]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "recurrent_initializer": initializers.serialize(self.recurrent_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
        }
