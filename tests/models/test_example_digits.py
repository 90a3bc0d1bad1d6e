"""Digits: how the training images are warped, what is measured, and that it is served stateless."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import export
from export.pipeline import export_run
from models import runs
from models.datasets import digits
from models.examples.digits import DIGITS, Digit, Digits, flat
from models.examples.warping import NOISE, SHIFT, SPREAD, warped
from models.training import Random, train
from server.repository.load import load

if TYPE_CHECKING:
    from pathlib import Path

    from models.datasets import Images
    from models.training import Outcome


@pytest.fixture(scope="module")
def data() -> tuple[Images, Images, Images]:
    return digits()


@pytest.fixture(scope="module")
def task(data: tuple[Images, Images, Images]) -> Digits:
    return Digits(data, seed=0)


def random(seed: int = 3) -> Random:
    return Random(seed, torch.device("cpu"))


# Warping


@pytest.mark.parametrize("axis", [0, 1])
def test_images_are_moved_and_stretched_by_as_much_as_it_says(axis: int) -> None:
    """The pixel in the middle shows the shift, those two further along either axis the matrix.

    Each pixel says where along `axis` it is, so loudly that noise is nothing beside it.
    """
    shape, loud = (9, 13), 1e4
    places = loud * torch.stack(torch.meshgrid(*map(torch.arange, shape), indexing="ij"))
    found = warped(places[axis].expand(4000, *shape), random().generator) / loud
    middle, below, beside = found[:, 4, 6], found[:, 6, 6], found[:, 4, 8]
    along, across = (below, beside) if axis == 0 else (beside, below)
    half_images = shape[1 - axis] / shape[axis]  # the matrix's unit, where the axes differ

    for offset, mean, deviation in (
        (middle - shape[axis] // 2, 0, SHIFT),
        (along - middle, 2, 2 * SPREAD),
        ((across - middle) * half_images, 0, 2 * SPREAD),
    ):
        assert offset.mean().item() == pytest.approx(mean, abs=0.03)
        assert offset.std().item() == pytest.approx(deviation, rel=0.05)


def test_noise_on_paper() -> None:
    paper = warped(torch.zeros(200, 8, 8), random().generator)
    assert paper.mean().item() == pytest.approx(0, abs=0.01)
    assert paper.std().item() == pytest.approx(NOISE, rel=0.03)


# The task


def test_every_image_once_an_epoch_with_its_label(task: Digits, data: tuple[Images, ...]) -> None:
    """Most warped images still are nearer to the mean of their digit than to another's."""
    drawn = random()
    first, second = (list(task.batches(drawn)) for _ in range(2))
    (again, *_) = task.batches(random())

    labels = torch.cat([batch.labels for batch in first])
    assert labels.bincount().tolist() == np.bincount(data[0].labels).tolist()
    assert torch.equal(first[0].pixels, again.pixels)
    assert not torch.equal(first[0].pixels, second[0].pixels)
    pixels = torch.cat([batch.pixels for batch in first])
    assert nearest_mean(data[0], pixels.numpy(), labels.numpy()) > 0.5


def nearest_mean(train_set: Images, pixels: np.ndarray, labels: np.ndarray) -> float:
    """The accuracy of naming the digit of whose training images the mean is nearest."""
    means = np.stack([flat(train_set)[train_set.labels == digit].mean(0) for digit in range(10)])
    distances = ((pixels[:, None] - means) ** 2).sum(axis=-1)
    return float((distances.argmin(axis=1) == labels).mean())


def test_what_can_be_had_without_a_network(task: Digits, data: tuple[Images, ...]) -> None:
    """The figures that the example's description compares with."""
    train_set, _, test = data
    distances = ((flat(test)[:, None] - flat(train_set)) ** 2).sum(axis=-1)
    nearest = train_set.labels[distances.argmin(axis=1)]

    assert task.baseline.value == 39 / 382
    assert nearest_mean(train_set, flat(test), test.labels) == pytest.approx(0.856, abs=5e-4)
    assert (nearest == test.labels).mean() == pytest.approx(0.950, abs=5e-4)


def test_measured(task: Digits) -> None:
    """Without weights all digits are equally likely, and the first is named."""
    model = task.model()
    model.set_weights([np.zeros(weight.shape) for weight in model.weights])
    batch = Digit(torch.rand(4, 64), torch.tensor([0, 3, 0, 9]))
    measured = task.measure(model, batch)

    assert measured.loss.item() == pytest.approx(math.log(10))
    assert (measured.metric, measured.weight) == (0.5, 4)


# Training and export


def trained(data: tuple[Images, Images, Images], output: Path, epochs: int) -> Outcome:
    settings = replace(DIGITS.settings, epochs=epochs)
    return train(Digits(data, seed=5), settings, output, name="digits", seed=5)


def test_a_short_training_beats_the_nearest_mean_of_a_digit(
    data: tuple[Images, Images, Images], tmp_path: Path
) -> None:
    """And what came out is exported, proven with test images, and served without states."""
    outcome = trained(data, tmp_path / "run", epochs=4)
    (exported,) = export_run(tmp_path / "run", tmp_path / "repository")

    assert outcome.test > 0.86 > 8 * outcome.baseline
    assert exported.proof.passed
    assert {row.comparison.partition(", ")[2] for row in exported.proof.rows} == {
        "random",
        "real data",
    }
    (spec,) = load(tmp_path / "repository" / "digits")
    assert spec.states == ()
    assert [(tensor.name, tensor.shape[1:]) for tensor in (*spec.inputs, *spec.outputs)] == [
        ("pixels", (64,)),
        ("probabilities", (10,)),
    ]


def test_same_seed_same_weights(data: tuple[Images, Images, Images], tmp_path: Path) -> None:
    few = (data[0].take(np.arange(100)), *data[1:])
    one, other = (trained(few, tmp_path / name, epochs=2) for name in ("a", "b"))

    assert replace(one, seconds=0) == replace(other, seconds=0)
    weights = [(tmp_path / name / runs.WEIGHTS).read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]


def test_the_untrained_model_passes_the_proof(task: Digits, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = task.model()
    assert export.install(model, tmp_path).proof.passed
