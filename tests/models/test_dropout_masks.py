"""Dropout masks: how often they are zero, how long they last, when there are none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from models import (
    LSTM,
    RNN,
    ConvLSTM2D,
    ConvLSTM2DCell,
    GRUCell,
    Layer,
    LSTMCell,
    SimpleRNN,
    SimpleRNNCell,
    StackedRNNCells,
)

B, T, D, U = 2, 4, 3, 2


@pytest.mark.parametrize(
    ("cell", "count"),
    [
        (SimpleRNNCell(50, dropout=0.3, recurrent_dropout=0.6), 1),
        (GRUCell(50, dropout=0.3, recurrent_dropout=0.6), 3),
        (GRUCell(50, dropout=0.3, recurrent_dropout=0.6, implementation=2), 1),
        (LSTMCell(50, dropout=0.3, recurrent_dropout=0.6), 4),
        (LSTMCell(50, dropout=0.3, recurrent_dropout=0.6, implementation=2), 1),
        (ConvLSTM2DCell(50, 1, dropout=0.3, recurrent_dropout=0.6), 4),
    ],
)
def test_masks_are_zero_as_often_as_the_rate_says(cell: Any, count: int) -> None:
    """And `1 / (1 - rate)` elsewhere; those of different gates are different."""
    torch.manual_seed(0)
    axes = (3, 3) if isinstance(cell, ConvLSTM2DCell) else ()
    x, h = torch.zeros(200, *axes, 40), torch.zeros(200, *axes, 50)
    inputs, recurrent = cell.dropout_masks(x, (h, h), training=True)

    assert len(inputs) == len(recurrent) == count
    for masks, rate, like in ((inputs, 0.3, x), (recurrent, 0.6, h)):
        for mask in masks:
            assert mask.shape == like.shape
            assert torch.equal(mask, (mask > 0) / (1 - rate))
            assert (mask == 0).float().mean().item() == pytest.approx(rate, abs=0.03)
        assert len({tuple(mask.flatten().tolist()) for mask in masks}) == count


@pytest.mark.parametrize(
    ("rate", "clamped"), [(-0.5, 0.0), (0.0, 0.0), (0.4, 0.4), (1.0, 1.0), (1.5, 1.0)]
)
def test_rates_are_clamped_and_act_between_zero_and_one(rate: float, clamped: float) -> None:
    cell = LSTMCell(U, dropout=rate, recurrent_dropout=rate)
    masks = cell.dropout_masks(torch.zeros(B, D), (torch.zeros(B, U),) * 2, training=True)

    assert (cell.dropout, cell.recurrent_dropout) == (clamped, clamped)
    assert (masks.inputs is None) == (masks.recurrent is None) == (clamped in (0.0, 1.0))
    assert cell.drops(training=True) == (clamped == 0.4)


def seeing(rate: float = 0.5, **options: Any) -> dict[str, Any]:
    """Options of a SimpleRNN whose outputs are its inputs, as the mask leaves them."""
    return {
        "activation": "linear",
        "kernel_initializer": "identity",
        "recurrent_initializer": "zeros",
        "dropout": rate,
        **options,
    }


class Wrapping(Layer):
    """A cell of one's own around a built-in one."""

    def __init__(self, cell: SimpleRNNCell) -> None:
        super().__init__()
        self.cell, self.state_size = cell, cell.state_size

    def build(self, input_shape: Any) -> None:
        self.cell.build(input_shape)
        self.built = True

    def call(self, inputs: Tensor, states: Any) -> Any:
        return self.cell.call(inputs, states)


class Extended(SimpleRNNCell):
    def call(self, inputs: Tensor, states: Any, training: bool | None = None) -> Any:
        return super().call(inputs, states, training)


class Stack(StackedRNNCells):
    pass


LAYERS = {
    "SimpleRNN": lambda: SimpleRNN(50, return_sequences=True, **seeing()),
    "stack": lambda: RNN([SimpleRNNCell(50, **seeing())], return_sequences=True),
    "wrapped": lambda: RNN(Wrapping(SimpleRNNCell(50, **seeing())), return_sequences=True),
    "extended": lambda: RNN(Extended(50, **seeing()), return_sequences=True),
    "subclass of a stack": lambda: RNN(
        Stack([SimpleRNNCell(50, **seeing())]), return_sequences=True
    ),
}
every_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=list(LAYERS))


@every_layer
def test_one_draw_for_all_timesteps_of_a_call_and_a_new_one_for_the_next(make) -> None:
    layer, x = make(), torch.ones(B, T, 50)
    first, second = layer(x), layer(x)

    for outputs in (first, second):
        assert set(outputs.flatten().tolist()) == {0.0, 2.0}
        assert torch.equal(outputs, outputs[:, :1].expand_as(outputs))
        assert not torch.equal(outputs[0], outputs[1])  # each row of a batch has its own
    assert not torch.equal(first, second)


@every_layer
def test_masked_timesteps_do_not_disturb_the_draw(make) -> None:
    layer, x = make(), torch.ones(B, T, 50)
    outputs = layer(x, mask=torch.tensor([[1, 0, 1, 1], [1, 1, 0, 1]]))

    assert torch.equal(outputs, outputs[:, :1].expand_as(outputs))


@every_layer
def test_off_in_eval_mode(make) -> None:
    layer, x = make().eval(), torch.ones(B, T, 50)

    assert torch.equal(layer(x), x)


def test_training_says_otherwise() -> None:
    x = torch.ones(B, T, 50)
    for layer in (LAYERS["SimpleRNN"](), LAYERS["stack"](), LAYERS["extended"]()):
        assert torch.equal(layer(x, training=False), x)
        assert not torch.equal(layer.eval()(x, training=True), x)


def test_a_cell_called_by_itself_draws_at_every_call() -> None:
    cell, x, h = SimpleRNNCell(50, **seeing()), torch.ones(B, 50), torch.zeros(B, 50)
    outputs = [cell(x, (h,))[0] for _ in range(2)]

    assert not torch.equal(*outputs)
    assert torch.equal(cell.call(x, (h,), training=False)[0], x)


def test_an_error_in_a_call_holds_no_masks_for_the_next() -> None:
    class Failing(Extended):
        fails = True

        def call(self, inputs: Tensor, states: Any, training: bool | None = None) -> Any:
            output = super().call(inputs, states, training)
            if self.fails:
                raise ArithmeticError
            return output

    layer, x = RNN(Failing(50, **seeing())), torch.ones(B, T, 50)
    with pytest.raises(ArithmeticError):
        layer(x)
    layer.cell.fails = False

    assert not torch.equal(layer.cell(x[:, 0], (x[:, 0],))[0], layer.cell(x[:, 0], (x[:, 0],))[0])


@pytest.mark.parametrize("make", [LSTM, lambda n, **o: ConvLSTM2D(n, 1, **o)])
def test_the_same_seed_draws_the_same_masks(make) -> None:
    layer = make(3, dropout=0.5, recurrent_dropout=0.5)
    x = torch.randn(2, 4, 3) if make is LSTM else torch.randn(2, 4, 2, 2, 3)
    layer(x)

    answers = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        answers.append(layer(x))
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])
