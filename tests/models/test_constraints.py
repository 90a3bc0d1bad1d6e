"""Constraints: literal numbers, and what puts a model's weights back into their bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from models import (
    GRU,
    LSTM,
    RNN,
    ConvLSTM2D,
    CuDNNLSTM,
    Dense,
    GRUCell,
    Sequential,
    SimpleRNN,
    constraints,
)

# Columns of norm 5, 0.5 and 0; rows of norm 3.0149… and 4.0112…
W = torch.tensor([[3.0, 0.3, 0.0], [4.0, -0.4, 0.0]])


def column(*values: float) -> Any:
    """Columns along the unit vectors that W's columns have, of these norms."""
    directions = torch.tensor([[0.6, 0.6, 0.0], [0.8, -0.8, 0.0]])
    return directions * torch.tensor(values)


@pytest.mark.parametrize(
    ("identifier", "expected"),
    [
        ("max_norm", column(2, 0.5, 0)),
        ("MaxNorm", column(2, 0.5, 0)),
        (constraints.max_norm(4), column(4, 0.5, 0)),
        ("unit_norm", column(1, 1, 0)),
        ("min_max_norm", column(1, 0.5, 0)),
        (constraints.min_max_norm(0.8, 3.0), column(3, 0.8, 0)),
        (constraints.min_max_norm(1.0, 3.0, rate=0.5), column(4, 0.75, 0)),  # half of the way
        ("non_neg", torch.tensor([[3.0, 0.3, 0.0], [4.0, 0.0, 0.0]])),
        (lambda w: w / 2, W / 2),
    ],
)
def test_literal_numbers(identifier, expected: torch.Tensor) -> None:
    found = constraints.get(identifier)(W)

    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_norms_over_other_axes() -> None:
    rows = constraints.unit_norm(axis=1)(W)
    whole = constraints.max_norm(1.0, axis=(0, 1))(W)

    torch.testing.assert_close(rows.norm(dim=1), torch.ones(2), rtol=0, atol=1e-6)
    torch.testing.assert_close(whole, W / W.norm(), rtol=0, atol=1e-6)


def test_none_is_none_and_others_are_unknown() -> None:
    assert constraints.get(None) is None
    with pytest.raises(ValueError, match=r"Unknown constraint: max\. Known are .*unit_norm"):
        constraints.get("max")


NON_NEG = {f"{name}_constraint": "non_neg" for name in ("kernel", "recurrent", "bias")}


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda **options: SimpleRNN(2, **options), (2, 3, 4)),
        (lambda **options: LSTM(2, **options), (2, 3, 4)),
        (lambda **options: GRU(2, reset_after=True, **options), (2, 3, 4)),
        (lambda **options: CuDNNLSTM(2, **options), (2, 3, 4)),
        (lambda **options: RNN([GRUCell(2, **options)]), (2, 3, 4)),
        (lambda **options: ConvLSTM2D(2, 1, **options), (2, 3, 4, 4, 4)),
    ],
)
def test_every_layer_takes_them(make, shape) -> None:
    layer = make(bias_initializer="normal", **NON_NEG)
    layer.build(shape)
    before = [weight.detach().clone() for weight in layer.weights]
    assert any((weight < 0).any() for weight in before)

    constraints.apply(layer)

    for weight, old in zip(layer.weights, before, strict=True):
        assert torch.equal(weight, old.clamp(min=0))


def test_only_the_constrained_weight_changes() -> None:
    layer = SimpleRNN(2, recurrent_constraint=constraints.max_norm(0.5))
    layer.build((2, 3, 4))
    kernel, _, bias = layer.get_weights()

    constraints.apply(layer)

    assert (layer.kernel.detach().numpy() == kernel).all()
    assert (layer.bias.detach().numpy() == bias).all()
    norms = layer.recurrent_kernel.detach().norm(dim=0)
    torch.testing.assert_close(norms, torch.full((2,), 0.5), rtol=0, atol=1e-6)


def test_frozen_weights_stay_as_they_are() -> None:
    model = Sequential(
        [
            LSTM(2, kernel_constraint="unit_norm", return_sequences=True, trainable=False),
            Dense(2, kernel_constraint="unit_norm"),
        ]
    )
    model.build((2, 3, 4))
    before = model.get_weights()

    constraints.apply(model)

    same = [bool((a == b).all()) for a, b in zip(before, model.get_weights(), strict=True)]
    assert same == [True, True, True, False, True]


def test_as_a_hook_of_the_optimiser() -> None:
    """After every step the norms are within bounds, though the step led out of them."""
    torch.manual_seed(0)
    layer = LSTM(3, kernel_constraint=constraints.max_norm(0.2), bias_constraint="non_neg")
    layer.build((2, 3, 4))
    optimizer = torch.optim.SGD(layer.parameters(), lr=10.0)
    optimizer.register_step_post_hook(lambda *_: constraints.apply(layer))

    for _ in range(3):
        layer(torch.randn(2, 3, 4)).sum().backward()
        optimizer.step()
        assert layer.kernel.norm(dim=0).max() <= 0.2 + 1e-6
        assert layer.bias.min() >= 0
    assert layer.kernel.norm(dim=0).max() > 0.19
    assert all(weight.requires_grad and weight.is_leaf for weight in layer.weights)


def test_config_round_trip() -> None:
    layer = ConvLSTM2D(2, 3, kernel_constraint=constraints.max_norm(3.0, axis=(0, 1, 2)))
    config = json.loads(json.dumps(layer.get_config()))
    twin = ConvLSTM2D.from_config(config)
    twin.build((2, 3, 4, 4, 2))
    with torch.no_grad():
        twin.kernel.fill_(1.0)

    constraints.apply(twin)

    assert config["kernel_constraint"]["class_name"] == "MaxNorm"
    norms = twin.kernel.flatten(0, 2).norm(dim=0)
    torch.testing.assert_close(norms, torch.full((8,), 3.0), rtol=0, atol=1e-5)
