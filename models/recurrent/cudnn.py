"""CuDNNGRU and CuDNNLSTM: the layers whose equations are those of cuDNN's fused kernels.

In Keras they run on a GPU only; here they run anywhere, and on a GPU through cuDNN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from models.cells import CuDNNGRUCell, CuDNNLSTMCell
from models.cells.cudnn import FIXED
from models.recurrent.base import CellRNN, arguments
from models.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from models.constraints import ConstraintLike
    from models.initializers import InitializerLike
    from models.options import LayerOptions
    from models.regularizers import RegularizerLike


class CuDNNRNN(CellRNN):
    """What both share: no masks, no unrolling, and options that cuDNN decides."""

    def __init__(self, **given: Any) -> None:
        for name in given.keys() & {"unroll", *FIXED}:
            raise TypeError("Keyword argument not understood:", name)
        super().__init__(**given)

    def _check_inputs(self, inputs: Tensor, mask: Tensor | None) -> None:
        if mask is not None:
            raise ValueError("Masking is not supported for CuDNN RNNs.")
        super()._check_inputs(inputs, mask)

    def _own_config(self) -> dict[str, Any]:
        return {key: value for key, value in super()._own_config().items() if key != "unroll"}


@register
class CuDNNGRU(CuDNNRNN):
    """`GRU(reset_after=True, recurrent_activation="sigmoid")` with a bias of shape `(6u,)`."""

    cell: CuDNNGRUCell
    cell_class = CuDNNGRUCell

    def __init__(
        self,
        units: int,
        kernel_initializer: InitializerLike = "glorot_uniform",
        recurrent_initializer: InitializerLike = "orthogonal",
        bias_initializer: InitializerLike = "zeros",
        kernel_regularizer: RegularizerLike = None,
        recurrent_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        activity_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        recurrent_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        return_sequences: bool = False,
        return_state: bool = False,
        stateful: bool = False,
        go_backwards: bool = False,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**arguments(locals()))


@register
class CuDNNLSTM(CuDNNRNN):
    """`LSTM(recurrent_activation="sigmoid")` with a bias of shape `(8u,)`."""

    cell: CuDNNLSTMCell
    cell_class = CuDNNLSTMCell

    def __init__(
        self,
        units: int,
        kernel_initializer: InitializerLike = "glorot_uniform",
        recurrent_initializer: InitializerLike = "orthogonal",
        bias_initializer: InitializerLike = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: RegularizerLike = None,
        recurrent_regularizer: RegularizerLike = None,
        bias_regularizer: RegularizerLike = None,
        activity_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        recurrent_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        return_sequences: bool = False,
        return_state: bool = False,
        stateful: bool = False,
        go_backwards: bool = False,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**arguments(locals()))
