"""Masking: which timesteps count, by a value; and how its mask reaches the layers that need it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from models import (
    GRU,
    LSTM,
    RNN,
    ConvLSTM2D,
    Dense,
    GRUCell,
    LSTMCell,
    Masking,
    Sequential,
    SimpleRNN,
    deserialize,
    serialize,
)

FEATURES, UNITS = 2, 3
ALL: dict[str, Any] = {"return_sequences": True, "return_state": True}


def padded(value: float = 0.0) -> tuple[Tensor, Tensor]:
    """Two sequences of 4 and 2 timesteps, padded to 5 with `value`; the mask."""
    torch.manual_seed(0)
    mask = torch.arange(5) < torch.tensor([[4], [2]])
    x = torch.randn(2, 5, FEATURES, dtype=torch.float64)
    return torch.where(mask[..., None], x, value), mask


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


def test_a_timestep_counts_unless_all_features_are_the_value() -> None:
    x = torch.tensor([[[0.0, 0.0], [0.0, 1.0], [-1.0, -1.0], [2.0, -1.0]]])

    assert Masking().compute_mask(x).tolist() == [[False, True, True, True]]
    assert Masking(-1.0).compute_mask(x).tolist() == [[True, True, False, True]]
    assert Masking()(x).tolist() == x.tolist()
    assert Masking(-1.0)(x).tolist() == [[[0, 0], [0, 1], [0, 0], [2, -1]]]


def test_it_has_no_weights_and_keeps_the_shape() -> None:
    layer = Masking(7.0, input_shape=(5, 2))
    twin = deserialize(json.loads(json.dumps(serialize(layer))))
    layer.build((None, 5, 2))

    assert layer.weights == []
    assert layer.compute_output_shape((None, 5, 2)) == (None, 5, 2)
    assert twin.get_config() == layer.get_config()
    assert twin.mask_value == 7.0


@pytest.mark.parametrize("value", [0.0, 9.0])
def test_in_a_model_and_by_hand(value: float) -> None:
    """Each sequence for itself, without its padding, gives the same."""
    x, mask = padded(value)
    model = Sequential([Masking(value), LSTM(UNITS, return_sequences=True), GRU(UNITS), Dense(1)])
    found = model(x)
    masking, lstm, gru, dense = model.layers

    outputs = lstm(masking(x), mask=masking.compute_mask(x))
    by_hand = dense(gru(outputs, mask=mask))
    alone = [model(x[row : row + 1, mask[row]]) for row in range(2)]
    close(found, by_hand)
    close(found, torch.cat(alone))


def test_its_mask_takes_the_place_of_the_models() -> None:
    """As in Keras, where a Masking asks nobody."""
    x, mask = padded()
    model = Sequential([Masking(), SimpleRNN(UNITS)])

    close(model(x, mask=torch.zeros_like(mask)), model(x))


def test_a_layer_without_sequences_ends_the_mask() -> None:
    x, mask = padded()
    model = Sequential([Masking(), GRU(UNITS)])
    model(x)
    stack = Sequential([Masking(), GRU(UNITS, return_sequences=True), Dense(2)])
    stack(x)

    assert model.layers[1].compute_mask(x, mask) is None
    assert stack.layers[1].compute_mask(x, mask) is mask
    assert stack.layers[2].compute_mask(x, mask) is mask


@pytest.mark.parametrize(
    "layer",
    [
        SimpleRNN(UNITS, **ALL),
        LSTM(UNITS, **ALL),
        GRU(UNITS, reset_after=True, recurrent_activation="sigmoid", **ALL),
        RNN([LSTMCell(2), GRUCell(UNITS)], **ALL),
    ],
)
def test_of_several_masks_the_first_counts(layer: RNN) -> None:
    """One comes with the inputs, the others with states: of those nothing is masked."""
    x, mask = padded()
    expected = layer(x, mask=mask)

    close(layer(x, mask=[mask, None, None]), expected)
    close(layer(x, mask=(mask, torch.zeros(2, 9))), expected)
    close(layer(x, mask=[None, mask]), layer(x))
    assert layer.compute_mask(x, [mask, None])[0] is mask


@pytest.mark.parametrize(
    "make",
    [
        lambda **options: SimpleRNN(UNITS, **options),
        lambda **options: LSTM(UNITS, **options),
        lambda **options: RNN([GRUCell(UNITS), LSTMCell(UNITS)], **options),
    ],
)
def test_an_unrolled_layer_gives_zeros_before_the_first_step_that_counts(make) -> None:
    """Where a loop gives h₀; all else is the same."""
    x, _ = padded()
    mask = torch.tensor([[0, 1, 0, 1, 1], [1, 1, 1, 0, 0]]).bool()
    unrolled = make(unroll=True, **ALL)
    start = [torch.randn_like(state) for state in unrolled.get_initial_state(x)]
    found = unrolled(x, mask=mask, initial_state=start)
    looped = RNN(unrolled.cell, **ALL)(x, mask=mask, initial_state=start)

    assert (found[0][0, 0] == 0).all()
    close(found[0].flatten(0, 1)[1:], looped[0].flatten(0, 1)[1:])
    close(found[1:], looped[1:])


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float64])
@pytest.mark.parametrize("rows", [[[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]], [[0, 1, 0, 1, 1]] * 2])
def test_a_mask_may_have_any_type(dtype: torch.dtype, rows: list[list[int]]) -> None:
    x, _ = padded()
    mask = torch.tensor(rows, dtype=dtype)

    for layer in (SimpleRNN(UNITS, **ALL), LSTM(UNITS, **ALL)):
        close(layer(x, mask=mask), layer(x, mask=mask.bool()))


@pytest.mark.parametrize(
    "layer",
    [SimpleRNN(UNITS), LSTM(UNITS), GRU(UNITS), RNN([LSTMCell(2), GRUCell(UNITS)])],
)
def test_empty_batches(layer: RNN) -> None:
    x, mask = padded()
    layer(x)

    assert layer(x[:0], mask=mask[:0]).shape == (0, UNITS)


def test_padding_takes_no_part_in_the_gradient() -> None:
    """Its own gradient is zero, however large it is, and no other is."""
    x, mask = padded(1e3)
    for layer in (SimpleRNN(UNITS), LSTM(UNITS), RNN([LSTMCell(2), GRUCell(UNITS)])):
        inputs = x.clone().requires_grad_()
        layer(inputs, mask=mask).square().sum().backward()

        assert (inputs.grad[~mask] == 0).all()
        assert (inputs.grad[mask].abs().sum(dim=-1) > 0).all()


def test_frames_of_a_video_may_be_masked() -> None:
    x = torch.randn(2, 5, 4, 4, 1, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 0, 0, 0], [1, 0, 1, 1, 1]]).bool()
    layer = ConvLSTM2D(UNITS, 3, **ALL)
    outputs, *states = layer(x, mask=mask)

    for row in range(2):
        alone, *final = layer(x[row : row + 1, mask[row]])
        close(outputs[row : row + 1, mask[row]], alone)
        close([state[row : row + 1] for state in states], final)
    close(outputs[0, 2:], outputs[0, 1].expand(3, -1, -1, -1))
