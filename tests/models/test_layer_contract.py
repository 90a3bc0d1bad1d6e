"""What every layer promises, whatever it computes: weights, shapes, states, attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from models import (
    GRU,
    LSTM,
    RNN,
    ConvLSTM2D,
    CuDNNLSTM,
    GatedFeedbackRNN,
    GRUCell,
    Layer,
    LSTMCell,
    SimpleRNN,
    SimpleRNNCell,
)

FEATURES, UNITS = 3, 4
SHAPE = (2, 5, FEATURES)

FAMILY = {
    "SimpleRNN": (lambda **options: SimpleRNN(UNITS, **options), SHAPE),
    "GRU": (lambda **options: GRU(UNITS, reset_after=True, **options), SHAPE),
    "LSTM": (lambda **options: LSTM(UNITS, **options), SHAPE),
    "CuDNNLSTM": (lambda **options: CuDNNLSTM(UNITS, **options), SHAPE),
    "stack": (lambda **options: RNN([LSTMCell(2), GRUCell(UNITS)], **options), SHAPE),
    "GatedFeedbackRNN": (lambda **options: GatedFeedbackRNN((2, UNITS), **options), SHAPE),
    "ConvLSTM2D": (lambda **options: ConvLSTM2D(2, 3, **options), (2, 5, 6, 7, FEATURES)),
}
every_layer = pytest.mark.parametrize(("make", "shape"), FAMILY.values(), ids=list(FAMILY))


def values(layer: Layer) -> list[np.ndarray]:
    """New weights for `layer`: no two alike."""
    sizes = [weight.shape for weight in layer.weights]
    return [np.full(size, 0.1 * n, np.float32) for n, size in enumerate(sizes, start=1)]


def same(layer: Layer, weights: list[np.ndarray]) -> bool:
    return all(map(np.array_equal, layer.get_weights(), weights))


# Weights


@every_layer
@pytest.mark.parametrize("lazily", [False, True])
def test_given_weights_are_set_once_when_the_layer_is_built(make, shape, lazily: bool) -> None:
    twin = make()
    twin.build(shape)
    given = values(twin)
    layer = make(weights=given)

    layer(torch.zeros(shape)) if lazily else layer.build(shape)
    assert same(layer, given)

    trained = [weight + 1 for weight in given]
    layer.set_weights(trained)
    layer.build(shape)
    layer(torch.zeros(shape))
    assert same(layer, trained)


def test_given_weights_must_fit() -> None:
    layer = LSTM(UNITS, weights=[np.zeros((FEATURES, 4 * UNITS))])

    with pytest.raises(ValueError, match="weight list of length 1, but the layer was expecting 3"):
        layer.build(SHAPE)


@pytest.mark.parametrize(
    ("layer", "count"),
    [
        (LSTM(UNITS), 4 * (3 * 4 + 4 * 4 + 4)),
        (GRU(UNITS, reset_after=True), 3 * (3 * 4 + 4 * 4 + 2 * 4)),
        (CuDNNLSTM(UNITS), 4 * (3 * 4 + 4 * 4 + 2 * 4)),
        (RNN([SimpleRNNCell(2), SimpleRNNCell(UNITS)]), 3 * 2 + 2 * 2 + 2 + 2 * 4 + 4 * 4 + 4),
    ],
)
def test_count_params(layer: Layer, count: int) -> None:
    layer.build(SHAPE)

    assert layer.count_params() == count == sum(weight.size for weight in layer.get_weights())


# Shapes


def test_build_takes_the_shape_that_the_layer_was_given() -> None:
    layer = LSTM(UNITS, input_shape=(None, FEATURES))
    layer.build()

    assert layer.kernel.shape == (FEATURES, 4 * UNITS)
    with pytest.raises(ValueError, match="lstm does not know its input shape"):
        LSTM(UNITS).build()


@every_layer
def test_the_first_call_has_the_shape_that_the_layer_was_given(make, shape) -> None:
    layer = make(batch_input_shape=shape)

    with pytest.raises(ValueError, match=r"expected shape=\(None, None, "):
        layer(torch.zeros(*shape[:-1], FEATURES + 1))
    assert not layer.built
    assert layer(torch.zeros(7, 2, *shape[2:])).shape[0] == 7  # batch and time may differ


@every_layer
def test_a_stateful_layer_keeps_to_the_batch_size_that_it_was_given(make, shape) -> None:
    layer = make(batch_input_shape=shape, stateful=True)

    with pytest.raises(ValueError, match=r"expected shape=\(2, None, .* found shape=\(3, "):
        layer(torch.zeros(3, *shape[1:]))
    assert not layer.built


def test_a_single_timestep_cannot_be_unrolled() -> None:
    layer, inputs = LSTM(UNITS, unroll=True), torch.zeros(SHAPE)

    with pytest.raises(ValueError, match="Cannot unroll a RNN if the time dimension is undefined"):
        layer(inputs[:, :1])
    assert layer(inputs[:, :2]).shape == (2, UNITS)


# States


@every_layer
def test_states_that_are_set_before_building_are_kept(make, shape) -> None:
    layer = make(batch_input_shape=shape, stateful=True, return_state=True)
    inputs = torch.randn(shape)
    start = [np.full((2, *size), 0.3, np.float32) for size in layer.state_shapes]

    layer.reset_states(start)
    found = layer(inputs)

    expected = layer(inputs, initial_state=[torch.as_tensor(state) for state in start])
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_states_may_be_assigned() -> None:
    layer, inputs = LSTM(UNITS, stateful=True), torch.randn(SHAPE)
    assert layer.states == [None, None]
    layer(inputs)
    h, c = torch.randn(2, 2, UNITS)

    layer.states = [h, c]

    torch.testing.assert_close(layer(inputs), LSTM.scan(layer, inputs, (h, c))[0][:, -1])


# Attributes


def test_what_the_layer_lacks_is_its_cells() -> None:
    layer = LSTM(UNITS, recurrent_dropout=0.5)
    layer.build(SHAPE)

    assert (layer.units, layer.recurrent_dropout) == (UNITS, 0.5)
    assert layer.kernel is layer.cell.kernel
    with pytest.raises(AttributeError, match="colour"):
        _ = layer.colour


@pytest.mark.parametrize("name", ["activation", "units", "dropout", "kernel", "use_bias"])
def test_what_is_the_cells_is_set_on_the_cell(name: str) -> None:
    layer: Any = LSTM(UNITS)
    layer.build(SHAPE)
    before = getattr(layer.cell, name)

    with pytest.raises(AttributeError, match=rf"set `layer\.cell\.{name}`"):
        setattr(layer, name, before)
    setattr(layer.cell, name, before)
    layer.return_sequences = True  # the layer's own

    assert layer(torch.zeros(SHAPE)).shape == (2, 5, UNITS)
