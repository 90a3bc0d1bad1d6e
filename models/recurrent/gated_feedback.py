"""GatedFeedbackRNN: GatedFeedbackRNNCell over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from models.cells import GatedFeedbackRNNCell
from models.recurrent.base import CellRNN, arguments
from models.registry import register

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.activations import ActivationLike
    from models.initializers import InitializerLike
    from models.options import LayerOptions
    from models.regularizers import RegularizerLike


@register
class GatedFeedbackRNN(CellRNN):
    """Layers that see each other's last states: see `GatedFeedbackRNNCell`, and `RNN` for the rest.

    `units` has an entry for each layer; `kind` is "tanh", "lstm" or "gru".
    """

    cell: GatedFeedbackRNNCell
    cell_class = GatedFeedbackRNNCell

    def __init__(
        self,
        units: Sequence[int],
        kind: str = "tanh",
        activation: ActivationLike = "tanh",
        recurrent_activation: ActivationLike = "sigmoid",
        kernel_initializer: InitializerLike = "glorot_uniform",
        recurrent_initializer: InitializerLike = "orthogonal",
        bias_initializer: InitializerLike = "zeros",
        unit_forget_bias: bool = True,
        activity_regularizer: RegularizerLike = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**arguments(locals()))
