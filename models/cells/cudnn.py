"""The cells of CuDNNGRU and CuDNNLSTM: plain cells whose weights are laid out as cuDNN takes them.

Keras hands the weights of these layers to cuDNN as they lie in memory, and cuDNN reads each gate's
part of a kernel as a matrix with a row for each unit. So of the `(D, u)` numbers of a gate in
`kernel`, the first D belong to the first unit: as the plain cell has it, the gate's kernel is
`k.reshape(u, D).T`, and `k.T` for the recurrent kernel. Arrays from Keras' `get_weights` fit as
they are; `plain` turns them into those of a plain layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.cells.gru import GRUCell
from models.cells.lstm import LSTMCell, ones_for_forget_gate
from models.registry import register

if TYPE_CHECKING:
    from torch import Tensor

FIXED = (
    "activation",
    "recurrent_activation",
    "use_bias",
    "dropout",
    "recurrent_dropout",
    "implementation",
    "reset_after",
)


@register
class CuDNNGRUCell(GRUCell):
    """`GRUCell(reset_after=True, recurrent_activation="sigmoid")` with `bias (6u,)`.

    The first half of the bias is the input's, the second the recurrent side's. The kernels are laid
    out as cuDNN takes them: see this module.
    """

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(units, **options, recurrent_activation="sigmoid", reset_after=True)

    def kernels(self) -> tuple[Tensor, Tensor]:
        return plain(self.kernel, self.gates), plain(self.recurrent_kernel, self.gates)

    def bias_shape(self) -> tuple[int, ...]:
        return (6 * self.units,)

    def input_bias(self) -> Tensor | None:
        return None if self.bias is None else self.bias[: 3 * self.units]

    def recurrent_bias(self) -> Tensor | None:
        return None if self.bias is None else self.bias[3 * self.units :]

    def get_config(self) -> dict[str, Any]:
        return _free(super().get_config())


@register
class CuDNNLSTMCell(LSTMCell):
    """`LSTMCell(recurrent_activation="sigmoid")` with `bias (8u,)`: the sum of its halves counts.

    `unit_forget_bias` puts its ones into the second half. The kernels are laid out as cuDNN takes
    them: see this module.
    """

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(units, **options, recurrent_activation="sigmoid")

    def kernels(self) -> tuple[Tensor, Tensor]:
        return plain(self.kernel, self.gates), plain(self.recurrent_kernel, self.gates)

    def bias_shape(self) -> tuple[int, ...]:
        return (8 * self.units,)

    def initial_bias(self, shape: Any) -> Tensor:
        if not self.unit_forget_bias:
            return self.bias_initializer(shape)
        return ones_for_forget_gate(self.bias_initializer, self.units, before=5)

    def input_bias(self) -> Tensor | None:
        return None if self.bias is None else self.bias.reshape(2, -1).sum(0)

    def get_config(self) -> dict[str, Any]:
        return _free(super().get_config())


def plain(kernel: Tensor, gates: int) -> Tensor:
    """A kernel `(D, G·u)` as cuDNN takes it, as the plain cell has it: `(D, G·u)`."""
    rows, width = kernel.shape
    by_gate = kernel.reshape(rows, gates, -1).transpose(0, 1)
    return by_gate.reshape(width, rows).T


def _free(config: dict[str, Any]) -> dict[str, Any]:
    """A config without the options that cuDNN decides."""
    return {key: value for key, value in config.items() if key not in FIXED}
