"""ConvLSTM2D against its equations in numpy, with a convolution that is a loop over windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from models import LSTM, RNN, ConvLSTM2D, ConvLSTM2DCell

CHANNELS, FILTERS, SIZE = 2, 3, (7, 6)
ALL: dict[str, Any] = {"return_sequences": True, "return_state": True}

GEOMETRIES: list[dict[str, Any]] = [
    {"kernel_size": 3},
    {"kernel_size": (2, 3), "padding": "same"},
    {"kernel_size": (4, 1), "padding": "same"},
    {"kernel_size": 3, "strides": 2, "padding": "same"},
    {"kernel_size": (2, 3), "strides": (3, 2), "padding": "same"},
    {"kernel_size": (3, 2), "strides": (2, 3)},
    {"kernel_size": (1, 2), "strides": 3, "padding": "same"},  # strides that leave gaps
    {"kernel_size": (2, 3), "dilation_rate": (3, 2)},
    {"kernel_size": (3, 2), "dilation_rate": 2, "padding": "same"},
]
every_geometry = pytest.mark.parametrize("options", GEOMETRIES, ids=str)


def axis_windows(length: int, kernel: int, padding: str, stride: int, dilation: int) -> list[range]:
    """Where each output looks along one axis; negative or too large is padding.

    TensorFlow: SAME has ceil(length / stride) outputs, and of the padding that this takes the
    smaller half before the input; VALID has none, and all windows that fit.
    """
    extent = (kernel - 1) * dilation + 1
    if padding == "same":
        count = int(np.ceil(length / stride))
        before = max((count - 1) * stride + extent - length, 0) // 2
    else:
        count, before = int(np.ceil((length - extent + 1) / stride)), 0
    starts = [number * stride - before for number in range(count)]
    return [range(start, start + extent, dilation) for start in starts]


def convolution(
    images: np.ndarray, kernel: np.ndarray, padding: str, strides: Any, dilation: Any
) -> np.ndarray:
    """`(B, rows, cols, C)` with `(kh, kw, C, F)`: one product of numbers after the other."""
    rows, cols = (
        axis_windows(images.shape[1 + a], kernel.shape[a], padding, strides[a], dilation[a])
        for a in (0, 1)
    )
    out = np.zeros((len(images), len(rows), len(cols), kernel.shape[-1]))
    for i, window_rows in enumerate(rows):
        for j, window_cols in enumerate(cols):
            for a, row in enumerate(window_rows):
                for b, col in enumerate(window_cols):
                    if 0 <= row < images.shape[1] and 0 <= col < images.shape[2]:
                        out[:, i, j] += images[:, row, col] @ kernel[a, b]
    return out


def hard_sigmoid(x: np.ndarray) -> np.ndarray:
    return np.clip(0.2 * x + 0.5, 0, 1)


def reference(cell: ConvLSTM2DCell, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> Any:
    """All h of `x (B, T, rows, cols, C)`, channels last, and the last h and c."""
    kernel, recurrent_kernel, bias = cell.get_weights()
    outputs = []
    for t in range(x.shape[1]):
        z = convolution(x[:, t], kernel, cell.padding, cell.strides, cell.dilation_rate) + bias
        z = z + convolution(h, recurrent_kernel, "same", (1, 1), (1, 1))
        i, f, g, o = np.split(z, 4, axis=-1)
        c = hard_sigmoid(f) * c + hard_sigmoid(i) * np.tanh(g)
        h = hard_sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs, axis=1), h, c


def inputs(data_format: str = "channels_last") -> torch.Tensor:
    torch.manual_seed(0)
    x = torch.randn(2, 3, *SIZE, CHANNELS, dtype=torch.float64)
    return x if data_format == "channels_last" else x.movedim(-1, 2)


def to_last(tensor: torch.Tensor, data_format: str) -> np.ndarray:
    moved = tensor if data_format == "channels_last" else tensor.movedim(-3, -1)
    return moved.detach().numpy()


@every_geometry
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_computes_the_equations(options: dict[str, Any], data_format: str) -> None:
    x = inputs(data_format)
    layer = ConvLSTM2D(
        FILTERS, data_format=data_format, bias_initializer="normal", **options, **ALL
    )
    layer(x)
    start = [torch.randn_like(state) for state in layer.get_initial_state(x)]

    found = layer(x, initial_state=start)

    h, c = (to_last(state, data_format) for state in start)
    expected = reference(layer.cell, to_last(x, data_format), h, c)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(to_last(ours, data_format), theirs, rtol=0, atol=1e-12)
    assert layer.compute_output_shape(tuple(x.shape)) == [tuple(part.shape) for part in found]


def test_same_padding_puts_the_smaller_half_first() -> None:
    """Kernel [1, 10] on 1, 2, 3, stride 1: 1 + 20, 2 + 30, 3 + 0. Torch's own would begin with 0.

    Activations are linear and the gates' biases open them: h = c = z.
    """
    layer = ConvLSTM2D(1, (1, 2), padding="same", activation="linear")
    layer.build((1, 1, 1, 3, 1))
    kernel, recurrent_kernel, _ = layer.get_weights()
    kernel[:] = recurrent_kernel[:] = 0
    kernel[0, :, 0, 2] = 1, 10
    layer.set_weights([kernel, recurrent_kernel, np.array([9, 9, 0, 9])])

    assert layer(torch.tensor([1.0, 2, 3]).reshape(1, 1, 1, 3, 1)).flatten().tolist() == [21, 32, 3]


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_on_single_pixels_it_is_an_lstm(data_format: str) -> None:
    x = torch.randn(2, 5, CHANNELS, dtype=torch.float64)
    images = x[:, :, None, None, :] if data_format == "channels_last" else x[..., None, None]
    lstm = LSTM(FILTERS, bias_initializer="normal", **ALL)
    expected = lstm(x)
    layer = ConvLSTM2D(FILTERS, 1, data_format=data_format, **ALL)
    layer(images)
    weights = lstm.get_weights()
    layer.set_weights([weights[0][None, None], weights[1][None, None], weights[2]])

    found = [part.reshape(like.shape) for part, like in zip(layer(images), expected, strict=True)]

    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_weights() -> None:
    layer = ConvLSTM2D(FILTERS, (2, 4), bias_initializer="zeros")
    layer.build((None, None, *SIZE, CHANNELS))

    assert [weight.shape for weight in layer.weights] == [(2, 4, 2, 12), (2, 4, 3, 12), (12,)]
    assert layer.bias.tolist() == [0] * 3 + [1] * 3 + [0] * 6
    flat = layer.recurrent_kernel.detach().reshape(2 * 4 * FILTERS, -1)
    torch.testing.assert_close(flat.T @ flat, torch.eye(12), rtol=0, atol=1e-5)


def test_a_stateful_layer_goes_on_where_it_stopped() -> None:
    x = inputs()
    layer = ConvLSTM2D(FILTERS, 3, stateful=True, return_sequences=True)
    pieces = torch.cat([layer(x[:, :1]), layer(x[:, 1:])], dim=1)

    layer.reset_states()

    torch.testing.assert_close(layer(x), pieces, rtol=0, atol=1e-12)
    assert layer.states[0].shape == (2, 5, 4, FILTERS)


@pytest.mark.parametrize("shape", [(2, None, None, 6, CHANNELS), (None, None, 7, 6, CHANNELS)])
def test_a_stateful_layer_needs_the_size_of_batch_and_images(shape: Any) -> None:
    layer = ConvLSTM2D(FILTERS, 3, stateful=True, batch_input_shape=shape)

    with pytest.raises(ValueError, match=r"needs to know its batch size.* number of rows and col"):
        layer.build()
    with pytest.raises(ValueError, match="needs to know its batch size"):
        layer.reset_states()


def test_a_shape_may_be_unknown_where_there_are_no_kept_states() -> None:
    layer = ConvLSTM2D(FILTERS, 3, padding="same", strides=2, **ALL)

    assert layer.compute_output_shape((None, None, None, 6, CHANNELS)) == [
        (None, None, None, 3, FILTERS),
        *[(None, None, 3, FILTERS)] * 2,
    ]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"strides": 2, "dilation_rate": 2}, ValueError, "not supported in conjunction with dila"),
        ({"padding": "full"}, ValueError, r"`padding` argument must be one of .* 'full'"),
        ({"data_format": "nchw"}, ValueError, "`data_format` argument must be one of"),
        ({"kernel_size": (1, 2, 3)}, ValueError, "`kernel_size` argument must be a tuple of 2"),
        ({"strides": 0}, ValueError, "`strides` argument must be a tuple of 2 positive"),
        ({"unroll": True}, TypeError, "Unrolling isn't possible with convolutional RNNs"),
    ],
)
def test_options_that_are_refused(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ConvLSTM2D(FILTERS, **{"kernel_size": 3, **options})


def test_inputs_that_are_refused() -> None:
    with pytest.raises(ValueError, match="expected ndim=5, found ndim=4"):
        ConvLSTM2D(FILTERS, 3)(torch.zeros(2, 3, 7, CHANNELS))
    with pytest.raises(ValueError, match="A kernel that covers 7 elements"):
        ConvLSTM2D(FILTERS, 3, dilation_rate=3)(torch.zeros(2, 3, *SIZE, CHANNELS))
    with pytest.raises(ValueError, match=r"expected shape=\(2, 5, 4, 3\), found shape=\(2, 4, 5"):
        RNN(ConvLSTM2DCell(FILTERS, 3))(
            torch.zeros(2, 3, *SIZE, CHANNELS), initial_state=[torch.zeros(2, 4, 5, 3)] * 2
        )
    with pytest.raises(TypeError, match="depends on that of its inputs"):
        ConvLSTM2DCell(FILTERS, 3).get_initial_state(2)
