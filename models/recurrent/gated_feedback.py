"""GatedFeedbackRNN: GatedFeedbackRNNCell over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from models.cells import GatedFeedbackRNNCell
from models.recurrent.base import CellRNN
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
        cell = GatedFeedbackRNNCell(
            units,
            kind,
            activation=activation,
            recurrent_activation=recurrent_activation,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            unit_forget_bias=unit_forget_bias,
        )
        super().__init__(
            cell,
            return_sequences,
            return_state,
            go_backwards,
            stateful,
            unroll,
            activity_regularizer,
            **options,
        )
