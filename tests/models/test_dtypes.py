"""Types of numbers: `dtype`, a layer built by a call, kept states, autocast."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models import (
    GRU,
    LSTM,
    RNN,
    ConvLSTM2D,
    CuDNNGRU,
    CuDNNLSTM,
    Dense,
    GatedFeedbackRNN,
    GRUCell,
    LSTMCell,
    Sequential,
    SimpleRNN,
)

FEATURES, UNITS = 3, 4
SHAPE = (2, 5, FEATURES)

FAMILY = {
    "SimpleRNN": (lambda **options: SimpleRNN(UNITS, **options), SHAPE),
    "GRU": (lambda **options: GRU(UNITS, **options), SHAPE),
    "GRU reset_after": (lambda **options: GRU(UNITS, reset_after=True, **options), SHAPE),
    "LSTM": (lambda **options: LSTM(UNITS, **options), SHAPE),
    "CuDNNGRU": (lambda **options: CuDNNGRU(UNITS, **options), SHAPE),
    "CuDNNLSTM": (lambda **options: CuDNNLSTM(UNITS, **options), SHAPE),
    "stack": (lambda **options: RNN([LSTMCell(2), GRUCell(UNITS)], **options), SHAPE),
    "GatedFeedbackRNN": (lambda **options: GatedFeedbackRNN((2, UNITS), "gru", **options), SHAPE),
    "ConvLSTM2D": (lambda **options: ConvLSTM2D(2, 3, **options), (2, 5, 6, 7, FEATURES)),
}
every_layer = pytest.mark.parametrize(("make", "shape"), FAMILY.values(), ids=list(FAMILY))


@every_layer
def test_dtype_is_that_of_all_weights_and_states(make, shape) -> None:
    layer = make(dtype="float64", stateful=True, batch_input_shape=shape)
    layer.build()

    assert {tensor.dtype for tensor in [*layer.weights, *layer.states]} == {torch.float64}
    assert layer.from_config(layer.get_config()).dtype is torch.float64


@every_layer
def test_a_layer_built_by_a_call_has_the_dtype_of_its_inputs(make, shape) -> None:
    layer = make()
    output = layer(torch.zeros(shape, dtype=torch.float64))

    assert {tensor.dtype for tensor in [*layer.weights, output]} == {torch.float64}


def test_a_cells_own_dtype_comes_before_its_layers() -> None:
    layer = RNN([GRUCell(2, dtype="float64"), GRUCell(2)], dtype=torch.float32)
    layer.build(SHAPE)
    first, second = layer.cell.cells

    assert (first.kernel.dtype, second.kernel.dtype) == (torch.float64, torch.float32)


def test_a_models_dtype_is_that_of_its_layers() -> None:
    model = Sequential([LSTM(UNITS), Dense(2)], dtype="float64")
    model.build(SHAPE)

    assert {weight.dtype for weight in model.weights} == {torch.float64}


def test_unknown_dtype() -> None:
    with pytest.raises(ValueError, match="Unknown dtype: 'float31'"):
        LSTM(UNITS, dtype="float31")


def test_states_that_are_set_before_building_lose_no_digits() -> None:
    layer = GRU(UNITS, batch_input_shape=SHAPE, stateful=True)
    layer.reset_states(np.full((2, UNITS), 0.1))
    layer.ensure_built(torch.zeros(SHAPE, dtype=torch.float64))

    assert (layer.states[0] == 0.1).all()


def test_get_weights_of_a_type_that_numpy_lacks() -> None:
    layer = SimpleRNN(UNITS)
    layer(torch.zeros(SHAPE, dtype=torch.bfloat16))
    kernel = layer.get_weights()[0]

    assert kernel.dtype == np.float32
    assert np.array_equal(kernel, layer.kernel.detach().float().numpy())


@every_layer
def test_autocast(make, shape) -> None:
    """bfloat16 has 8 significant bits: outputs near, gradients of one direction."""
    torch.manual_seed(0)
    x = torch.randn(shape)
    layer = make(return_sequences=True)
    expected = layer(x)
    expected.square().sum().backward()
    gradients = [weight.grad.flatten() for weight in layer.weights]
    layer.zero_grad()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(x)
    output.float().square().sum().backward()

    torch.testing.assert_close(output.float(), expected, rtol=0, atol=0.05)
    found = torch.cat([weight.grad.flatten() for weight in layer.weights])
    assert torch.cosine_similarity(found, torch.cat(gradients), dim=0) > 0.99
