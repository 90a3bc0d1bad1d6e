"""Batches, loss and the loop, on sequences small enough to check."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from models import LSTM, Dense, Normalization, Sequential
from models.datasets import Split
from models.training.batches import Batch, batches, hold_out, pad
from models.training.fit import Settings, evaluate, fit
from models.training.loss import at_last_frame, classification_loss, correct


def tiny_split(count: int = 24, classes: int = 2, seed: int = 0) -> Split:
    """Sequences of 3 to 6 frames with 2 features; the class is the sign of the first feature."""
    random = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % classes
    frames = [random.normal(size=(random.integers(3, 7), 2)).astype(np.float32) for _ in labels]
    for sequence, label in zip(frames, labels, strict=True):
        sequence[:, 0] += 3.0 * label - 1.5
    return Split(frames, labels)


def tiny_model() -> Sequential:
    torch.manual_seed(0)
    model = Sequential(
        [Normalization(), LSTM(4, return_sequences=True), Dense(2, activation="softmax")]
    )
    model.build((None, None, 2))
    return model


# Batches


def test_pad() -> None:
    split = Split([np.ones((2, 1), np.float32), np.ones((3, 1), np.float32)], np.array([1, 0]))
    batch = pad(split)

    assert batch.frames[..., 0].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch.mask.tolist() == [[True, True, False], [True, True, True]]
    assert batch.labels.tolist() == [1, 0]
    assert batch.lengths.tolist() == [2, 3]


def test_batches_hold_every_sequence_once() -> None:
    split = tiny_split(10)
    split = Split(split.frames, np.arange(10))
    found = list(batches(split, 4, np.random.default_rng(1)))

    assert [len(batch.labels) for batch in found] == [4, 4, 2]
    order = torch.cat([batch.labels for batch in found]).tolist()
    assert sorted(order) == list(range(10))
    assert order != list(range(10))


def test_hold_out_takes_a_share_of_every_class() -> None:
    split = tiny_split(40)
    rest, held_out = hold_out(split, 0.25, np.random.default_rng(0))

    assert np.bincount(held_out.labels).tolist() == [5, 5]
    assert np.bincount(rest.labels).tolist() == [15, 15]
    assert {id(f) for f in rest.frames}.isdisjoint(id(f) for f in held_out.frames)


def test_hold_out_needs_two_of_each_class() -> None:
    with pytest.raises(ValueError, match="Class 1 has 1 sequences: too few to hold out 1"):
        hold_out(tiny_split(3), 0.1, np.random.default_rng(0))


# Loss


def two_frames() -> tuple[torch.Tensor, Batch]:
    """One sequence of two real frames and one of padding; its class 0 has odds 3:1, then 1:1."""
    logits = torch.tensor([[[math.log(3.0), 0.0], [0.0, 0.0], [99.0, -99.0]]])
    mask = torch.tensor([[True, True, False]])
    return logits, Batch(torch.zeros(1, 3, 1), mask, torch.tensor([0]))


@pytest.mark.parametrize("final_weight", [0.0, 0.25, 1.0])
def test_loss_worked_out_by_hand(final_weight: float) -> None:
    """Cross-entropies ln(4/3) and ln 2: the last is ln 2, the mean half of their sum."""
    logits, batch = two_frames()
    mean = (math.log(4 / 3) + math.log(2)) / 2

    loss = classification_loss(logits, batch, final_weight)

    expected = final_weight * math.log(2) + (1 - final_weight) * mean
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_padding_has_no_gradient() -> None:
    logits, batch = two_frames()
    logits.requires_grad_()

    classification_loss(logits, batch, 0.5).backward()

    assert logits.grad[0, 2].tolist() == [0, 0]
    assert (logits.grad[0, :2] != 0).all()


def test_loss_is_finite_where_probabilities_underflow() -> None:
    logits, batch = two_frames()

    assert classification_loss(-1e4 * logits, batch, 0.5).isfinite()


def test_correct_looks_at_the_last_real_frame() -> None:
    logits, batch = two_frames()
    logits[0, 1] = torch.tensor([0.0, 1.0])

    assert at_last_frame(logits, batch).tolist() == [[0.0, 1.0]]
    assert correct(logits, batch).tolist() == [False]


# The loop


def test_fit_learns() -> None:
    model, seen = tiny_model(), []
    settings = Settings(epochs=15, learning_rate=0.02, batch_size=8)

    fitted = fit(model, tiny_split(), tiny_split(seed=1), settings, seed=0, on_epoch=seen.append)

    assert fitted.history == seen
    assert [epoch.epoch for epoch in seen] == list(range(1, 16))
    assert seen[-1].loss < seen[0].loss / 2
    assert evaluate(model, pad(tiny_split(seed=2)), 0.5)[1] > 0.95
    assert not model.training


def test_fit_is_reproducible_bit_for_bit() -> None:
    settings = Settings(epochs=3, noise=0.5, batch_size=8)
    models = [tiny_model(), tiny_model(), tiny_model()]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        torch.rand(seed + 1)  # the global generator must not matter
        fit(model, tiny_split(), tiny_split(seed=1), settings, seed=seed)
    first, second, other = (torch.cat([w.flatten() for w in m.weights]) for m in models)

    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_early_stopping_keeps_the_best_weights() -> None:
    """A huge learning rate makes it worse soon; what stays is the best epoch's model."""
    model = tiny_model()
    validation = tiny_split(seed=1)
    settings = Settings(epochs=40, patience=3, learning_rate=0.3, final_weight=0.5)

    fitted = fit(model, tiny_split(), validation, settings, seed=0)

    losses = [epoch.validation_loss for epoch in fitted.history]
    assert fitted.best_epoch == 1 + losses.index(min(losses))
    assert len(losses) == min(40, fitted.best_epoch + 3)
    assert evaluate(model, pad(validation), 0.5)[0] == min(losses)


def test_patience_ends_training_early() -> None:
    """Without a learning rate nothing gets better after the first epoch."""
    settings = Settings(epochs=40, patience=3, learning_rate=0.0)

    fitted = fit(tiny_model(), tiny_split(), tiny_split(seed=1), settings, seed=0)

    assert (fitted.best_epoch, len(fitted.history)) == (1, 4)
