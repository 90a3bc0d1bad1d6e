"""Activations by Keras' names."""

from __future__ import annotations

import pytest
import torch

from models import LSTM, activations


def test_hard_sigmoid_has_keras_2s_slope() -> None:
    """0.2 x + 0.5: 0 at -2.5, 0.3 at -1, 0.5 at 0, 1 from 2.5 on."""
    x = torch.tensor([-3.0, -2.5, -1.0, 0.0, 1.0, 2.5, 3.0])

    assert activations.hard_sigmoid(x).tolist() == pytest.approx([0, 0, 0.3, 0.5, 0.7, 1, 1])


def test_softmax_is_over_the_last_axis() -> None:
    y = activations.get("softmax")(torch.randn(2, 3, 4))

    torch.testing.assert_close(y.sum(dim=-1), torch.ones(2, 3))


def test_none_is_linear_and_callables_stay() -> None:
    x = torch.randn(3)

    assert activations.get(None)(x) is x
    assert activations.get(torch.sin) is torch.sin


@pytest.mark.parametrize("name", activations.NAMED)
def test_names_round_trip(name: str) -> None:
    assert activations.serialize(activations.get(name)) == name


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match="Unknown activation function: sinus"):
        activations.get("sinus")


def test_a_function_of_ones_own_stands_for_itself_in_a_config() -> None:
    layer = LSTM(2, activation=torch.sin)
    x = torch.randn(1, 2, 3)
    expected = layer(x)
    copy = LSTM.from_config(layer.get_config())
    copy.build(tuple(x.shape))
    copy.set_weights(layer.get_weights())

    assert torch.equal(copy(x), expected)
