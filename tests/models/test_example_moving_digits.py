"""The next frame of a film: what is measured, what is learnt, and the picture of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from models import ConvLSTM2D, runs
from models.datasets import moving_digits
from models.examples import film
from models.examples.moving_digits import MOVING_DIGITS, Films, MovingDigits, held_out_films
from models.training import Random, train

if TYPE_CHECKING:
    from pathlib import Path

    from models.training.run import Outcome

CPU = torch.device("cpu")
Arrays = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def data() -> Arrays:
    return held_out_films()


@pytest.fixture(scope="module")
def task(data: Arrays) -> MovingDigits:
    return MovingDigits(data, seed=0)


@pytest.fixture(scope="module")
def few() -> Films:
    return Films(torch.from_numpy(moving_digits(3, frames=6, seed=7)))


# What is measured


def test_the_baseline_is_repeating_the_last_frame(task: MovingDigits, data: Arrays) -> None:
    _, test = data
    errors = (test[:, 1:].astype(np.float64) - test[:, :-1]) ** 2
    assert task.baseline.value == pytest.approx(errors.mean())
    assert task.baseline.value == pytest.approx(0.0487, abs=5e-5)


def test_each_frame_is_to_foresee_the_next(task: MovingDigits, few: Films) -> None:
    """Written out, with probabilities in float64."""
    model = task.model()
    measured = task.measure(model, few)

    p = model(few.frames)[:, :-1].detach().double()
    y = few.frames[:, 1:].double()
    entropy = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    assert measured.loss.item() == pytest.approx(entropy.item(), rel=1e-6)
    assert measured.metric == pytest.approx((p - y).square().mean().item(), rel=1e-6)
    assert measured.weight == 3


def test_no_frame_is_foreseen_with_a_later_one(task: MovingDigits, few: Films) -> None:
    model = task.model()
    changed = few.frames.clone()
    changed[:, 3] = 0
    before, after = (model(frames).detach() for frames in (few.frames, changed))
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.equal(before[:, 3], after[:, 3])


def test_the_model(task: MovingDigits) -> None:
    model = task.model()
    assert isinstance(model.layers[0], ConvLSTM2D)
    assert model.output_name == "next_frames"
    assert tuple(model(torch.zeros(2, 5, 20, 20, 1)).shape) == (2, 5, 20, 20, 1)


# Training


def test_new_films_in_each_epoch(task: MovingDigits) -> None:
    random, same = Random(3, CPU), Random(3, CPU)
    first, again, second = (list(task.batches(r)) for r in (random, same, random))

    assert sum(len(batch.frames) for batch in first) == task.sizes["training"]
    assert torch.equal(first[0].frames, again[0].frames)
    assert not torch.equal(first[0].frames, second[0].frames)


def test_validation_and_test_are_always_the_same(data: Arrays) -> None:
    validation, test = data
    for films, again in zip(data, held_out_films(), strict=True):
        np.testing.assert_array_equal(films, again)
    assert not np.array_equal(validation, test[: len(validation)])


class Few(MovingDigits):
    training_films = 4


class Some(MovingDigits):
    training_films, batch_size = 75, 1


def trained(output: Path, task: MovingDigits, epochs: int) -> Outcome:
    quick = replace(MOVING_DIGITS.settings, epochs=epochs, learning_rate=0.02)
    return train(task, quick, output, name="films", seed=1)


def test_a_short_training_beats_the_baseline(data: Arrays, tmp_path: Path) -> None:
    validation, test = data
    outcome = trained(tmp_path, Some((validation[:10], test[:40]), seed=0), epochs=1)
    assert outcome.test < 0.7 * outcome.baseline
    assert (tmp_path / runs.CURVE).stat().st_size > 0


def test_same_seed_same_weights_and_back_from_the_run_folder(data: Arrays, tmp_path: Path) -> None:
    validation, test = data
    task = Few((validation[:3, :5], test[:3, :5]), seed=0)
    one, other = (trained(tmp_path / name, task, epochs=2) for name in ("a", "b"))

    assert replace(one, seconds=0) == replace(other, seconds=0)
    weights = [(tmp_path / name / runs.WEIGHTS).read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]
    loaded = runs.load(tmp_path / "a").model
    assert task.measure(loaded, task.test()[0]).metric == pytest.approx(one.test)


# The picture


def test_what_was_foreseen(task: MovingDigits, few: Films) -> None:
    model = task.model()
    frames = few.frames[0]
    came, predicted, before = film.foreseen(model, frames).values()

    assert came.shape == predicted.shape == before.shape == (5, 20, 20)
    assert torch.equal(came[:-1], before[1:])
    assert torch.equal(came[-1], frames[-1, ..., 0])
    torch.testing.assert_close(predicted, model(frames[None])[0, :-1, ..., 0].detach())


def test_the_picture_is_drawn(
    task: MovingDigits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, picture = tmp_path / "run", tmp_path / "film.png"
    runs.save(run, task.model(), "moving-digits", {})

    assert film.main([str(run), "--output", str(picture), "--film", "4"]) == 0
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert capsys.readouterr().out == f"{picture}: film 4 of the test set\n"


def test_no_run_no_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert film.main([str(tmp_path), "--output", str(tmp_path / "film.png")]) == 1
    assert "is not a run: it has no model.json" in capsys.readouterr().err
    assert not (tmp_path / "film.png").exists()
