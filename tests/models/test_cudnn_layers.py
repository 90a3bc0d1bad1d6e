"""CuDNNGRU and CuDNNLSTM: against torch's own layers, and as a way to write GRU and LSTM."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models import GRU, LSTM, CuDNNGRU, CuDNNLSTM

FEATURES, UNITS = 3, 4
ALL: dict[str, Any] = {"return_sequences": True, "return_state": True}
KINDS = {"GRU": (CuDNNGRU, nn.GRU), "LSTM": (CuDNNLSTM, nn.LSTM)}
both = pytest.mark.parametrize("kind", KINDS)


def random_inputs() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 5, FEATURES, dtype=torch.float64)


def close(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


def torchs(weight: np.ndarray, kind: str) -> Tensor:
    """Keras' gates along the last axis as torch's along the first: z, r, h become r, z, n.

    A gate's kernel is read as it lies in memory, a row for each unit, as cuDNN does.
    """
    gates = np.split(weight, 3 if kind == "GRU" else 4, axis=-1)
    if kind == "GRU":
        gates[:2] = gates[1::-1]
    if weight.ndim == 2:
        gates = [gate.reshape(UNITS, -1) for gate in gates]
    return torch.from_numpy(np.concatenate(gates))


def plain(kernel: np.ndarray, kind: str) -> np.ndarray:
    """A kernel as GRU and LSTM have it: each gate's matrix the other way round."""
    gates = np.split(kernel, 3 if kind == "GRU" else 4, axis=-1)
    return np.concatenate([gate.reshape(UNITS, -1).T for gate in gates], axis=-1)


def twins(kind: str, **options: Any) -> tuple[Any, Any]:
    """Our layer with a random bias, and torch's with the same weights."""
    ours, theirs = KINDS[kind]
    layer = ours(UNITS, bias_initializer="normal", **options)
    layer(random_inputs())
    twin = theirs(FEATURES, UNITS, batch_first=True, dtype=torch.float64)
    kernel, recurrent_kernel, bias = layer.get_weights()
    first, second = np.split(bias, 2)
    with torch.no_grad():
        twin.weight_ih_l0.copy_(torchs(kernel, kind))
        twin.weight_hh_l0.copy_(torchs(recurrent_kernel, kind))
        twin.bias_ih_l0.copy_(torchs(first, kind))
        twin.bias_hh_l0.copy_(torchs(second, kind))
    return layer, twin


def torchs_states(states: list[Tensor]) -> Any:
    hidden = tuple(state[None] for state in states)
    return hidden if len(hidden) == 2 else hidden[0]


@both
def test_outputs_and_states_are_torchs(kind: str) -> None:
    x = random_inputs()
    layer, twin = twins(kind, **ALL)
    start = [torch.randn(2, UNITS, dtype=torch.float64) for _ in layer.state_shapes]
    outputs, *states = layer(x, initial_state=start)

    expected, final = twin(x, torchs_states(start))

    close(outputs, expected)
    close(torchs_states(states), final)


@both
def test_gradients_are_torchs(kind: str) -> None:
    x = random_inputs().requires_grad_()
    layer, twin = twins(kind, return_sequences=True)

    layer(x).square().sum().backward()
    ours, x.grad = x.grad, None
    twin(x)[0].square().sum().backward()

    close(ours, x.grad)
    kernel, recurrent_kernel, bias = (weight.grad.numpy() for weight in layer.weights)
    close(torchs(kernel, kind), twin.weight_ih_l0.grad)
    close(torchs(recurrent_kernel, kind), twin.weight_hh_l0.grad)
    first, second = np.split(bias, 2)
    close(torchs(first, kind), twin.bias_ih_l0.grad)
    close(torchs(second, kind), twin.bias_hh_l0.grad)


@both
@pytest.mark.parametrize("go_backwards", [False, True])
def test_it_is_the_plain_layer_with_its_weights_written_otherwise(
    kind: str, go_backwards: bool
) -> None:
    """The biases of a GRU are two rows instead of one, those of an LSTM the sum of the halves."""
    x = random_inputs()
    layer, _ = twins(kind, go_backwards=go_backwards, **ALL)
    options = {"recurrent_activation": "sigmoid", "go_backwards": go_backwards, **ALL}
    twin = GRU(UNITS, reset_after=True, **options) if kind == "GRU" else LSTM(UNITS, **options)
    twin(x)
    *kernels, bias = layer.get_weights()
    halves = bias.reshape(2, -1)

    biases = halves if kind == "GRU" else halves.sum(0)
    twin.set_weights([*(plain(kernel, kind) for kernel in kernels), biases])

    close(twin(x), layer(x))


@both
def test_weights(kind: str) -> None:
    layer = KINDS[kind][0](UNITS)
    layer.build((2, 5, FEATURES))
    width = (3 if kind == "GRU" else 4) * UNITS

    shapes = [tuple(weight.shape) for weight in layer.weights]
    assert shapes == [(FEATURES, width), (UNITS, width), (2 * width,)]


def test_unit_forget_bias_is_in_the_second_half() -> None:
    """At [5u, 6u): f of the recurrent side. The initialiser fills the rest."""
    half = {"class_name": "Constant", "config": {"value": 0.5}}
    layer, without = (
        CuDNNLSTM(2, bias_initializer=half, unit_forget_bias=unit) for unit in (True, False)
    )
    layer.build((2, 5, FEATURES))
    without.build((2, 5, FEATURES))

    assert layer.bias.tolist() == [0.5] * 10 + [1.0] * 2 + [0.5] * 4
    assert without.bias.tolist() == [0.5] * 16


@both
def test_what_cudnn_decides_cannot_be_chosen(kind: str) -> None:
    make = KINDS[kind][0]
    for option in ("unroll", "activation", "recurrent_activation", "dropout", "use_bias"):
        with pytest.raises(TypeError) as caught:
            make(UNITS, **{option: False})
        assert caught.value.args == ("Keyword argument not understood:", option)
        assert option not in make(UNITS).get_config()


@both
def test_masks_are_refused(kind: str) -> None:
    layer, x = KINDS[kind][0](UNITS), random_inputs()
    mask = torch.ones(2, 5, dtype=torch.bool)

    for masks in (mask, [mask]):
        with pytest.raises(ValueError, match=r"^Masking is not supported for CuDNN RNNs\.$"):
            layer(x, mask=masks)
    layer(x, mask=[None])


@both
def test_stateful(kind: str) -> None:
    x = random_inputs()
    layer, twin = twins(kind, stateful=True, return_sequences=True)
    layer.reset_states()

    pieces = torch.cat([layer(x[:, :2]), layer(x[:, 2:])], dim=1)

    close(pieces, twin(x)[0])
    layer.reset_states([np.ones((2, UNITS)) for _ in layer.state_shapes])
    ones = [torch.ones(2, UNITS, dtype=torch.float64) for _ in layer.state_shapes]
    close(layer(x), twin(x, torchs_states(ones))[0])
