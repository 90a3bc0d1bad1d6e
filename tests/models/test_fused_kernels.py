"""Torch's fused kernels: chosen where the options are theirs, with the results of the loop.

A subclass of a cell may compute anything and so has no kernel: an empty one takes the loop, and
computes the same.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.overrides import TorchFunctionMode

from models import GRU, LSTM, RNN, GRUCell, LSTMCell, Sequential, SimpleRNN, SimpleRNNCell, fused
from models.cells import CuDNNGRUCell, CuDNNLSTMCell

FEATURES, UNITS = 3, 4
ALL: dict[str, Any] = {"return_sequences": True, "return_state": True}
SIGMOID = {"recurrent_activation": "sigmoid"}
KERNELS = (torch.rnn_tanh, torch.rnn_relu, torch.lstm, torch.gru)

FUSED: dict[str, tuple[type, dict[str, Any], Any]] = {
    "SimpleRNN tanh": (SimpleRNNCell, {}, torch.rnn_tanh),
    "SimpleRNN relu": (SimpleRNNCell, {"activation": "relu"}, torch.rnn_relu),
    "SimpleRNN no bias": (SimpleRNNCell, {"use_bias": False}, torch.rnn_tanh),
    "LSTM": (LSTMCell, SIGMOID, torch.lstm),
    "LSTM no bias": (LSTMCell, {**SIGMOID, "use_bias": False}, torch.lstm),
    "GRU": (GRUCell, {**SIGMOID, "reset_after": True}, torch.gru),
    "GRU no bias": (GRUCell, {**SIGMOID, "reset_after": True, "use_bias": False}, torch.gru),
    "CuDNNLSTM": (CuDNNLSTMCell, {}, torch.lstm),
    "CuDNNGRU": (CuDNNGRUCell, {}, torch.gru),
}
every_kernel = pytest.mark.parametrize(
    ("kind", "options", "kernel"), FUSED.values(), ids=list(FUSED)
)

LOOP: list[tuple[type, dict[str, Any]]] = [
    (SimpleRNNCell, {"activation": "sigmoid"}),
    (SimpleRNNCell, {"activation": lambda x: x.tanh()}),
    (LSTMCell, {}),
    (LSTMCell, {**SIGMOID, "activation": "relu"}),
    (GRUCell, SIGMOID),
    (GRUCell, {"reset_after": True}),
    (GRUCell, {**SIGMOID, "reset_after": True, "activation": "relu"}),
]


class Calls(TorchFunctionMode):
    """Which of the fused kernels are called meanwhile, and whether for training."""

    TRAIN = 6  # the place of that argument

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[Any] = []
        self.trains: list[bool] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in KERNELS:
            self.kernels.append(func)
            self.trains.append(args[self.TRAIN])
        return func(*args, **(kwargs or {}))


def called(layer: Any, *args: Any, **kwargs: Any) -> list[Any]:
    with Calls() as calls:
        layer(*args, **kwargs)
    return calls.kernels


def random_inputs(batch: int = 2, time: int = 5, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(batch, time, FEATURES, dtype=torch.float64)


def twins(kind: Any, options: dict[str, Any], x: Tensor) -> tuple[RNN, RNN]:
    """A layer that has a kernel, and one with the same weights that has none."""
    layer = RNN(kind(UNITS, bias_initializer="normal", **options), **ALL)
    loop = RNN(type("Own", (kind,), {})(UNITS, **options), **ALL)
    layer(x)
    loop(x)
    loop.set_weights(layer.get_weights())
    return layer, loop


def answers(layer: RNN, x: Tensor, start: list[Tensor], **arguments: Any) -> list[Tensor]:
    """Outputs and states, and the gradients of all that goes in."""
    inputs = [tensor.clone().requires_grad_() for tensor in (x, *start)]
    returned = layer(inputs[0], initial_state=inputs[1:], **arguments)
    loss = sum((n * part.square()).sum() for n, part in enumerate(returned, start=1))
    gradients = torch.autograd.grad(loss, [*inputs, *layer.weights], materialize_grads=True)
    return [*returned, *gradients]


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


@every_kernel
def test_a_kernel_is_called_once_for_all_timesteps(kind, options, kernel) -> None:
    x = random_inputs()
    layer, loop = twins(kind, options, x)

    assert called(layer, x) == called(layer, x, training=True) == [kernel]
    assert called(layer.eval(), x) == [kernel]
    assert called(loop, x) == []


@pytest.mark.parametrize(("kind", "options"), LOOP)
def test_other_options_take_the_loop(kind, options) -> None:
    layer = RNN(kind(UNITS, **options))

    assert called(layer, random_inputs()) == []


@pytest.mark.parametrize("rates", [{"dropout": 0.5}, {"recurrent_dropout": 0.5}])
@pytest.mark.parametrize("make", [SimpleRNN, lambda n, **o: LSTM(n, **SIGMOID, **o)])
def test_dropout_that_acts_takes_the_loop(make, rates) -> None:
    x, layer = random_inputs(), make(UNITS, **rates)

    assert called(layer, x) == []
    assert len(called(layer, x, training=False)) == len(called(layer.eval(), x)) == 1
    assert called(layer, x, training=True) == []
    assert len(called(make(UNITS, dropout=1.0), x)) == 1  # a rate of 1 does not act


def test_layers_of_a_stack_and_of_a_model_have_theirs() -> None:
    stack = RNN([LSTMCell(2, **SIGMOID), GRUCell(2), SimpleRNNCell(2)])
    model = Sequential([GRU(2, reset_after=True, return_sequences=True, **SIGMOID), LSTM(2)])

    assert called(stack, random_inputs()) == [torch.lstm, torch.rnn_tanh]
    assert called(model, random_inputs()) == [torch.gru]


@every_kernel
@given(
    batch=st.integers(1, 3),
    lengths=st.none() | st.lists(st.integers(0, 4), min_size=3, max_size=3),
    seed=st.integers(0, 99),
)
@settings(max_examples=10, deadline=None)
def test_the_kernel_computes_what_the_loop_does(kind, options, kernel, batch, lengths, seed):
    """With masks that pad on the right, rows without any timestep included; gradients, too."""
    x = random_inputs(batch, 4, seed)
    layer, loop = twins(kind, options, x)
    start = [torch.randn(batch, UNITS, dtype=torch.float64) for _ in layer.state_shapes]
    mask = None if lengths is None else torch.arange(4) < torch.tensor(lengths[:batch])[:, None]

    assert called(layer, x, mask=mask) == [kernel]
    close(answers(layer, x, start, mask=mask), answers(loop, x, start, mask=mask))


@every_kernel
def test_other_masks_take_the_loop(kind, options, kernel) -> None:
    x = random_inputs()
    layer, loop = twins(kind, options, x)
    start = [torch.randn(2, UNITS, dtype=torch.float64) for _ in layer.state_shapes]
    mask = torch.tensor([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1]])

    assert called(layer, x, mask=mask) == []
    close(answers(layer, x, start, mask=mask), answers(loop, x, start, mask=mask))


@every_kernel
def test_backwards(kind, options, kernel) -> None:
    """What pads on the right comes first then: no kernel for that."""
    x = random_inputs()
    layer, loop = twins(kind, options, x)
    layer.go_backwards = loop.go_backwards = True
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])

    assert called(layer, x) == [kernel]
    assert called(layer, x, mask=mask.flip(1)) == [kernel]
    assert called(layer, x, mask=mask) == []
    close(layer(x, mask=mask.flip(1)), loop(x, mask=mask.flip(1)))


@every_kernel
def test_gradients_in_eval_mode(kind, options, kernel) -> None:
    """cuDNN makes none there unless it is told that this is training."""
    x = random_inputs()
    layer, loop = twins(kind, options, x)
    start = layer.get_initial_state(x)

    with Calls() as calls:
        close(answers(layer.eval(), x, start), answers(loop.eval(), x, start))
        with torch.no_grad():
            layer.train()(x)
    assert calls.trains == [True, False]


@every_kernel
def test_empty_batches(kind, options, kernel) -> None:
    layer, _ = twins(kind, options, random_inputs())
    empty = torch.zeros(0, 5, FEATURES, dtype=torch.float64)

    for mask in (None, torch.ones(0, 5, dtype=torch.bool)):
        outputs, *states = layer(empty, mask=mask)
        assert outputs.shape == (0, 5, UNITS)
        assert all(state.shape == (0, UNITS) for state in states)


def test_a_stack_gives_zeros_where_no_timestep_counts() -> None:
    """Unlike a layer of one cell, which gives h₀."""
    x, mask = random_inputs(), torch.tensor([[False] * 5, [True] * 5])
    start = torch.ones(2, UNITS, dtype=torch.float64)
    stack, layer = RNN([SimpleRNNCell(UNITS)], **ALL), RNN(SimpleRNNCell(UNITS), **ALL)

    assert called(stack, x, mask=mask) == [torch.rnn_tanh]
    for tested, expected in ((stack, 0), (layer, 1)):
        outputs, state = tested(x, mask=mask, initial_state=start)
        assert (outputs[0] == expected).all()
        assert (state[0] == 1).all()


def test_kernels_are_chosen_by_exact_type() -> None:
    assert fused.kernel_of(LSTMCell(UNITS, **SIGMOID), training=True) is torch.lstm
    assert fused.kernel_of(type("Own", (LSTMCell,), {})(UNITS, **SIGMOID), training=True) is None
    assert fused.kernel_of(object(), training=False) is None
