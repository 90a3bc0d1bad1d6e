"""Embedding: rows of a matrix, as in Keras."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models import Dense, Sequential, deserialize, serialize
from models.embedding import Embedding


def embedding(**options: object) -> Embedding:
    layer = Embedding(3, 2, **options)
    layer.build((None, None))
    layer.set_weights([np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])])
    return layer


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float32])
def test_symbols_become_rows(dtype: torch.dtype) -> None:
    rows = embedding()(torch.tensor([[2, 0], [0, 1]], dtype=dtype))
    assert rows.tolist() == [[[4, 5], [0, 1]], [[0, 1], [2, 3]]]


def test_only_rows_that_are_looked_up_get_a_gradient() -> None:
    layer = embedding()
    layer(torch.tensor([[2, 2, 0]])).sum().backward()
    assert layer.embeddings.grad.tolist() == [[1, 1], [0, 0], [2, 2]]


def test_unknown_symbols_are_refused() -> None:
    with pytest.raises(IndexError):
        embedding()(torch.tensor([[3]]))


def test_zero_is_padding_on_demand() -> None:
    """And a mask that came from before is replaced."""
    symbols, mask = torch.tensor([[1, 0, 2]]), torch.tensor([[False, True, True]])
    assert embedding(mask_zero=True).compute_mask(symbols, mask).tolist() == [[True, False, True]]
    assert embedding().compute_mask(symbols, mask) is None


def test_weights_are_drawn_as_in_keras() -> None:
    """Uniform within 0.05."""
    layer = Embedding(100, 30)
    layer.build((None, None))
    assert 0.049 < layer.embeddings.abs().max() <= 0.05
    assert layer.count_params() == 3000


def test_config_round_trip_in_a_model() -> None:
    model = Sequential([Embedding(5, 4, embeddings_initializer="ones", mask_zero=True), Dense(2)])
    model.build((None, None))
    again = deserialize(serialize(model))

    assert again.get_config() == model.get_config()
    assert again.layers[0].mask_zero
    assert again.compute_output_shape((7, 6)) == (7, 6, 2)
    assert tuple(again(torch.zeros(7, 6, dtype=torch.int64)).shape) == (7, 6, 2)
    assert torch.equal(again.layers[0].embeddings, torch.ones(5, 4))
