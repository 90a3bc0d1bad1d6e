"""ConvLSTM2DCell: an LSTM whose products are convolutions (Shi et al. 2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from models import activations
from models.cells.base import Cell, States
from models.cells.convolution import Pair, convolve, output_length, pair
from models.cells.dropout import NO_DROPOUT, DropoutMasks
from models.cells.lstm import lstm_step, ones_for_forget_gate
from models.registry import register

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

    from models.activations import Activation, ActivationLike
    from models.constraints import ConstraintLike
    from models.initializers import InitializerLike
    from models.options import BatchShape, LayerOptions
    from models.regularizers import RegularizerLike

CHANNELS_LAST, CHANNELS_FIRST = "channels_last", "channels_first"


@register
class ConvLSTM2DCell(Cell):
    """The LSTM's equations with convolutions in place of the products; states h and c.

    One timestep is `(B, rows, cols, C)`, a state `(B, rows', cols', filters)`, with
    data_format="channels_first" `(B, C, rows, cols)` and `(B, filters, rows', cols')`. The
    convolution of the inputs takes `strides`, `padding`, `dilation_rate` and the bias; that of h is
    of stride 1, padded to the same size, undilated and without bias.

    Weights: `kernel (kh, kw, C, 4·filters)`, `recurrent_kernel (kh, kw, filters, 4·filters)`,
    `bias (4·filters,)`, gates i, f, c, o.
    """

    gates = 4
    state_names = ("h", "c")
    input_ndim = 4

    recurrent_activation: Activation

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
        kernel_constraint: ConstraintLike = None,
        recurrent_constraint: ConstraintLike = None,
        bias_constraint: ConstraintLike = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(
            filters,
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
        self.unit_forget_bias = unit_forget_bias
        self.kernel_size = pair(kernel_size, "kernel_size")
        self.strides = pair(strides, "strides")
        self.padding = _one_of(padding.lower(), ("valid", "same"), "padding")
        self.data_format = _one_of(
            (data_format or CHANNELS_LAST).lower(), (CHANNELS_LAST, CHANNELS_FIRST), "data_format"
        )
        self.dilation_rate = pair(dilation_rate, "dilation_rate")
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                "strides > 1 not supported in conjunction with dilation_rate > 1. "
                f"Received: strides={self.strides}, dilation_rate={self.dilation_rate}"
            )

    @property
    def filters(self) -> int:
        """The number of channels of the output."""
        return self.units

    # Weights

    def kernel_shape(self, input_shape: BatchShape) -> tuple[int, ...]:
        channels = input_shape[1 if self.data_format == CHANNELS_FIRST else -1]
        if channels is None:
            raise ValueError("The channel dimension of the inputs should be defined. Found `None`.")
        return (*self.kernel_size, channels, 4 * self.filters)

    def recurrent_kernel_shape(self) -> tuple[int, ...]:
        return (*self.kernel_size, self.filters, 4 * self.filters)

    def initial_bias(self, shape: Any) -> Tensor:
        if not self.unit_forget_bias:
            return super().initial_bias(shape)
        return ones_for_forget_gate(self.bias_initializer, self.filters, before=1)

    # Shapes

    def state_shape(self, input_shape: BatchShape) -> BatchShape:
        """The shape of each state, without the batch axis, for timesteps `input_shape`, with it."""
        first = self.data_format == CHANNELS_FIRST
        rows, cols = input_shape[2:4] if first else input_shape[1:3]
        lengths = tuple(
            output_length(n, k, self.padding, s, d)
            for n, k, s, d in zip(
                (rows, cols), self.kernel_size, self.strides, self.dilation_rate, strict=True
            )
        )
        return (self.filters, *lengths) if first else (*lengths, self.filters)

    # The step: products are always (…, rows, cols, 4·filters), whatever the data format. Gates and
    # states have the data format, in which an activation like softmax sees them.

    def product(self, x: Tensor, kernel: Tensor) -> Tensor:
        images = x.reshape(-1, *x.shape[-3:])
        y = self._convolve(images, kernel, self.padding, self.strides, self.dilation_rate)
        return y.reshape(*x.shape[:-3], *y.shape[1:])

    def recurrent_product(self, h: Tensor, kernel: Tensor) -> Tensor:
        return self._convolve(h, kernel, "same")

    def step(
        self, projected: Tensor, states: States, masks: DropoutMasks = NO_DROPOUT
    ) -> tuple[Tensor, States]:
        h, c = states
        z, axis = self.sums(projected, h, self.kernels()[1], masks.recurrent), -1
        if self.data_format == CHANNELS_FIRST:
            z, axis = z.movedim(-1, 1), 1
        return lstm_step(z, c, self.activation, self.recurrent_activation, axis)

    def _convolve(
        self,
        x: Tensor,
        kernel: Tensor,
        padding: str,
        strides: Pair = (1, 1),
        dilation: Pair = (1, 1),
    ) -> Tensor:
        return convolve(self._channels_last(x), kernel, padding, strides, dilation)

    def _channels_last(self, x: Tensor) -> Tensor:
        return x.movedim(1, -1) if self.data_format == CHANNELS_FIRST else x

    def get_initial_state(
        self,
        batch_size: int,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> States:
        raise TypeError(
            "The size of a ConvLSTM2DCell's state depends on that of its inputs: take zeros of "
            "`(batch, *cell.state_shape(input_shape))`."
        )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["units"]
        return {
            **config,
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "dilation_rate": self.dilation_rate,
            "recurrent_activation": activations.serialize(self.recurrent_activation),
            "unit_forget_bias": self.unit_forget_bias,
        }


def _one_of(value: str, known: tuple[str, ...], name: str) -> str:
    if value not in known:
        raise ValueError(f"The `{name}` argument must be one of {known}. Received: {value!r}")
    return value
