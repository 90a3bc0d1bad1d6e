"""Random stacks of random layers with random options, in a random form: torch = ONNX Runtime."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest
import torch

import models
from export.program import program
from export.verify import verify

MODELS = 40
ACTIVATIONS = ["tanh", "sigmoid", "softsign", "hard_sigmoid", "softmax"]
GATES = ["hard_sigmoid", "sigmoid", "hard_sigmoid_keras3", "softmax"]


def random_cell(draw: random.Random) -> Any:
    units, bias = draw.randint(1, 6), draw.random() < 0.7
    activation, gates = draw.choice(ACTIVATIONS), draw.choice(GATES)
    match draw.randrange(4):
        case 0:
            return models.SimpleRNNCell(units, activation, bias)
        case 1:
            return models.LSTMCell(units, activation, gates, bias)
        case 2:
            reset_after = draw.random() < 0.5
            return models.GRUCell(units, activation, gates, bias, reset_after=reset_after)
        case _:
            sizes = [draw.randint(1, 4) for _ in range(draw.randint(1, 3))]
            kind = draw.choice(["tanh", "lstm", "gru"])
            return models.GatedFeedbackRNNCell(sizes, kind, activation, gates)


def random_layer(draw: random.Random, *, last: bool) -> models.Layer:
    cells = [random_cell(draw) for _ in range(draw.choice([1, 1, 1, 2, 3]))]
    cell = cells[0]
    if len(cells) > 1:
        with warnings.catch_warnings(action="ignore"):
            cell = models.StackedRNNCells(cells, reverse_state_order=draw.random() < 0.3)
    return models.RNN(
        cell,
        return_sequences=not last or draw.random() < 0.5,
        go_backwards=draw.random() < 0.2,
        unroll=draw.random() < 0.2,
        stateful=draw.random() < 0.2,
    )


def random_model(draw: random.Random) -> models.Sequential:
    layers: list[models.Layer] = []
    symbols = draw.random() < 0.3
    if symbols:
        layers.append(models.Embedding(9, draw.randint(1, 5), mask_zero=draw.random() < 0.5))
    elif draw.random() < 0.3:
        layers.append(models.Masking(0.0))
    count = draw.randint(1, 3)
    for number in range(count):
        if draw.random() < 0.3:
            layers.append(models.Dense(draw.randint(1, 6), draw.choice(ACTIVATIONS)))
        layers.append(random_layer(draw, last=number + 1 == count))
    if draw.random() < 0.5:
        layers.append(models.Dense(draw.randint(1, 4), "softmax"))
    model = models.Sequential(layers)
    model.build((2, None) if symbols else (2, None, draw.randint(1, 6)))
    generator = torch.Generator().manual_seed(draw.randrange(2**31))
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.5, generator=generator)
    return model


@pytest.mark.parametrize("seed", range(MODELS))
def test_a_random_model(seed: int) -> None:
    torch.set_num_threads(1)
    draw = random.Random(seed)
    model = random_model(draw)
    makes_its_own = isinstance(model.layers[0], (models.Masking, models.Embedding))
    options: dict[str, Any] = {
        "target": draw.choice(["cuda", "cpu"]),
        "mask": draw.random() < 0.4 and not makes_its_own,
    }
    made = program(model, **options)
    if made.signature.may_be_cut and draw.random() < 0.5:
        made = program(model, one_step=True, **options)
    proof = verify(made.plan, made.model.SerializeToString(), made.signature, seed=seed)
    assert not proof.failures
    assert proof.rows
