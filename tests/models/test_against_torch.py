"""Our layers against torch.nn.RNN, GRU and LSTM, by converting the weights.

torch has one row block per gate where Keras has one column block, two bias vectors where Keras
mostly has one, and orders GRU's gates r, z, n where Keras has z, r, h.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models import GRU, LSTM, SimpleRNN

FEATURES, UNITS = 3, 4
SEQUENCES = {"return_sequences": True, "return_state": True}


def inputs() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 7, FEATURES)


def permute_gates(weight: Tensor, order: list[int]) -> Tensor:
    """Reorders the blocks along the last axis."""
    blocks = weight.chunk(len(order), dim=-1)
    return torch.cat([blocks[index] for index in order], dim=-1)


def fill(reference: nn.RNNBase, kernel: Tensor, recurrent: Tensor, bias: Tensor) -> None:
    """`bias (2, G·u)`: input and recurrent side."""
    with torch.no_grad():
        reference.weight_ih_l0.copy_(kernel.T)
        reference.weight_hh_l0.copy_(recurrent.T)
        reference.bias_ih_l0.copy_(bias[0])
        reference.bias_hh_l0.copy_(bias[1])


def test_simple_rnn() -> None:
    x = inputs()
    layer = SimpleRNN(UNITS, bias_initializer="uniform", **SEQUENCES)
    outputs, h = layer(x)
    kernel, recurrent, bias = layer.weights
    reference = nn.RNN(FEATURES, UNITS, batch_first=True)
    fill(reference, kernel, recurrent, torch.stack([bias, torch.zeros_like(bias)]))

    expected, h_n = reference(x)

    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(h, h_n[0], rtol=0, atol=1e-6)


def test_lstm_with_sigmoid_gates() -> None:
    x = inputs()
    layer = LSTM(UNITS, recurrent_activation="sigmoid", bias_initializer="uniform", **SEQUENCES)
    outputs, h, c = layer(x)
    kernel, recurrent, bias = layer.weights
    reference = nn.LSTM(FEATURES, UNITS, batch_first=True)
    fill(reference, kernel, recurrent, torch.stack([bias, torch.zeros_like(bias)]))

    expected, (h_n, c_n) = reference(x)

    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(h, h_n[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(c, c_n[0], rtol=0, atol=1e-6)


def test_gru_reset_after_with_sigmoid_gates() -> None:
    x = inputs()
    layer = GRU(
        UNITS,
        recurrent_activation="sigmoid",
        reset_after=True,
        bias_initializer="uniform",
        **SEQUENCES,
    )
    outputs, h = layer(x)
    reference = nn.GRU(FEATURES, UNITS, batch_first=True)
    fill(reference, *(permute_gates(weight, [1, 0, 2]) for weight in layer.weights))

    expected, h_n = reference(x)

    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(h, h_n[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_gradients_agree_with_torch(kind: str) -> None:
    x = inputs()
    layer, reference = {
        "SimpleRNN": (SimpleRNN(UNITS, return_sequences=True), nn.RNN),
        "LSTM": (LSTM(UNITS, recurrent_activation="sigmoid", return_sequences=True), nn.LSTM),
        "GRU": (
            GRU(UNITS, recurrent_activation="sigmoid", reset_after=True, return_sequences=True),
            nn.GRU,
        ),
    }[kind]
    twin = reference(FEATURES, UNITS, batch_first=True)
    order = [1, 0, 2] if kind == "GRU" else list(range(layer.cell.gates))
    layer.build(tuple(x.shape))
    kernel, recurrent, bias = (permute_gates(w.detach(), order) for w in layer.weights)
    two_rows = bias if bias.ndim == 2 else torch.stack([bias, torch.zeros_like(bias)])
    fill(twin, kernel, recurrent, two_rows)

    layer(x).square().sum().backward()
    twin(x)[0].square().sum().backward()

    for weight, expected in zip(
        layer.weights[:2], (twin.weight_ih_l0, twin.weight_hh_l0), strict=True
    ):
        assert weight.grad is not None
        permuted = permute_gates(weight.grad, order)
        torch.testing.assert_close(permuted, expected.grad.T, rtol=1e-5, atol=1e-5)
