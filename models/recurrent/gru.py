"""GRU: GRUCell over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from models.cells import GRUCell
from models.recurrent.base import CellRNN, arguments
from models.registry import register

if TYPE_CHECKING:
    from models.activations import ActivationLike
    from models.constraints import ConstraintLike
    from models.initializers import InitializerLike
    from models.options import LayerOptions
    from models.regularizers import RegularizerLike


@register
class GRU(CellRNN):
    """Gated recurrent unit layer: see `GRUCell` for the step, `RNN` for the rest."""

    cell: GRUCell
    cell_class = GRUCell

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
        activity_regularizer: RegularizerLike = None,
        kernel_constraint: ConstraintLike = None,
        recurrent_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        implementation: int = 1,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        reset_after: bool = False,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**arguments(locals()))
