"""SimpleRNN, GRU and LSTM: `RNN` over the cell of that name, with the cell's own arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from models.cells import GRUCell, LSTMCell, SimpleRNNCell
from models.layer import register
from models.rnn import RNN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.activations import ActivationLike
    from models.initializers import InitializerLike


class CellRNN(RNN):
    """A layer that makes its own cell: the cell's config is part of the layer's."""

    @property
    def units(self) -> int:
        """The size of the output."""
        units: int = self.cell.units
        return units

    def get_config(self) -> dict[str, Any]:
        return {**self.cell.get_config(), **self._own_config()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        return cls(**config)


@register
class SimpleRNN(CellRNN):
    """Fully connected recurrent layer: see `SimpleRNNCell` for the step, `RNN` for the rest."""

    cell: SimpleRNNCell

    def __init__(
        self,
        units: int,
        activation: ActivationLike = "tanh",
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        recurrent_initializer: InitializerLike = "orthogonal",
        bias_initializer: InitializerLike = "zeros",
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        name: str | None = None,
    ) -> None:
        cell = SimpleRNNCell(
            units,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
        )
        super().__init__(cell, return_sequences, return_state, go_backwards, stateful, name)


@register
class GRU(CellRNN):
    """Gated recurrent unit layer: see `GRUCell` for the step, `RNN` for the rest."""

    cell: GRUCell

    def __init__(
        self,
        units: int,
        activation: ActivationLike = "tanh",
        recurrent_activation: ActivationLike = "hard_sigmoid",
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        recurrent_initializer: InitializerLike = "orthogonal",
        bias_initializer: InitializerLike = "zeros",
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        reset_after: bool = False,
        name: str | None = None,
    ) -> None:
        cell = GRUCell(
            units,
            activation=activation,
            recurrent_activation=recurrent_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            reset_after=reset_after,
        )
        super().__init__(cell, return_sequences, return_state, go_backwards, stateful, name)


@register
class LSTM(CellRNN):
    """Long short-term memory layer: see `LSTMCell` for the step, `RNN` for the rest."""

    cell: LSTMCell

    def __init__(
        self,
        units: int,
        activation: ActivationLike = "tanh",
        recurrent_activation: ActivationLike = "hard_sigmoid",
        use_bias: bool = True,
        kernel_initializer: InitializerLike = "glorot_uniform",
        recurrent_initializer: InitializerLike = "orthogonal",
        bias_initializer: InitializerLike = "zeros",
        unit_forget_bias: bool = True,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        name: str | None = None,
    ) -> None:
        cell = LSTMCell(
            units,
            activation=activation,
            recurrent_activation=recurrent_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            unit_forget_bias=unit_forget_bias,
        )
        super().__init__(cell, return_sequences, return_state, go_backwards, stateful, name)
