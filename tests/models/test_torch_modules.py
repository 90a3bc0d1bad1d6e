"""The layers are ordinary torch modules: copied, saved, compiled, differentiated like any other."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch

from models import (
    GRU,
    LSTM,
    RNN,
    ConvLSTM2D,
    CuDNNGRU,
    CuDNNLSTM,
    GatedFeedbackRNN,
    GRUCell,
    LSTMCell,
    SimpleRNN,
    activations,
)

FEATURES, UNITS = 2, 2
SHAPE, IMAGES = (2, 3, FEATURES), (2, 3, 3, 2, FEATURES)

FAMILY = {
    "SimpleRNN": (lambda **options: SimpleRNN(UNITS, **options), SHAPE),
    "GRU": (lambda **options: GRU(UNITS, **options), SHAPE),
    "GRU reset_after": (lambda **options: GRU(UNITS, reset_after=True, **options), SHAPE),
    "LSTM": (lambda **options: LSTM(UNITS, **options), SHAPE),
    "CuDNNGRU": (lambda **options: CuDNNGRU(UNITS, **options), SHAPE),
    "CuDNNLSTM": (lambda **options: CuDNNLSTM(UNITS, **options), SHAPE),
    "stack": (lambda **options: RNN([LSTMCell(3), GRUCell(UNITS)], **options), SHAPE),
    "GatedFeedbackRNN": (
        lambda **options: GatedFeedbackRNN((3, UNITS), kind="gru", **options),
        SHAPE,
    ),
    "ConvLSTM2D": (lambda **options: ConvLSTM2D(UNITS, 2, padding="same", **options), IMAGES),
}
every_layer = pytest.mark.parametrize(("make", "shape"), FAMILY.values(), ids=list(FAMILY))


def inputs(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(shape, dtype=dtype)


def close(actual: Any, expected: Any, atol: float = 1e-12) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


@every_layer
@pytest.mark.parametrize(
    "twin", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))], ids=["copy", "pickle"]
)
def test_copies_after_a_call(make, shape, twin) -> None:
    """States and weights go along; penalties of the last outputs, part of a graph, do not."""
    x = inputs(shape)
    layer = make(activity_regularizer="l2", stateful=True, return_sequences=True)
    layer(x)

    other = twin(layer)

    assert len(layer.losses) == 1
    assert other.losses == []
    close(other(x), layer(x))
    assert not {id(weight) for weight in other.weights} & {id(weight) for weight in layer.weights}


@every_layer
def test_state_dict_round_trip(make, shape) -> None:
    x, file = inputs(shape), io.BytesIO()
    layer, twin = make(), make()
    expected = layer(x)
    twin(x)

    torch.save(layer.state_dict(), file)
    file.seek(0)
    twin.load_state_dict(torch.load(file, weights_only=True))

    close(twin(x), expected)


@pytest.mark.parametrize(
    ("name", "masked"),
    [*((name, False) for name in FAMILY), *((name, True) for name in ("SimpleRNN", "stack"))],
)
def test_compiled(name: str, masked: bool) -> None:
    make, shape = FAMILY[name]
    x = inputs(shape)
    mask = {"mask": torch.tensor([[True, True, False], [True, False, False]])} if masked else {}
    layer = make(return_sequences=True)
    expected = layer(x, **mask)
    expected.square().sum().backward()
    gradients = [weight.grad.clone() for weight in layer.weights]
    layer.zero_grad()
    torch.compiler.reset()

    output = torch.compile(layer, backend="eager")(x, **mask)
    output.square().sum().backward()

    close(output, expected)
    close([weight.grad for weight in layer.weights], gradients)


@every_layer
def test_inference_mode_builds_a_layer_that_can_be_trained(make, shape) -> None:
    x, layer = inputs(shape), make()
    with torch.inference_mode():
        predicted = layer(x)

    output = layer(x)
    output.sum().backward()

    close(output, predicted.clone())
    assert all(weight.grad is not None for weight in layer.trainable_weights)


@every_layer
def test_gradients_match_finite_differences(make, shape) -> None:
    """Of inputs, initial states and weights, through all outputs and final states.

    The gates are tanh where hard_sigmoid would be, which has kinks.
    """
    x = inputs(shape)[:1, :2]
    layer = make(return_sequences=True, return_state=True)
    layer(x)
    smooth(layer)
    start = layer.get_initial_state(x)
    state = [torch.randn_like(s).requires_grad_() for s in start]

    def run(x: torch.Tensor, *rest: torch.Tensor) -> Any:
        return tuple(layer(x, initial_state=list(rest[: len(state)])))

    assert torch.autograd.gradcheck(run, (x.requires_grad_(), *state, *layer.weights))


def smooth(layer: Any) -> None:
    for cell in layer.modules():
        if vars(cell).get("recurrent_activation") is activations.hard_sigmoid:
            cell.recurrent_activation = torch.tanh


def test_hard_sigmoid_has_second_derivatives() -> None:
    """All zero away from the kinks, and x² hard_sigmoid(x) has 0.4·3 x + 1: 1.6 at 0.5."""
    x = torch.tensor([-3.0, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(
        (x * x * activations.hard_sigmoid(x)).sum(), x, create_graph=True
    )
    (second,) = torch.autograd.grad(first.sum(), x)

    close(second, torch.tensor([0.0, 1.6, 2.0], dtype=torch.float64))


@pytest.mark.parametrize("name", ["GRU", "LSTM", "ConvLSTM2D"])
def test_second_derivatives_of_a_whole_layer(name: str) -> None:
    make, shape = FAMILY[name]
    x = 0.1 * inputs(shape)[:1, :2]  # far from hard_sigmoid's kinks
    layer = make()
    layer(x)

    assert torch.autograd.gradgradcheck(layer, (x.requires_grad_(),))
