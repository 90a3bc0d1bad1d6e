"""The cell: one step of a recurrent layer, without memory of its own.

A cell is a set of weights and one pure function

    output, new_states = cell.call(inputs, states)

where `inputs` is one timestep `(B, D)` and `states` a tuple of tensors, one per entry of
`state_size`. The loop over time, masks and kept states belong to the layer (`models.rnn.RNN`).

The built-in cells split that function in two, so that the layer can do the first half for all
timesteps as one matrix product and only the second in its loop:

    projected = cell.project(inputs, masks)                      # x W + b, for all timesteps
    output, new_states = cell.step(projected[t], states, masks)  # all that needs the states

`masks` are those of dropout, drawn once per call of the layer by `cell.dropout_masks`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from models import activations, constraints, initializers, regularizers
from models.cells.dropout import NO_DROPOUT, DropoutMasks, Masks, draw, dropped
from models.layer import Layer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.activations import Activation, ActivationLike
    from models.constraints import Constrain, ConstraintLike
    from models.initializers import Initialize, InitializerLike
    from models.options import BatchShape
    from models.regularizers import Regularize, RegularizerLike

States: TypeAlias = tuple[Tensor, ...]


class Cell(Layer):
    """Base of the built-in cells: G gates side by side along the last axis of each weight.

    Weights, in this order: `kernel (D, G·u)`, `recurrent_kernel (u, G·u)`, `bias (G·u,)`.
    Dropout rates are clamped to 0 … 1 and act for 0 < rate < 1. With `implementation` 1 each gate
    has a mask of its own, with 2 all share one.
    """

    gates: ClassVar[int]
    state_names: ClassVar[tuple[str, ...]]
    input_ndim: ClassVar[int] = 2  # of one timestep, with the batch axis
    implementation: int = 1

    units: int
    activation: Activation
    use_bias: bool
    kernel_initializer: Initialize
    recurrent_initializer: Initialize
    bias_initializer: Initialize
    kernel_regularizer: Regularize | None
    recurrent_regularizer: Regularize | None
    bias_regularizer: Regularize | None
    kernel_constraint: Constrain | None
    recurrent_constraint: Constrain | None
    bias_constraint: Constrain | None
    dropout: float
    recurrent_dropout: float
    kernel: nn.Parameter
    recurrent_kernel: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        units: int,
        activation: ActivationLike,
        use_bias: bool,
        kernel_initializer: InitializerLike,
        recurrent_initializer: InitializerLike,
        bias_initializer: InitializerLike,
        kernel_regularizer: RegularizerLike,
        recurrent_regularizer: RegularizerLike,
        bias_regularizer: RegularizerLike,
        kernel_constraint: ConstraintLike,
        recurrent_constraint: ConstraintLike,
        bias_constraint: ConstraintLike,
        dropout: float,
        recurrent_dropout: float,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if units < 1:
            raise ValueError(f"`units` is a positive integer, not {units!r}.")
        self.units = units
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.recurrent_initializer = initializers.get(recurrent_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.recurrent_regularizer = regularizers.get(recurrent_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.recurrent_constraint = constraints.get(recurrent_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.dropout = min(1.0, max(0.0, dropout))
        self.recurrent_dropout = min(1.0, max(0.0, recurrent_dropout))
        self._holding = False
        self._held: DropoutMasks | None = None

    @property
    def state_size(self) -> int | tuple[int, ...]:
        """The size of the one state, or a tuple with the size of each."""
        return self.units if len(self.state_names) == 1 else (self.units,) * len(self.state_names)

    @property
    def output_size(self) -> int:
        """The size of the output."""
        return self.units

    # Weights

    def build(self, input_shape: Any) -> None:
        """Makes the weights for inputs `(batch, D)`."""
        self.add_weight(
            "kernel",
            self.kernel_shape(input_shape),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.add_weight(
            "recurrent_kernel",
            self.recurrent_kernel_shape(),
            initializer=self.recurrent_initializer,
            regularizer=self.recurrent_regularizer,
            constraint=self.recurrent_constraint,
        )
        if self.use_bias:
            self.add_weight(
                "bias",
                self.bias_shape(),
                initializer=self.initial_bias,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        else:
            self.register_parameter("bias", None)
        self.built = True

    def kernel_shape(self, input_shape: BatchShape) -> tuple[int, ...]:
        """Of inputs `(batch, D)`; ValueError where D is not known."""
        features = input_shape[-1]
        if features is None:
            raise ValueError(f"The last dimension of the inputs to `{self.name}` should be known.")
        return (features, self.gates * self.units)

    def recurrent_kernel_shape(self) -> tuple[int, ...]:
        """`(u, G·u)`."""
        return (self.units, self.gates * self.units)

    def bias_shape(self) -> tuple[int, ...]:
        """`(G·u,)`."""
        return (self.gates * self.units,)

    def initial_bias(self, shape: Any) -> Tensor:
        """The initial bias, of `shape`."""
        return self.bias_initializer(shape)

    # The step

    def dropout_masks(self, inputs: Tensor, states: States, training: bool) -> DropoutMasks:
        """New masks for one timestep of inputs, `(B, D)`, and for h."""
        if not training:
            return NO_DROPOUT
        count = self.gates if self.implementation == 1 else 1
        return DropoutMasks(
            draw(inputs, self.dropout, count), draw(states[0], self.recurrent_dropout, count)
        )

    def drops(self, training: bool) -> bool:
        """Whether `dropout_masks` would draw any."""
        return training and (0 < self.dropout < 1 or 0 < self.recurrent_dropout < 1)

    def product(self, x: Tensor, kernel: Tensor) -> Tensor:
        """What the kernel does to inputs, `(…, B, D) → (…, B, G·u)`."""
        return x @ kernel

    def recurrent_product(self, h: Tensor, kernel: Tensor) -> Tensor:
        """What the recurrent kernel does to h, `(B, u) → (B, G·u)`."""
        return h @ kernel

    def kernels(self) -> tuple[Tensor, Tensor]:
        """`kernel` and `recurrent_kernel` as the equations have them."""
        return self.kernel, self.recurrent_kernel

    def input_bias(self) -> Tensor | None:
        """The bias that is added to the projected inputs."""
        return self.bias

    def project(self, inputs: Tensor, masks: DropoutMasks = NO_DROPOUT) -> Tensor:
        """The part of a step that needs no state: `(…, B, D) → (…, B, G·u)`.

        The axis in front, if there is one, is time.
        """
        kernel, _ = self.kernels()
        projected = gate_by_gate(self.product, inputs, kernel, masks.inputs)
        bias = self.input_bias()
        return projected if bias is None else projected + bias

    def sums(self, projected: Tensor, h: Tensor, kernel: Tensor, masks: Masks) -> Tensor:
        """`projected + h · kernel`, each gate's h as its mask leaves it."""
        if masks is None and kernel.ndim == 2:
            return torch.addmm(projected, h, kernel)
        return projected + gate_by_gate(self.recurrent_product, h, kernel, masks)

    def step(
        self, projected: Tensor, states: States, masks: DropoutMasks = NO_DROPOUT
    ) -> tuple[Tensor, States]:
        """The rest of a step: `(B, G·u)` and the states → output `(B, u)`, new states."""
        raise NotImplementedError(f"{type(self).__name__} does not define its step")

    def call(
        self, inputs: Tensor, states: States, training: bool | None = None
    ) -> tuple[Tensor, States]:
        """One timestep: `(B, D)` and the states → output `(B, u)`, new states."""
        training = self.training if training is None else training
        masks = self._held or self.dropout_masks(inputs, states, training)
        if self._holding:
            self._held = masks
        return self.step(self.project(inputs, masks), states, masks)

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
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "recurrent_regularizer": regularizers.serialize(self.recurrent_regularizer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
            "recurrent_constraint": constraints.serialize(self.recurrent_constraint),
            "bias_constraint": constraints.serialize(self.bias_constraint),
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
        }


@contextmanager
def one_draw(cell: Any) -> Iterator[None]:
    """Meanwhile each built-in cell in `cell` keeps the dropout masks of its first `call`.

    For cells of one's own that use built-in ones: whoever loops over time wraps the loop in it.
    """
    modules = cell.modules() if isinstance(cell, nn.Module) else ()
    inside = [module for module in modules if isinstance(module, Cell)]
    for built_in in inside:
        built_in._holding = True
    try:
        yield
    finally:
        for built_in in inside:
            built_in._holding, built_in._held = False, None


def gate_by_gate(product: Any, x: Tensor, kernel: Tensor, masks: Masks) -> Tensor:
    """`product(x, kernel)`, each gate's part from `x` as that gate's mask leaves it."""
    if masks is None:
        result: Tensor = product(x, kernel)
        return result
    kernels = kernel.chunk(len(masks), dim=-1)
    seen = dropped(x, masks, len(masks))
    return torch.cat([product(x, k) for x, k in zip(seen, kernels, strict=True)], dim=-1)
