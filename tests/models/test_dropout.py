"""Dropout: which product sees which mask, written out with fixed masks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from models import (
    RNN,
    ConvLSTM2DCell,
    GRUCell,
    LSTMCell,
    SimpleRNNCell,
)
from models.activations import hard_sigmoid as s
from models.cells.convolution import convolve
from models.cells.dropout import DropoutMasks

B, T, D, U = 2, 4, 3, 2
ALL: dict[str, Any] = {"return_sequences": True, "return_state": True}


def fixed(kind: Any, masks: DropoutMasks, *arguments: Any, **options: Any) -> RNN:
    """A layer whose cell has `masks` instead of drawing some."""

    class Fixed(kind):  # type: ignore[misc]
        def dropout_masks(self, inputs: Tensor, states: Any, training: bool) -> DropoutMasks:
            return masks

    return RNN(Fixed(*arguments, bias_initializer="normal", **options), **ALL)


def some(count: int, *shape: int) -> tuple[Tensor, ...]:
    return tuple(torch.rand(shape, dtype=torch.float64) for _ in range(count))


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


def check(layer: RNN, x: Tensor, step: Any) -> None:
    """The layer against `step(x_t, states, *weights) -> states`, from given states."""
    layer(x)
    start = tuple(torch.randn_like(state) for state in layer.get_initial_state(x))
    outputs, *final = layer(x, initial_state=start)

    states, expected = start, []
    for t in range(T):
        states = step(x[:, t], states, *layer.weights)
        expected.append(states[0])
    close(outputs, torch.stack(expected, dim=1))
    close(final, list(states))


def test_simple_rnn() -> None:
    ((m,), (n,)) = masks = DropoutMasks(some(1, B, D), some(1, B, U))

    def step(x: Tensor, states: Any, W: Tensor, R: Tensor, b: Tensor) -> Any:
        return (torch.tanh((x * m) @ W + b + (states[0] * n) @ R),)

    check(fixed(SimpleRNNCell, masks, U), random(B, T, D), step)


@pytest.mark.parametrize("implementation", [1, 2])
def test_lstm(implementation: int) -> None:
    """1: a mask for each gate; 2: one for all."""
    count = 4 if implementation == 1 else 1
    masks = DropoutMasks(some(count, B, D), some(count, B, U))
    m, n = masks.inputs * (4 // count), masks.recurrent * (4 // count)

    def step(x: Tensor, states: Any, W: Tensor, R: Tensor, b: Tensor) -> Any:
        h, c = states
        i, f, g, o = (
            (x * m[k]) @ W.chunk(4, 1)[k] + b.chunk(4)[k] + (h * n[k]) @ R.chunk(4, 1)[k]
            for k in range(4)
        )
        c = s(f) * c + s(i) * torch.tanh(g)
        return s(o) * torch.tanh(c), c

    layer = fixed(LSTMCell, masks, U, implementation=implementation)
    check(layer, random(B, T, D), step)


@pytest.mark.parametrize("reset_after", [False, True])
@pytest.mark.parametrize("implementation", [1, 2])
def test_gru(implementation: int, reset_after: bool) -> None:
    """2 has one mask for all, and h as it leaves it even in the final mix: a quirk of Keras'."""
    count = 3 if implementation == 1 else 1
    masks = DropoutMasks(some(count, B, D), some(count, B, U))
    m, n = masks.inputs * (3 // count), masks.recurrent * (3 // count)

    def step(x: Tensor, states: Any, W: Tensor, R: Tensor, b: Tensor) -> Any:
        h = states[0]
        b, b_r = b if reset_after else (b, torch.zeros_like(b))
        x_z, x_r, x_h = ((x * m[k]) @ W.chunk(3, 1)[k] + b.chunk(3)[k] for k in range(3))
        R_z, R_r, R_h = R.chunk(3, 1)
        b_z, b_rr, b_h = b_r.chunk(3)
        z, r = s(x_z + (h * n[0]) @ R_z + b_z), s(x_r + (h * n[1]) @ R_r + b_rr)
        inner = r * ((h * n[2]) @ R_h + b_h) if reset_after else (r * (h * n[2])) @ R_h
        mixed = h * n[0] if implementation == 2 else h
        return (z * mixed + (1 - z) * torch.tanh(x_h + inner),)

    options = {"implementation": implementation, "reset_after": reset_after}
    check(fixed(GRUCell, masks, U, **options), random(B, T, D), step)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_conv_lstm_2d(data_format: str) -> None:
    """A mask for each gate, of the shape of an image, and of a state."""
    last = data_format == "channels_last"
    image, state = ((5, 6, D), (4, 4, U)) if last else ((D, 5, 6), (U, 4, 4))
    m, n = masks = DropoutMasks(some(4, B, *image), some(4, B, *state))

    def conv(x: Tensor, kernel: Tensor, padding: str) -> Tensor:
        y = convolve(x if last else x.movedim(1, -1), kernel, padding)
        return y if last else y.movedim(-1, 1)

    def step(x: Tensor, states: Any, W: Tensor, R: Tensor, b: Tensor) -> Any:
        h, c = states
        bias = b.reshape(4, *((U,) if last else (U, 1, 1)))
        i, f, g, o = (
            conv(x * m[k], W.chunk(4, -1)[k], "valid")
            + bias[k]
            + conv(h * n[k], R.chunk(4, -1)[k], "same")
            for k in range(4)
        )
        c = s(f) * c + s(i) * torch.tanh(g)
        return s(o) * torch.tanh(c), c

    layer = fixed(ConvLSTM2DCell, masks, U, (2, 3), data_format=data_format)
    check(layer, random(B, T, *image), step)


@pytest.mark.parametrize("implementation", [1, 2])
@pytest.mark.parametrize("kind", [LSTMCell, GRUCell])
def test_without_dropout_both_implementations_are_equal(kind: Any, implementation: int) -> None:
    x = random(B, T, D)
    layer, other = RNN(kind(U, implementation=implementation)), RNN(kind(U))
    expected = other(x)
    layer(x)
    layer.set_weights(other.get_weights())

    close(layer(x), expected)
