"""ConvLSTM2D: ConvLSTM2DCell over time, for sequences of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from models.cells import ConvLSTM2DCell
from models.recurrent.base import CellRNN, arguments
from models.registry import register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.activations import ActivationLike
    from models.constraints import ConstraintLike
    from models.initializers import InitializerLike
    from models.options import LayerOptions
    from models.regularizers import RegularizerLike


@register
class ConvLSTM2D(CellRNN):
    """Convolutional LSTM layer: see `ConvLSTM2DCell` for the step, `RNN` for the rest.

    Inputs `(B, T, rows, cols, C)`, outputs `(B, T, rows', cols', filters)` or the last one alone;
    with data_format="channels_first" the channels stand before the rows.
    """

    cell: ConvLSTM2DCell
    cell_class = ConvLSTM2DCell

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = (1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = (1, 1),
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
        activity_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        recurrent_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        return_sequences: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_state: bool = False,
        unroll: bool = False,
        **options: Unpack[LayerOptions],
    ) -> None:
        if unroll:
            raise TypeError("Unrolling isn't possible with convolutional RNNs.")
        super().__init__(**arguments(locals()))
