"""SimpleRNNCell: the fully connected recurrent step (Elman 1990)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from models.cells.base import Cell, States
from models.cells.dropout import NO_DROPOUT, DropoutMasks
from models.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from models.activations import ActivationLike
    from models.constraints import ConstraintLike
    from models.initializers import InitializerLike
    from models.options import LayerOptions
    from models.regularizers import RegularizerLike


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
        kernel_regularizer: RegularizerLike = None,
        recurrent_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        recurrent_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
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

    def step(
        self, projected: Tensor, states: States, masks: DropoutMasks = NO_DROPOUT
    ) -> tuple[Tensor, States]:
        (h,) = states
        h = self.activation(self.sums(projected, h, self.kernels()[1], masks.recurrent))
        return h, (h,)
