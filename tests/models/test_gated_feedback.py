"""GatedFeedbackRNN against the equations of arXiv:1502.02367, pair by pair of layers.

    g^{i→j} = sigmoid(w^{i→j} · h_t^{j-1} + u^{i→j} · h*_{t-1}),   h_t^0 = x_t
    F_j = Σ_i g^{i→j} U^{i→j} h_{t-1}^i

tanh: h = tanh(W x + F); LSTM and GRU have F in place of the recurrent product of the candidate.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models import GRU, LSTM, RNN, GatedFeedbackRNN, GatedFeedbackRNNCell, SimpleRNN

FEATURES, UNITS = 3, (2, 4, 3)
EDGES = list(pairwise(np.cumsum([0, *UNITS])))  # where each layer's units are in h*
ALL: dict[str, Any] = {"return_sequences": True, "return_state": True}
KINDS = ("tanh", "lstm", "gru")
every_kind = pytest.mark.parametrize("kind", KINDS)


def random_inputs(time: int = 4) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(2, time, FEATURES, dtype=torch.float64)


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def feedback(layer: dict[str, np.ndarray], below: np.ndarray, before: list[np.ndarray]) -> Any:
    """F_j: `below` is h_t^{j-1}, `before` the last h of every layer."""
    total = 0
    for i, h in enumerate(before):
        w, u = layer["gate_kernel"][:, i], layer["gate_recurrent_kernel"][:, i]
        first, last = EDGES[i]
        gate = sigmoid(w @ below + u @ np.concatenate(before))
        total = total + gate * (h @ layer["feedback_kernel"][first:last])
    return total


def advance(
    kind: str, layer: dict[str, np.ndarray], below: np.ndarray, own: Any, before: list[np.ndarray]
) -> list[np.ndarray]:
    """The new states of one layer; `own` its last ones."""
    gates = {"tanh": "h", "lstm": "ifoc", "gru": "zrh"}[kind]
    x = dict(zip(gates, np.split(below @ layer["kernel"] + layer["bias"], len(gates)), strict=True))
    F = feedback(layer, below, before)
    if kind == "tanh":
        return [np.tanh(x["h"] + F)]
    U = np.split(layer["recurrent_kernel"], len(gates) - 1, axis=1)
    g = {name: sigmoid(x[name] + own[0] @ u) for name, u in zip(gates[:-1], U, strict=True)}
    if kind == "gru":
        candidate = np.tanh(x["h"] + g["r"] * F)
        return [g["z"] * own[0] + (1 - g["z"]) * candidate]
    c = g["f"] * own[1] + g["i"] * np.tanh(x["c"] + F)
    return [g["o"] * np.tanh(c), c]


def reference(layer: GatedFeedbackRNN, x: Tensor, start: list[Tensor]) -> list[Tensor]:
    """Outputs and final states, computed sample by sample."""
    weights = [
        {name: weight.detach().numpy() for name, weight in each.named_parameters()}
        for each in layer.cell.layers
    ]
    each = 2 if layer.kind == "lstm" else 1
    outputs, finals = [], []
    for sample, first in zip(x.numpy(), zip(*(s.numpy() for s in start), strict=True), strict=True):
        states, rows = [list(first[k : k + each]) for k in range(0, len(first), each)], []
        for below in sample:
            before = [state[0] for state in states]
            for j in range(len(UNITS)):
                states[j] = advance(layer.kind, weights[j], below, states[j], before)
                below = states[j][0]
            rows.append(below)
        outputs.append(np.stack(rows))
        finals.append([state for own in states for state in own])
    return [torch.tensor(np.stack(part)) for part in (outputs, *zip(*finals, strict=True))]


def made(kind: str, units: Any = UNITS, **options: Any) -> GatedFeedbackRNN:
    layer = GatedFeedbackRNN(units, kind, bias_initializer="normal", **ALL, **options)
    layer(random_inputs())
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(torch.randn_like(weight))
    return layer


def swing_gates(layer: GatedFeedbackRNN, to: float) -> None:
    """All gates to sigmoid(to · what lies below); that must be far from zero, and positive."""
    with torch.no_grad():
        for each in layer.cell.layers:
            each.gate_kernel.fill_(to)
            each.gate_recurrent_kernel.zero_()


@every_kind
def test_computes_the_equations(kind: str) -> None:
    x, layer = random_inputs(), made(kind)
    start = [torch.randn_like(state) for state in layer.get_initial_state(x)]

    close(layer(x, initial_state=start), reference(layer, x, start))


def test_with_open_gates_every_layer_sees_all_states() -> None:
    """h^j = s(W^j h^{j-1} + b^j + h* U^j), with s = sigmoid, whose outputs are positive."""
    x, layer = random_inputs().abs() + 0.1, made("tanh", activation="sigmoid")
    swing_gates(layer, 1e4)
    outputs, *states = layer(x)

    h = [torch.zeros(2, u, dtype=torch.float64) for u in UNITS]
    for t in range(x.shape[1]):
        everything, below = torch.cat(h, dim=-1), x[:, t]
        for j, each in enumerate(layer.cell.layers):
            z = below @ each.kernel + each.bias + everything @ each.feedback_kernel
            h[j] = below = torch.sigmoid(z)
        close(outputs[:, t], below)
    close(states, h)


def test_with_shut_gates_no_timestep_sees_another() -> None:
    x, layer = random_inputs().abs() + 0.1, made("tanh", activation="sigmoid")
    swing_gates(layer, -1e4)
    turned = torch.tensor([2, 0, 3, 1])

    close(layer(x[:, turned])[0], layer(x)[0][:, turned])


@every_kind
def test_one_layer_with_an_open_gate_is_a_plain_layer(kind: str) -> None:
    """The candidate's recurrent kernel is the feedback's; GRU's is that of reset_after."""
    x, layer = random_inputs().abs() + 0.1, made(kind, units=[4])
    swing_gates(layer, 1e4)
    (own,) = layer.cell.layers
    options = {"recurrent_activation": "sigmoid", **ALL}
    if kind == "tanh":
        plain, kernels = SimpleRNN(4, **ALL), [own.kernel, own.feedback_kernel, own.bias]
    elif kind == "gru":
        plain = GRU(4, reset_after=True, **options)
        recurrent = torch.cat([own.recurrent_kernel, own.feedback_kernel], dim=1)
        kernels = [own.kernel, recurrent, torch.stack([own.bias, torch.zeros_like(own.bias)])]
    else:  # ours has the candidate last, LSTM's gates are i, f, c, o
        plain = LSTM(4, **options)
        recurrent = torch.cat([own.recurrent_kernel, own.feedback_kernel], dim=1)
        kernels = [
            torch.cat([w.split(4, dim=-1)[gate] for gate in (0, 1, 3, 2)], dim=-1)
            for w in (own.kernel, recurrent, own.bias)
        ]
    plain(x)
    plain.set_weights(kernels)

    close(plain(x), layer(x))


