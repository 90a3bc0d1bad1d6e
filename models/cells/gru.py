"""GRUCell: the gated recurrent unit, in both forms that are in use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models import activations
from models.cells.base import Cell, States
from models.layer import register

if TYPE_CHECKING:
    from torch import Tensor

    from models.activations import Activation, ActivationLike
    from models.initializers import InitializerLike


@register
class GRUCell(Cell):
    """Gates z (update), r (reset), h (candidate) in this order; its output is its state.

        z = s(x_z + h U_z)    r = s(x_r + h U_r)    x_g = x W_g + b_g
        ĥ = act(x_h + (r ∘ h) U_h)              reset_after=False (Cho et al. 2014)
        ĥ = act(x_h + r ∘ (h U_h + b_rh))       reset_after=True (cuDNN; torch)
        h = z ∘ h + (1 - z) ∘ ĥ

    with s = `recurrent_activation`. With reset_after the recurrent side has a bias of its own,
    which z and r add as well.

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
        reset_after: bool = False,
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
        self.reset_after = reset_after

    def make_bias(self) -> Tensor:
        if not self.reset_after:
            return super().make_bias()
        return self.bias_initializer((2, self.gates * self.units))

    def project(self, inputs: Tensor) -> Tensor:
        if not self.reset_after:
            return super().project(inputs)
        projected = inputs @ self.kernel
        return projected + self.bias[0] if self.use_bias else projected

    def step(self, projected: Tensor, states: States) -> tuple[Tensor, States]:
        (h,) = states
        update = self._step_reset_after if self.reset_after else self._step_reset_before
        h = update(projected, h)
        return h, (h,)

    def _step_reset_before(self, projected: Tensor, h: Tensor) -> Tensor:
        recurrent_zr, recurrent_h = _gates_and_candidate(self.recurrent_kernel)
        x_zr, x_h = _gates_and_candidate(projected)
        z, r = self._gates(x_zr + h @ recurrent_zr)
        candidate = self.activation(x_h + (r * h) @ recurrent_h)
        return z * h + (1 - z) * candidate

    def _step_reset_after(self, projected: Tensor, h: Tensor) -> Tensor:
        recurrent = h @ self.recurrent_kernel
        if self.use_bias:
            recurrent = recurrent + self.bias[1]
        x_zr, x_h = _gates_and_candidate(projected)
        h_zr, h_h = _gates_and_candidate(recurrent)
        z, r = self._gates(x_zr + h_zr)
        candidate = self.activation(x_h + r * h_h)
        return z * h + (1 - z) * candidate

    def _gates(self, zr: Tensor) -> tuple[Tensor, Tensor]:
        """Each gate by itself: softmax does not act on elements alone."""
        z, r = zr.chunk(2, dim=-1)
        return self.recurrent_activation(z), self.recurrent_activation(r)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "recurrent_activation": activations.serialize(self.recurrent_activation),
            "reset_after": self.reset_after,
        }


def _gates_and_candidate(x: Tensor) -> tuple[Tensor, Tensor]:
    """`(…, 3u)` → the part of z and r `(…, 2u)`, the part of the candidate `(…, u)`."""
    u = x.shape[-1] // 3
    return x[..., : 2 * u], x[..., 2 * u :]
