"""GRUCell: the gated recurrent unit, in both forms that are in use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

import torch

from models import activations
from models.cells.base import Cell, States
from models.cells.dropout import NO_DROPOUT, DropoutMasks, Masks, dropped
from models.cells.implementation import checked
from models.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from models.activations import Activation, ActivationLike
    from models.constraints import ConstraintLike
    from models.initializers import InitializerLike
    from models.options import LayerOptions
    from models.regularizers import RegularizerLike


@register
class GRUCell(Cell):
    """Gates z (update), r (reset), h (candidate) in this order; its output is its state.

        z = s(x_z + h U_z)    r = s(x_r + h U_r)    x_g = x W_g + b_g
        ĥ = act(x_h + (r ∘ h) U_h)              reset_after=False (Cho et al. 2014)
        ĥ = act(x_h + r ∘ (h U_h + b_rh))       reset_after=True (cuDNN; torch)
        h = z ∘ h + (1 - z) ∘ ĥ

    with s = `recurrent_activation`. With reset_after the recurrent side has a bias of its own,
    which z and r add as well. Dropout of h goes for the products, and with implementation 2 for the
    last line as well, as in Keras.

    Weights: `kernel (D, 3u)`, `recurrent_kernel (u, 3u)`, and `bias (3u,)`, with reset_after
    `bias (2, 3u)`: row 0 for the input, row 1 for the recurrent side.
    """

    gates = 3
    state_names = ("h",)

    recurrent_activation: Activation
    reset_after: bool

    def __init__(
        self,
        units: int,
        activation: ActivationLike = "tanh",
        recurrent_activation: ActivationLike = "hard_sigmoid",
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
        implementation: int = 1,
        reset_after: bool = False,
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
        self.reset_after = reset_after
        self.implementation = checked(implementation)

    def bias_shape(self) -> tuple[int, ...]:
        return (2, *super().bias_shape()) if self.reset_after else super().bias_shape()

    def input_bias(self) -> Tensor | None:
        return self.bias[0] if self.reset_after and self.bias is not None else self.bias

    def recurrent_bias(self) -> Tensor | None:
        """The recurrent side's own bias, `(3u,)`: with reset_after only."""
        return self.bias[1] if self.reset_after and self.bias is not None else None

    def step(
        self, projected: Tensor, states: States, masks: DropoutMasks = NO_DROPOUT
    ) -> tuple[Tensor, States]:
        (h,) = states
        update = self._after if self.reset_after else self._before
        z, candidate = update(projected, h, masks.recurrent)
        if self.implementation == 2:
            h, *_ = dropped(h, masks.recurrent, self.gates)
        h = torch.addcmul(candidate, z, h - candidate)  # z ∘ h + (1 - z) ∘ ĥ
        return h, (h,)

    def _before(self, projected: Tensor, h: Tensor, masks: Masks) -> tuple[Tensor, Tensor]:
        kernel_zr, kernel_h = _gates_and_candidate(self.kernels()[1])
        x_zr, x_h = _gates_and_candidate(projected)
        z, r = self._gates(self.sums(x_zr, h, kernel_zr, masks and masks[:2]))
        _, _, of_candidate = dropped(h, masks, self.gates)
        return z, self.activation(torch.addmm(x_h, r * of_candidate, kernel_h))

    def _after(self, projected: Tensor, h: Tensor, masks: Masks) -> tuple[Tensor, Tensor]:
        bias = self.recurrent_bias()
        bias = projected.new_zeros(()) if bias is None else bias
        recurrent = self.sums(bias, h, self.kernels()[1], masks)
        x_zr, x_h = _gates_and_candidate(projected)
        h_zr, h_h = _gates_and_candidate(recurrent)
        z, r = self._gates(x_zr + h_zr)
        return z, self.activation(torch.addcmul(x_h, r, h_h))

    def _gates(self, zr: Tensor) -> tuple[Tensor, Tensor]:
        """Each gate by itself: softmax does not act on elements alone."""
        z, r = zr.chunk(2, dim=-1)
        return self.recurrent_activation(z), self.recurrent_activation(r)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "recurrent_activation": activations.serialize(self.recurrent_activation),
            "implementation": self.implementation,
            "reset_after": self.reset_after,
        }


def _gates_and_candidate(x: Tensor) -> tuple[Tensor, Tensor]:
    """`(…, 3u)` → the part of z and r `(…, 2u)`, the part of the candidate `(…, u)`."""
    u = x.shape[-1] // 3
    return x[..., : 2 * u], x[..., 2 * u :]
