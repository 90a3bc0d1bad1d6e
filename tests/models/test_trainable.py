"""`trainable`: a weight may change if the layer that has it and all layers around that say so.

Each layer has a flag of its own. Whatever the order in which flags are set, before or after
building, what counts in the end is the flags alone.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import torch

from models import (
    LSTM,
    RNN,
    ConvLSTM2D,
    Dense,
    GatedFeedbackRNN,
    GRUCell,
    Layer,
    LSTMCell,
    Normalization,
    Sequential,
    SimpleRNNCell,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE = (2, 3, 4)


def lstm() -> tuple[Layer, Layer]:
    layer = LSTM(2)
    return layer, layer.cell


def convolutional() -> tuple[Layer, Layer]:
    layer = ConvLSTM2D(2, 1)
    return layer, layer.cell


def stack() -> tuple[Layer, Layer]:
    layer = RNN([LSTMCell(2), GRUCell(2)])
    return layer, layer.cell.cells[0]


def feedback() -> tuple[Layer, Layer]:
    layer = GatedFeedbackRNN((2, 3), kind="gru")
    return layer, layer.cell.layers[0]


def model() -> tuple[Layer, Layer]:
    layers = [LSTM(2, return_sequences=True), Dense(2)]
    return Sequential(layers), layers[0]


NESTED = {made.__name__: made for made in (lstm, convolutional, stack, feedback, model)}


def shape_for(layer: Layer) -> tuple[int, ...]:
    return (2, 3, 4, 4, 2) if isinstance(layer, ConvLSTM2D) else SHAPE


def free(layer: Layer) -> set[int]:
    """The weights that an optimiser would change."""
    return {id(weight) for weight in layer.parameters() if weight.requires_grad}


@pytest.mark.parametrize("make", NESTED.values(), ids=list(NESTED))
@pytest.mark.parametrize("order", list(itertools.permutations(["inner", "outer", "build"])))
def test_an_inner_layer_stays_frozen(make: Callable[..., Any], order: tuple[str, ...]) -> None:
    """The outer flag goes down and up again; the inner one, down, stays."""
    outer, inner = make()
    for step in order:
        if step == "inner":
            inner.trainable = False
        elif step == "outer":
            outer.trainable = False
            outer.trainable = True
        else:
            outer.build(shape_for(outer))

    of_inner = {id(weight) for weight in inner.parameters()}
    of_all = {id(weight) for weight in outer.parameters()}
    assert of_inner
    assert free(outer) == of_all - of_inner
    assert {id(weight) for weight in outer.trainable_weights} == of_all - of_inner
    assert {id(weight) for weight in outer.non_trainable_weights} == of_inner


@pytest.mark.parametrize("make", NESTED.values(), ids=list(NESTED))
@pytest.mark.parametrize("order", list(itertools.permutations(["inner", "outer", "build"])))
def test_nothing_trains_in_a_frozen_layer(make: Callable[..., Any], order: tuple[str, ...]) -> None:
    """Though the inner layer says that it may; and it does once the outer one says so, too."""
    outer, inner = make()
    for step in order:
        if step == "inner":
            inner.trainable = False
            inner.trainable = True
        elif step == "outer":
            outer.trainable = False
        else:
            outer.build(shape_for(outer))

    assert not free(outer)
    assert outer.trainable_weights == []
    assert len(outer.non_trainable_weights) == len(list(outer.parameters())) > 0

    outer.trainable = True
    assert free(outer) == {id(weight) for weight in outer.parameters()}


def test_frozen_from_the_start_and_built_by_a_call() -> None:
    layer = RNN([LSTMCell(2, trainable=False), GRUCell(3)])
    frozen = LSTM(2, trainable=False)
    inputs = torch.randn(SHAPE)

    assert not frozen(inputs).requires_grad
    layer(inputs).sum().backward()

    first, second = layer.cell.cells
    assert all(weight.grad is None for weight in first.weights)
    assert all(weight.grad is not None for weight in second.weights)


def test_flags_are_part_of_the_config() -> None:
    layer = RNN([LSTMCell(2, trainable=False), GRUCell(3)], trainable=False)
    twin = RNN.from_config(layer.get_config())
    twin.trainable = True
    twin.build(SHAPE)

    assert [cell.trainable for cell in twin.cell.cells] == [False, True]
    assert len(twin.trainable_weights) == 3


def test_frozen_layers_train_no_more() -> None:
    """One step of an optimiser that was made before the freezing."""
    made = Sequential([Normalization(), LSTM(2, return_sequences=True), Dense(1)])
    made.build(SHAPE)
    optimizer = torch.optim.SGD(made.parameters(), lr=1.0)
    before = made.get_weights()
    made.layers[1].trainable = False

    made(torch.randn(SHAPE)).square().sum().backward()
    optimizer.step()

    same = [bool((a == b).all()) for a, b in zip(before, made.get_weights(), strict=True)]
    assert same == [True, True, True, True, True, False, False]  # buffers, LSTM; Dense


class Counting(Layer):
    """A cell with two weights that are trained, and one between them that is not."""

    state_size = 2

    def build(self, input_shape: Any) -> None:
        self.a = self.add_weight("a", (input_shape[-1], 2))
        self.n = self.add_weight("n", (1,), initializer="zeros", trainable=False)
        self.b = self.add_weight("b", (2,), initializer="ones")
        self.built = True

    def call(self, inputs: torch.Tensor, states: Any) -> Any:
        output = inputs @ self.a + self.b + states[0] + self.n
        return output, [output]


@pytest.mark.parametrize("frozen", [[], ["cell"], ["layer"], ["cell", "layer"]])
def test_weights_keep_their_order(frozen: list[str]) -> None:
    """Those that are never trained are last, frozen or not."""
    layer = RNN(Counting())
    layer.build(SHAPE)
    cell = layer.cell
    expected = [cell.a, cell.n, cell.b]
    for name in frozen:
        (cell if name == "cell" else layer).trainable = False

    for owner in (cell, layer):
        assert [id(weight) for weight in owner.weights] == [
            id(expected[index]) for index in (0, 2, 1)
        ]
    assert not cell.n.requires_grad

    cell.trainable = layer.trainable = True
    assert [weight.requires_grad for weight in expected] == [True, False, True]
    assert [id(weight) for weight in layer.non_trainable_weights] == [id(cell.n)]


def test_a_frozen_cell_of_a_stack_comes_last() -> None:
    """As in Keras: the weights that are trained, then the others, each cell by cell."""
    layer = RNN([SimpleRNNCell(2), Counting(), SimpleRNNCell(3)])
    layer.build(SHAPE)
    first, counting, last = layer.cell.cells
    first.trainable = False

    trained = [counting.a, counting.b, *last.weights]
    others = [*first.weights, counting.n]
    assert [id(weight) for weight in layer.weights] == [id(weight) for weight in trained + others]

    layer.trainable = False
    assert [id(weight) for weight in layer.weights] == [id(weight) for weight in trained + others]
