"""LSTMCell: long short-term memory (Hochreiter and Schmidhuber 1997) with a forget gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import torch
from torch import Tensor

from models import activations
from models.cells.base import Cell, States
from models.cells.dropout import NO_DROPOUT, DropoutMasks
from models.cells.implementation import checked
from models.registry import register

if TYPE_CHECKING:
    from models.activations import Activation, ActivationLike
    from models.constraints import ConstraintLike
    from models.initializers import Initialize, InitializerLike
    from models.options import LayerOptions
    from models.regularizers import RegularizerLike


@register
class LSTMCell(Cell):
    """Gates i, f, c, o in this order along the last axis; states h and c; output h.

        c = f ∘ c + i ∘ act(z_c)
        h = o ∘ act(c)

    where `z = x W + b + h U`, and i, f, o are `recurrent_activation` of their part of z.

    Weights: `kernel (D, 4u)`, `recurrent_kernel (u, 4u)`, `bias (4u,)`. `unit_forget_bias` starts
    the forget gate's bias at one (Jozefowicz, Zaremba, Sutskever 2015).
    """

    gates = 4
    state_names = ("h", "c")

    recurrent_activation: Activation
    unit_forget_bias: bool

    def __init__(
        self,
        units: int,
        activation: ActivationLike = "tanh",
        recurrent_activation: ActivationLike = "hard_sigmoid",
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        recurrent_initializer: InitializerLike = "orthogonal",
        bias_initializer: InitializerLike = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: RegularizerLike = None,
        recurrent_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        recurrent_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        implementation: int = 1,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(
            units,
            activation,
            use_bias,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            kernel_regularizer,
            recurrent_regularizer,
            bias_regularizer,
            kernel_constraint,
            recurrent_constraint,
            bias_constraint,
            dropout,
            recurrent_dropout,
            **options,
        )
        self.recurrent_activation = activations.get(recurrent_activation)
        self.unit_forget_bias = unit_forget_bias
        self.implementation = checked(implementation)

    def initial_bias(self, shape: Any) -> Tensor:
        if not self.unit_forget_bias:
            return super().initial_bias(shape)
        return ones_for_forget_gate(self.bias_initializer, self.units, before=1)

    def step(
        self, projected: Tensor, states: States, masks: DropoutMasks = NO_DROPOUT
    ) -> tuple[Tensor, States]:
        h, c = states
        z = self.sums(projected, h, self.kernels()[1], masks.recurrent)
        return lstm_step(z, c, self.activation, self.recurrent_activation)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "recurrent_activation": activations.serialize(self.recurrent_activation),
            "unit_forget_bias": self.unit_forget_bias,
            "implementation": self.implementation,
        }


def ones_for_forget_gate(initializer: Initialize, units: int, before: int) -> Tensor:
    """A bias with ones for the forget gate, which stands behind `before` gates; two more follow."""
    first, last = initializer((before * units,)), initializer((2 * units,))
    return torch.cat([first, torch.ones(units), last])


def lstm_step(
    z: Tensor, c: Tensor, activation: Activation, recurrent_activation: Activation, axis: int = -1
) -> tuple[Tensor, States]:
    """The step from `z`, the gates' sums side by side along `axis`, and the old `c`."""
    z_i, z_f, z_c, z_o = z.chunk(4, dim=axis)
    i, f, o = recurrent_activation(z_i), recurrent_activation(z_f), recurrent_activation(z_o)
    c = torch.addcmul(f * c, i, activation(z_c))
    h = o * activation(c)
    return h, (h, c)
