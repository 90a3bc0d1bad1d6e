"""SimpleRNNCell: the fully connected recurrent step (Elman 1990)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.cells.base import Cell, States
from models.layer import register

if TYPE_CHECKING:
    from torch import Tensor

    from models.activations import ActivationLike
    from models.initializers import InitializerLike


@register
class SimpleRNNCell(Cell):
    """`h = act(x W + b + h U)`; its output is its state.

    Weights: `kernel (D, u)`, `recurrent_kernel (u, u)`, `bias (u,)`.
    """

    gates = 1
    state_names = ("h",)

    def __init__(
        self,
        units: int,
        activation: ActivationLike = "tanh",
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        recurrent_initializer: InitializerLike = "orthogonal",
        bias_initializer: InitializerLike = "zeros",
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

    def step(self, projected: Tensor, states: States) -> tuple[Tensor, States]:
        (h,) = states
        h = self.activation(projected + h @ self.recurrent_kernel)
        return h, (h,)
