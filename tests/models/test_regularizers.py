"""Regularisers: literal penalties, and where they turn up in `losses`."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from models import (
    GRU,
    LSTM,
    RNN,
    ConvLSTM2D,
    CuDNNGRU,
    Dense,
    GatedFeedbackRNN,
    GRUCell,
    Sequential,
    SimpleRNN,
    SimpleRNNCell,
    regularizers,
)

X = torch.tensor([[1.0, -2.0], [3.0, 0.0]])
ALL: dict[str, Any] = {"return_sequences": True, "return_state": True}


def penalties(layer: Any) -> list[float]:
    return [loss.item() for loss in layer.losses]


# Functions


@pytest.mark.parametrize(
    ("identifier", "penalty"),
    [
        ("l1", 0.01 * 6),
        ("l2", 0.01 * 14),
        ("l1_l2", 0.01 * 6 + 0.01 * 14),
        (regularizers.l1(0.5), 3.0),
        (regularizers.l2(0.5), 7.0),
        (regularizers.l1_l2(l1=1.0, l2=2.0), 6 + 28),
        (regularizers.L1L2(), 0.0),
        ({"class_name": "L1L2", "config": {"l1": 0.1, "l2": 0.0}}, 0.6),
        (torch.sum, 2.0),
    ],
)
def test_penalties(identifier, penalty: float) -> None:
    """|1| + |-2| + |3| = 6 and 1 + 4 + 9 = 14."""
    found = regularizers.get(identifier)(X)

    assert found.shape == ()
    assert found.item() == pytest.approx(penalty)


def test_none_is_none_and_others_are_unknown() -> None:
    assert regularizers.get(None) is None
    with pytest.raises(ValueError, match=r"Unknown regularizer: l3\. Known are .*l1_l2"):
        regularizers.get("l3")
    with pytest.raises(ValueError, match="Could not interpret regularizer identifier: 3"):
        regularizers.get(3)  # type: ignore[arg-type]


# Weights


def test_penalties_of_weights_in_the_order_of_the_weights() -> None:
    """Kernel [[1, -2]], recurrent kernel 0.5 and 3 in every corner, bias 4."""
    layer = SimpleRNN(
        2,
        kernel_regularizer="l1",
        recurrent_regularizer=regularizers.l2(0.1),
        bias_regularizer=regularizers.l1(0.5),
    )
    layer.build((None, None, 1))
    layer.set_weights([[[1.0, -2.0]], [[0.5, 3.0], [3.0, 0.5]], [4.0, 4.0]])

    assert penalties(layer) == pytest.approx([0.03, 0.1 * 18.5, 4.0])
    assert penalties(layer.cell) == penalties(layer)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda **options: SimpleRNN(2, **options), (2, 3, 4)),
        (lambda **options: LSTM(2, **options), (2, 3, 4)),
        (lambda **options: GRU(2, reset_after=True, **options), (2, 3, 4)),
        (lambda **options: CuDNNGRU(2, **options), (2, 3, 4)),
        (lambda **options: RNN(GRUCell(2, **options)), (2, 3, 4)),
        (lambda **options: ConvLSTM2D(2, 1, **options), (2, 3, 4, 4, 4)),
    ],
)
def test_every_layer_takes_them(make, shape) -> None:
    names = ("kernel", "recurrent", "bias")
    layer = make(bias_initializer="normal", **{f"{name}_regularizer": "l2" for name in names})
    assert layer.losses == []
    layer.build(shape)

    squares = [0.01 * np.square(weight).sum() for weight in layer.get_weights()]
    assert penalties(layer) == pytest.approx(squares)
    sum(layer.losses).backward()
    for weight in layer.weights:
        torch.testing.assert_close(weight.grad, 0.02 * weight.detach())
    layer.trainable = False
    assert penalties(layer) == pytest.approx(squares)  # as in Keras: constants now


def test_without_a_bias_there_is_no_penalty_of_it() -> None:
    layer = SimpleRNN(2, use_bias=False, bias_regularizer="l2")
    layer.build((2, 3, 4))

    assert layer.losses == []


# Activities


def ones(layer: Any, x: torch.Tensor) -> Any:
    """The layer with all weights 0 but a bias of 1: outputs and states that are known."""
    layer(x)
    zeros = [np.zeros_like(weight) for weight in layer.get_weights()]
    zeros[-1][...] = 1
    layer.set_weights(zeros)
    return layer


def test_the_activity_of_all_outputs_summed_over_the_batch() -> None:
    """Every output is 1: 2 samples of 3 units and, with sequences, 5 timesteps."""
    x = torch.zeros(2, 5, 4)
    options = {"activation": "linear", "activity_regularizer": regularizers.l1(0.1)}
    for sequences, penalty in ((False, 0.6), (True, 3.0)):
        layer = ones(SimpleRNN(3, return_sequences=sequences, **options), x)
        layer(x)
        layer(x)  # the last call's alone count
        assert penalties(layer) == pytest.approx([penalty])


def test_returned_states_are_outputs_too() -> None:
    """Three terms of an LSTM: outputs, h and c. Linear, z = 1: gates 0.7, c = 0.7, h = 0.49.

    Then c = 0.7 · 0.7 + 0.7 = 1.19 and h = 0.7 · 1.19 = 0.833.
    """
    x = torch.zeros(2, 2, 3)
    layer = ones(LSTM(1, activation="linear", activity_regularizer=regularizers.l1(1), **ALL), x)
    layer(x)

    assert penalties(layer) == pytest.approx([2 * (0.49 + 0.833), 2 * 0.833, 2 * 1.19])


def test_without_sequences_the_last_output_and_the_states_count() -> None:
    x = torch.zeros(2, 2, 3)
    options = {"activation": "linear", "activity_regularizer": regularizers.l1(1)}
    layer = ones(LSTM(1, return_state=True, **options), x)
    layer(x)

    assert penalties(layer) == pytest.approx([2 * 0.833, 2 * 0.833, 2 * 1.19])


def test_weights_before_activities_and_cells_before_layers() -> None:
    x = torch.zeros(2, 2, 3)
    layer = RNN(
        [SimpleRNNCell(2, bias_regularizer="l1"), SimpleRNNCell(2, kernel_regularizer="l1")],
        activity_regularizer=regularizers.l1(1),
        return_state=True,
    )
    layer(x)
    layer.set_weights(
        [np.ones((3, 2)), np.zeros((2, 2)), np.ones(2), np.ones((2, 2)), np.zeros((2, 2)), [0, 0]]
    )
    layer(x)

    h1, h2 = np.tanh(1), np.tanh(2 * np.tanh(1))
    assert penalties(layer) == pytest.approx([0.02, 0.04, 4 * h2, 4 * h1, 4 * h2])


def test_gradients_of_activities_reach_the_weights() -> None:
    x = torch.randn(2, 3, 4)
    layer = GatedFeedbackRNN((2, 3), activity_regularizer="l2")
    output = layer(x)
    layer.losses[0].backward()

    assert layer.losses[0].item() == pytest.approx(0.01 * output.square().sum().item())
    assert layer.cell.layers[0].kernel.grad.abs().sum() > 0


def test_a_model_has_the_penalties_of_all_its_layers() -> None:
    model = Sequential(
        [
            LSTM(2, kernel_regularizer="l2", activity_regularizer="l1", return_sequences=True),
            Dense(1, kernel_regularizer="l1", activity_regularizer="l2"),
        ]
    )
    model.build((2, 3, 4))

    assert len(model.losses) == 2
    model(torch.randn(2, 3, 4))
    assert len(model.losses) == 4
    assert [id(loss) for loss in model.losses[2:]] == [
        id(loss) for layer in model.layers for loss in layer.losses[1:]
    ]


def test_config_round_trip() -> None:
    layer = LSTM(2, kernel_regularizer="l1_l2", activity_regularizer=regularizers.l2(0.5))
    config = json.loads(json.dumps(layer.get_config()))
    twin = LSTM.from_config(config)

    assert config["activity_regularizer"] == {
        "class_name": "L1L2",
        "config": {"l1": 0.0, "l2": 0.5},
    }
    assert twin.kernel_regularizer == regularizers.L1L2(0.01, 0.01)
    assert twin.get_config() == layer.get_config()
