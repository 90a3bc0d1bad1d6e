"""Initialisers act on the whole concatenated matrix, with Keras' limits and deviations."""

from __future__ import annotations

import json
import math

import pytest
import torch

from models import LSTM, initializers


def make(identifier, shape):
    torch.manual_seed(0)
    return initializers.get(identifier)(shape)


def test_glorot_uniform_limit_counts_all_gates() -> None:
    """(D, G·u) = (4, 120): limit sqrt(6 / 124), nearly reached by 480 draws."""
    limit = math.sqrt(6 / 124)
    kernel = make("glorot_uniform", (4, 120))

    assert kernel.abs().max() <= limit
    assert kernel.abs().max() > 0.97 * limit


def test_orthogonal_over_all_gates() -> None:
    torch.manual_seed(0)
    layer = LSTM(6)
    layer.build((None, None, 3))
    recurrent = layer.cell.recurrent_kernel.detach()

    assert recurrent.shape == (6, 24)
    torch.testing.assert_close(recurrent @ recurrent.T, torch.eye(6), rtol=0, atol=1e-5)


def test_orthogonal_flattens_all_but_the_last_axis() -> None:
    flat = make("orthogonal", (2, 2, 3, 20)).reshape(12, 20)

    torch.testing.assert_close(flat @ flat.T, torch.eye(12), rtol=0, atol=1e-5)


def test_identity_repeats_along_the_long_side() -> None:
    assert make("identity", (2, 4)).tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]]
    assert make("identity", (4, 2)).tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]
    with pytest.raises(ValueError, match="multiple of short side"):
        make("identity", (2, 3))
    with pytest.raises(ValueError, match="2D"):
        make("identity", (2, 2, 2))


@pytest.mark.parametrize("name", ["uniform", "random_uniform"])
def test_uniform_is_between_plus_and_minus_a_twentieth(name: str) -> None:
    values = make(name, (1000,))

    assert 0.049 < values.abs().max() <= 0.05


@pytest.mark.parametrize(
    ("name", "shape", "deviation"),
    [
        ("normal", (100, 100), 0.05),
        ("truncated_normal", (100, 100), 0.05 * 0.8796),
        ("glorot_normal", (100, 300), math.sqrt(1 / 200)),
        ("he_normal", (100, 300), math.sqrt(2 / 100)),
        ("lecun_normal", (100, 300), math.sqrt(1 / 100)),
        ("he_uniform", (100, 300), math.sqrt(2 / 100)),
        ("lecun_uniform", (100, 300), math.sqrt(1 / 100)),
        # a window of 3 by 3, 10 channels in, 30 out: the fans count the window
        ("lecun_uniform", (3, 3, 10, 30), math.sqrt(1 / 90)),
    ],
)
def test_deviation(name: str, shape, deviation: float) -> None:
    assert make(name, shape).std().item() == pytest.approx(deviation, rel=0.05)


def test_truncated_normal_stays_within_two_deviations() -> None:
    assert make("truncated_normal", (100, 100)).abs().max() <= 0.1


def test_constants() -> None:
    assert make("zeros", (2,)).tolist() == [0, 0]
    assert make("ones", (2,)).tolist() == [1, 1]
    assert make(initializers.Constant(3.5), (2,)).tolist() == [3.5, 3.5]


def test_own_seed_beats_the_global_one() -> None:
    seeded = initializers.RandomNormal(seed=7)

    assert torch.equal(seeded((5,)), seeded((5,)))
    assert not torch.equal(seeded((5,)), initializers.RandomNormal(seed=8)((5,)))


def test_global_seed_decides_otherwise() -> None:
    assert torch.equal(make("normal", (5,)), make("normal", (5,)))


@pytest.mark.parametrize("name", initializers.NAMED)
def test_config_round_trip(name: str) -> None:
    config = json.loads(json.dumps(initializers.serialize(initializers.get(name))))

    assert torch.equal(make(config, (4, 8)), make(name, (4, 8)))


def test_errors() -> None:
    with pytest.raises(ValueError, match="Unknown initializer: sparkling"):
        initializers.get("sparkling")
    with pytest.raises(ValueError, match="Unknown initializer: Sparkling"):
        initializers.get({"class_name": "Sparkling", "config": {}})
    with pytest.raises(ValueError, match="Could not interpret initializer identifier: 3"):
        initializers.get(3)
    with pytest.raises(ValueError, match="`scale` must be a positive float"):
        initializers.VarianceScaling(scale=0.0)
    with pytest.raises(ValueError, match="Invalid `mode`"):
        initializers.VarianceScaling(mode="fan_club")
    with pytest.raises(ValueError, match="Invalid `distribution`"):
        initializers.VarianceScaling(distribution="cauchy")
    with pytest.raises(ValueError, match="at least 2 axes"):
        make("orthogonal", (3,))
