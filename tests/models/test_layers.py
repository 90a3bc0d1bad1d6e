"""Layer, Dense, Normalization: weights, configs, names."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from models import LSTM, Dense, Layer, Normalization, SimpleRNN, deserialize, serialize
from models.layer import snake_case


def test_dense_worked_out_by_hand() -> None:
    """[1, 2] · [[1, 3], [2, 4]] + [10, 20] = [1 + 4 + 10, 3 + 8 + 20] = [15, 31]."""
    layer = Dense(2)
    layer.build((None, 2))
    layer.set_weights([np.array([[1.0, 3.0], [2.0, 4.0]]), np.array([10.0, 20.0])])

    assert layer(torch.tensor([[1.0, 2.0]])).tolist() == [[15.0, 31.0]]


def test_dense_treats_every_frame_alike() -> None:
    layer = Dense(4, activation="tanh")
    x = torch.randn(2, 3, 5)
    y = layer(x)

    assert y.shape == layer.compute_output_shape((2, 3, 5)) == (2, 3, 4)
    torch.testing.assert_close(y[:, 1], layer(x[:, 1]))
    torch.testing.assert_close(torch.tanh(layer.logits(x)), y)


def test_dense_without_bias() -> None:
    layer = Dense(4, use_bias=False)

    assert layer(torch.zeros(1, 3)).abs().max() == 0
    assert len(layer.weights) == 1


def test_normalization_standardises_what_it_has_seen() -> None:
    frames = 3 * torch.randn(4, 50, 2) + 7
    layer = Normalization()
    layer.adapt(frames)
    y = layer(frames).reshape(-1, 2)

    torch.testing.assert_close(y.mean(dim=0), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(y.std(dim=0, correction=0), torch.ones(2), rtol=0, atol=1e-5)
    assert list(layer.parameters()) == []
    assert [tuple(weight.shape) for weight in layer.weights] == [(2,), (2,)]


def test_normalization_is_the_identity_before_and_safe_on_constants() -> None:
    x = torch.full((3, 2), 4.0)
    layer = Normalization()

    assert torch.equal(layer(x), x)
    layer.adapt(x)
    assert torch.equal(layer(x), torch.zeros(3, 2))


@pytest.mark.parametrize("layer", [Dense(3, activation="softmax", name="head"), Normalization()])
def test_config_round_trip(layer: Layer) -> None:
    config = json.loads(json.dumps(serialize(layer)))

    assert serialize(deserialize(config)) == config


def test_weights_round_trip_as_copies() -> None:
    source, target = LSTM(3), LSTM(3)
    for layer in (source, target):
        layer.build((None, None, 2))
    weights = source.get_weights()
    target.set_weights(weights)

    assert all(np.array_equal(a, b) for a, b in zip(weights, target.get_weights(), strict=True))
    weights[0][:] = 0
    assert source.get_weights()[0].any()


def test_set_weights_checks_all_before_it_changes_any() -> None:
    layer = Dense(2)
    layer.build((None, 3))
    before = layer.get_weights()

    with pytest.raises(ValueError, match="weight list of length 1, but the layer was expecting 2"):
        layer.set_weights(before[:1])
    with pytest.raises(
        ValueError, match=r"\(2,\) not compatible with provided weight shape \(5,\)"
    ):
        layer.set_weights([np.ones((3, 2)), np.ones(5)])
    assert np.array_equal(layer.get_weights()[0], before[0])


def test_count_params() -> None:
    """SimpleRNN(4) on 3 features: 3·4 + 4·4 + 4 = 32."""
    layer = SimpleRNN(4)
    with pytest.raises(RuntimeError, match="the layer isn't built"):
        layer.count_params()
    layer.build((None, None, 3))

    assert layer.count_params() == 32


def test_unknown_width_cannot_be_built() -> None:
    for layer, shape in (
        (Dense(2), (2, None)),
        (Normalization(), (2, None)),
        (LSTM(2), (2, 3, None)),
    ):
        with pytest.raises(ValueError, match="last dimension of the inputs"):
            layer.build(shape)


def test_names() -> None:
    assert [snake_case(name) for name in ("LSTM", "SimpleRNN", "GRU", "CuDNNLSTM")] == [
        "lstm",
        "simple_rnn",
        "gru",
        "cu_dnnlstm",
    ]
    assert LSTM(1).name == "lstm"
    assert LSTM(1, name="memory").name == "memory"
    with pytest.raises(ValueError, match="letters, digits, '_' and '-' only, not 'My LSTM'"):
        LSTM(1, name="My LSTM")