@every_kind
def test_weights_states_and_shapes(kind: str) -> None:
    gates = {"tanh": 1, "lstm": 4, "gru": 3}[kind]
    layer = GatedFeedbackRNN(UNITS, kind, **ALL)
    layer.build((2, 4, FEATURES))
    first = [tuple(weight.shape) for weight in layer.cell.layers[0].weights]
    names = ["h1", "c1", "h2", "c2", "h3", "c3"] if kind == "lstm" else ["h1", "h2", "h3"]

    assert first[:5] == [(3, 2 * gates), (9, 2), (2 * gates,), (3, 3), (9, 3)]
    assert first[5:] == ([] if kind == "tanh" else [(2, 2 * (gates - 1))])
    assert layer.cell.layers[1].kernel.shape[0] == UNITS[0]
    assert list(layer.state_names) == names
    shapes = [tuple(part.shape) for part in layer(random_inputs().float())]
    assert layer.compute_output_shape((2, 4, FEATURES)) == shapes
    forget = layer.cell.layers[2].bias.tolist()[3:6]
    assert forget == ([1, 1, 1] if kind == "lstm" else [0, 0, 0] if kind == "gru" else [])


@every_kind
def test_a_masked_first_step_gives_the_last_layers_first_h(kind: str) -> None:
    x, layer = random_inputs(), made(kind)
    start = [torch.randn_like(state) for state in layer.get_initial_state(x)]
    mask = torch.tensor([[0, 1, 1, 0], [0, 0, 1, 1]], dtype=torch.bool)

    outputs, *states = layer(x, mask=mask, initial_state=start)

    last = start[-2 if kind == "lstm" else -1]
    close(outputs[:, 0], last)
    close(outputs[1, 1], last[1])
    kept = reference(layer, x[:, 1:3], start)
    close((outputs[0, 2], states[0][0]), (kept[0][0, 1], kept[1][0]))


def test_other_activations() -> None:
    """Gates of pairs stay sigmoid, whatever recurrent_activation does to the others."""
    x, layer = random_inputs(), made("gru", recurrent_activation="linear", activation="relu")
    with torch.no_grad():
        for each in layer.cell.layers:
            each.recurrent_kernel.zero_()
            each.kernel[:, : -each.units] = 0
            each.bias[: -each.units] = 0  # z = r = 0 exactly: h = relu(W x + b)
    outputs, *_ = layer(x)

    below = x
    for each in layer.cell.layers:
        below = torch.relu(below @ each.kernel[:, -each.units :] + each.bias[-each.units :])
    close(outputs, below)


@pytest.mark.parametrize("make", [GatedFeedbackRNN, GatedFeedbackRNNCell])
def test_options_that_are_refused(make) -> None:
    for units in (3, [], [2, 0]):
        with pytest.raises(ValueError, match="`units` has a positive integer for each layer"):
            make(units)
    with pytest.raises(ValueError, match="`kind` is one of tanh, lstm, gru, not 'rnn'"):
        make(UNITS, kind="rnn")


def test_a_stack_of_such_cells() -> None:
    x = random_inputs()
    cells = [GatedFeedbackRNNCell((2, 3), "lstm"), GatedFeedbackRNNCell((4, 2), "gru")]
    outputs, *states = RNN(cells, **ALL)(x)

    first = RNN(cells[0], **ALL)(x)
    second = RNN(cells[1], **ALL)(first[0])
    close([outputs, *states], [second[0], *first[1:], *second[1:]])
