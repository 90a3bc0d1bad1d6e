"""SimpleRNN: SimpleRNNCell over time."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Unpack

from models.cells import SimpleRNNCell
from models.recurrent.base import CellRNN, arguments
from models.registry import register

if TYPE_CHECKING:
    from models.activations import ActivationLike
    from models.constraints import ConstraintLike
    from models.initializers import InitializerLike
    from models.options import LayerOptions
    from models.regularizers import RegularizerLike


@register
class SimpleRNN(CellRNN):
    """Fully connected recurrent layer: see `SimpleRNNCell` for the step, `RNN` for the rest."""

    cell: SimpleRNNCell
    cell_class = SimpleRNNCell

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
        activity_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        recurrent_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        **options: Unpack[LayerOptions],
    ) -> None:
        if options.pop("implementation", None) is not None:  # type: ignore[typeddict-item]
            warnings.warn(
                "The `implementation` argument in `SimpleRNN` has been deprecated. "
                "Please remove it from your layer call.",
                stacklevel=2,
            )
        super().__init__(**arguments(locals()))
