"""Exercises: how watches are turned, what counts, training in chunks, and the export."""

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
from models.datasets import exercises
from models.examples.exercises import BATCH_SIZE, CHUNK, EXERCISES, TURN, Exercises, Steps, turned
from models.training import Random, train
from models.training.stateful import stateless

if TYPE_CHECKING:
    from pathlib import Path

    from models.datasets import Sessions
    from models.training import Outcome


@pytest.fixture(scope="module")
def data() -> tuple[Sessions, Sessions, Sessions]:
    return exercises()


@pytest.fixture(scope="module")
def task(data: tuple[Sessions, Sessions, Sessions]) -> Exercises:
    return Exercises(data, seed=0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Turned watches


def test_a_turned_watch_feels_the_same_from_another_side() -> None:
    """Lengths and angles stay, within a session and between acceleration and rotation."""
    frames = torch.randn(5, 8, 6, generator=generator(1), dtype=torch.float64)
    after = turned(frames.float(), generator()).double()

    vectors, vectors_after = (x.reshape(5, 16, 3) for x in (frames, after))
    torch.testing.assert_close(
        vectors_after @ vectors_after.mT, vectors @ vectors.mT, rtol=0, atol=1e-5
    )
    determinants = torch.linalg.det(vectors_after[:, :3]) / torch.linalg.det(vectors[:, :3])
    torch.testing.assert_close(determinants, torch.ones_like(determinants), rtol=0, atol=1e-4)
    assert ((after - frames).abs().amax(dim=(1, 2)) > 0.02).all()


def test_watches_are_turned_by_as_much_as_it_says() -> None:
    """What lies along one axis gets parts along the two others, of the angle's size."""
    frames = torch.zeros(4000, 1, 6)
    frames[..., 0] = 1
    frames[..., 4] = 1
    after = turned(frames, generator())[:, 0]

    assert after[:, [1, 2, 3, 5]].mean(dim=0).abs().max() < 0.01
    torch.testing.assert_close(
        after[:, [1, 2, 3, 5]].std(dim=0), torch.full((4,), TURN), rtol=0.05, atol=0
    )


# The task


def test_every_session_once_an_epoch(task: Exercises, data: tuple[Sessions, ...]) -> None:
    """All batches are full: no session is left out."""
    random = Random(3, torch.device("cpu"))
    first, second = (list(task.batches(random)) for _ in range(2))
    (again, *_) = task.batches(Random(3, torch.device("cpu")))

    assert {len(batch.frames) for batch in first} == {BATCH_SIZE}
    labels = torch.cat([batch.labels for batch in first])
    assert sorted(labels.tolist()) == sorted(data[0].labels.tolist())
    assert torch.equal(first[0].frames, again.frames)
    assert not torch.equal(first[0].frames, second[0].frames)


def test_what_can_be_had_without_memory(task: Exercises, data: tuple[Sessions, ...]) -> None:
    """The figure that the example's description compares with: the nearest mean at each step."""
    train_set, _, test = data
    frames, labels = train_set.frames.reshape(-1, 6), train_set.labels.ravel()
    deviation = frames.std(axis=0)
    means = np.stack([frames[labels == exercise].mean(axis=0) for exercise in range(7)])
    distances = (((test.frames[..., None, :] - means) / deviation) ** 2).sum(axis=-1)

    assert (distances.argmin(axis=-1) == test.labels).mean() == pytest.approx(0.473, abs=5e-4)
    assert task.baseline.value == pytest.approx(0.1717, abs=5e-5)


def test_measured_at_every_step(task: Exercises) -> None:
    """Without weights all exercises are equally likely, and the first is named."""
    model = stateless(task.model())
    (normalization, *layers) = model.layers
    for layer in layers:
        layer.set_weights([np.zeros(weight.shape) for weight in layer.weights])
    batch = Steps(torch.randn(2, 4, 6), torch.tensor([[0, 0, 3, 3], [5, 5, 5, 0]]))
    measured = task.measure(model, batch)

    assert measured.loss.item() == pytest.approx(math.log(7))
    assert (measured.metric, measured.weight) == (3 / 8, 8)
    assert (normalization.std > 0.4).all()


def test_chunks_are_what_the_whole_session_is(task: Exercises) -> None:
    """The states go on from chunk to chunk; each step counts once."""
    model = task.model()
    (batch, *_) = task.batches(Random(0, torch.device("cpu")))
    model.reset_states()
    chunks = [task.measure(model, chunk) for chunk in batch.chunks(CHUNK)]
    whole = task.measure(stateless(model), batch)

    assert [chunk.weight for chunk in chunks] == [BATCH_SIZE * CHUNK] * (300 // CHUNK)
    assert np.mean([c.loss.item() for c in chunks]) == pytest.approx(whole.loss.item(), rel=1e-5)
    assert np.mean([chunk.metric for chunk in chunks]) == pytest.approx(whole.metric, abs=1e-3)


# Training and export


def trained(data: tuple[Sessions, ...], output: Path, sessions: int, epochs: int) -> Outcome:
    """Of all sessions for training so many, spread over all people."""
    everything, *others = data
    some = everything.take(np.linspace(0, len(everything) - 1, sessions).astype(np.int64))
    settings = replace(EXERCISES.settings, epochs=epochs)
    return train(Exercises((some, *others), seed=5), settings, output, name="exercises", seed=5)


def test_a_short_training_beats_what_has_no_memory(
    data: tuple[Sessions, ...], tmp_path: Path
) -> None:
    """And what came out is exported, proven with sessions of the test set."""
    outcome = trained(data, tmp_path / "run", sessions=7 * BATCH_SIZE, epochs=2)
    (exported,) = export_run(tmp_path / "run", tmp_path / "repository")

    assert outcome.test > 0.55 > 0.473 > outcome.baseline
    assert exported.proof.passed
    assert any(row.comparison == "strangers, real data" for row in exported.proof.rows)
    assert "sequence_batching" in exported.config_path.read_text()


def test_the_untrained_model_passes_the_proof(task: Exercises, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = stateless(task.model())
    assert export.install(model, tmp_path).proof.passed


def test_same_seed_same_weights(data: tuple[Sessions, ...], tmp_path: Path) -> None:
    one, other = (trained(data, tmp_path / name, BATCH_SIZE, epochs=2) for name in ("a", "b"))

    assert replace(one, seconds=0) == replace(other, seconds=0)
    weights = [(tmp_path / name / runs.WEIGHTS).read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]
