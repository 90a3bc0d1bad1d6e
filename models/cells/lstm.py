"""LSTMCell: long short-term memory (Hochreiter and Schmidhuber 1997) with a forget gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from models import activations
from models.cells.base import Cell, States
from models.layer import register

if TYPE_CHECKING:
    from models.activations import Activation, ActivationLike
    from models.initializers import InitializerLike


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
        name: str | None = None,
    ) -> None:
        super().__init__(
            units,
            activation,
            use_bias,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            name,
        )
        self.recurrent_activation = activations.get(recurrent_activation)
        self.unit_forget_bias = unit_forget_bias

    def make_bias(self) -> Tensor:
        if not self.unit_forget_bias:
            return super().make_bias()
        u = self.units
        first, last = self.bias_initializer((u,)), self.bias_initializer((2 * u,))
        return torch.cat([first, torch.ones(u), last])

    def step(self, projected: Tensor, states: States) -> tuple[Tensor, States]:
        h, c = states
        z_i, z_f, z_c, z_o = (projected + h @ self.recurrent_kernel).chunk(4, dim=-1)
        i = self.recurrent_activation(z_i)
        f = self.recurrent_activation(z_f)
        o = self.recurrent_activation(z_o)
        c = f * c + i * self.activation(z_c)
        h = o * self.activation(c)
        return h, (h, c)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "recurrent_activation": activations.serialize(self.recurrent_activation),
            "unit_forget_bias": self.unit_forget_bias,
        }
