"""Batches, loss and the loop, on sequences small enough to check."""

from __future__ import annotations

import copy
import csv
import math
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from models import constraints, regularizers, runs
from models.datasets import Split
from models.training import Settings, shuffled, train
from models.training.fit import Diverged, Training
from models.training.loss import at_last_frame, classification_loss, correct
from models.training.sequences import Sequences, hold_out, pad
from tests.models.training_tasks import Recall, Steps

if TYPE_CHECKING:
    from pathlib import Path

    from models import Layer


def tiny_split(count: int = 24, classes: int = 2, seed: int = 0) -> Split:
    """Sequences of 3 to 6 frames with 2 features; the class is the sign of the first feature."""
    random = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % classes
    frames = [random.normal(size=(random.integers(3, 7), 2)).astype(np.float32) for _ in labels]
    for sequence, label in zip(frames, labels, strict=True):
        sequence[:, 0] += 3.0 * label - 1.5
    return Split(frames, labels)


# Batches


def test_pad() -> None:
    split = Split([np.ones((2, 1), np.float32), np.ones((3, 1), np.float32)], np.array([1, 0]))
    batch = pad(split)

    assert batch.frames[..., 0].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch.mask.tolist() == [[True, True, False], [True, True, True]]
    assert batch.labels.tolist() == [1, 0]
    assert batch.lengths.tolist() == [2, 3]


def test_shuffled_goes_through_everything_once() -> None:
    found = list(shuffled(10, 4, np.random.default_rng(1)))

    assert [len(chosen) for chosen in found] == [4, 4, 2]
    order = np.concatenate(found).tolist()
    assert sorted(order) == list(range(10))
    assert order != list(range(10))


@pytest.mark.parametrize(("count", "sizes"), [(10, [4, 4]), (8, [4, 4]), (3, [])])
def test_shuffled_in_batches_of_one_size(count: int, sizes: list[int]) -> None:
    found = list(shuffled(count, 4, np.random.default_rng(1), drop_last=True))

    assert [len(chosen) for chosen in found] == sizes


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


def two_frames() -> tuple[torch.Tensor, Sequences]:
    """One sequence of two real frames and one of padding; its class 0 has odds 3:1, then 1:1."""
    logits = torch.tensor([[[math.log(3.0), 0.0], [0.0, 0.0], [99.0, -99.0]]])
    mask = torch.tensor([[True, True, False]])
    return logits, Sequences(torch.zeros(1, 3, 1), mask, torch.tensor([0]))


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


def trained(task: Recall, settings: Settings, seed: int = 0) -> Training[Steps]:
    torch.manual_seed(0)
    training = Training(task, task.model(), settings, seed)
    while not training.over:
        training.run_epoch()
    return training


def weights(model: Layer) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.weights])


def test_training_learns() -> None:
    task = Recall(steps=6)
    training = trained(task, Settings(epochs=30, learning_rate=0.02))

    assert [epoch.epoch for epoch in training.history] == list(range(1, 31))
    assert training.history[-1].loss < training.history[0].loss / 2
    training.best_model()
    assert training.evaluate(task.test())[1] > 0.95


def test_training_is_reproducible_bit_for_bit() -> None:
    settings = Settings(epochs=3)
    results = []
    for seed in (0, 0, 1):
        torch.rand(seed + 1)  # the global generator must not matter
        results.append(weights(trained(Recall(dropout=0.2), settings, seed).best_model()))
    first, second, other = results

    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_early_stopping_keeps_the_best_weights() -> None:
    """A huge learning rate makes it worse soon; what stays is the best epoch's model."""
    task = Recall()
    training = trained(task, Settings(epochs=40, patience=3, learning_rate=0.3))

    losses = [epoch.validation_loss for epoch in training.history]
    assert training.best is not None
    assert training.best.epoch == 1 + losses.index(min(losses))
    assert len(losses) == min(40, training.best.epoch + 3)
    assert not training.best_model().training
    assert training.evaluate(task.validation())[0] == min(losses)


def test_patience_ends_training_early() -> None:
    """Without a learning rate nothing gets better after the first epoch."""
    training = trained(Recall(), Settings(epochs=40, patience=3, learning_rate=0.0))

    assert training.best is not None
    assert (training.best.epoch, len(training.history)) == (1, 4)


def test_evaluation_weighs_batches_by_their_size() -> None:
    """In pieces of 4 and 6 sequences, or all at once, it is the same."""
    task = Recall(stateful=True)
    training = Training(task, task.model(), Settings(chunk=4), seed=0)

    in_pieces = training.evaluate(task.validation())

    assert in_pieces == pytest.approx(training.evaluate([task.sequences(10, seed=1)]))


def test_gradients_are_clipped_and_their_norm_is_that_before() -> None:
    """All weights together; the history has the mean norm over the steps of the epoch."""
    task = Recall(count=16)
    unclipped = Training(task, task.model(), Settings(clip_norm=math.inf), seed=0)
    clipped = Training(task, copy.deepcopy(unclipped.model), Settings(clip_norm=0.01), seed=0)
    norms = [training.run_epoch().gradient_norm for training in (unclipped, clipped)]

    left = [
        torch.cat([w.grad.flatten() for w in training.model.parameters()]).norm().item()
        for training in (unclipped, clipped)
    ]
    assert norms[0] == norms[1] == pytest.approx(left[0])
    assert left[0] > 0.02
    assert left[1] == pytest.approx(0.01, rel=1e-3)


def test_penalties_are_minimised_and_constraints_kept() -> None:
    """The history's losses are without the penalties."""
    settings = Settings(epochs=1, learning_rate=0.01)
    plain = trained(Recall(), settings)
    heavy = trained(Recall(options={"kernel_regularizer": regularizers.l2(10.0)}), settings)
    bounded = trained(Recall(options={"kernel_constraint": constraints.max_norm(0.3)}), settings)

    kernels = [t.model.layers[0].cell.kernel.detach() for t in (plain, heavy, bounded)]
    assert kernels[1].norm() < 0.9 * kernels[0].norm()
    assert heavy.history[0].loss == pytest.approx(plain.history[0].loss, rel=0.05)
    assert kernels[2].norm(dim=0).max() < 0.3 + 1e-5
    assert kernels[0].norm(dim=0).max() > 0.4


def test_numbers_that_run_away() -> None:
    class Broken(Recall):
        def measure(self, model, batch):
            measured = super().measure(model, batch)
            return replace(measured, loss=measured.loss * math.inf)

    with pytest.raises(Diverged, match=r"norm of the gradient is (nan|inf) in epoch 1"):
        trained(Broken(), Settings())


def test_a_validation_loss_that_runs_away() -> None:
    class Broken(Recall):
        def measure(self, model, batch):
            measured = super().measure(model, batch)
            return measured if model.training else replace(measured, loss=measured.loss * math.nan)

    with pytest.raises(Diverged, match=r"validation loss is nan in epoch 1"):
        trained(Broken(), Settings())


def test_a_task_without_batches() -> None:
    with pytest.raises(ValueError, match="gave no batches"):
        trained(Recall(count=3), Settings())


def test_a_metric_is_needed_for_evaluation() -> None:
    class Silent(Recall):
        def measure(self, model, batch):
            return replace(super().measure(model, batch), metric=None)

    with pytest.raises(TypeError, match="must give a metric unless"):
        trained(Silent(), Settings())


# A run


def test_a_run_says_what_came_out(tmp_path: Path) -> None:
    task = Recall(steps=6)
    settings = Settings(epochs=4, learning_rate=0.02)

    outcome = train(task, settings, tmp_path, name="recall", seed=3)

    run = runs.load(tmp_path)
    assert run.name == "recall"
    assert run.metrics == {**asdict(outcome)}
    assert outcome.metric == "last answer"
    assert (outcome.baseline, outcome.baseline_is) == (0.5, "a coin")
    assert (outcome.seed, outcome.epochs, outcome.parameters) == (3, 4, 32 * 11 + 9)
    (test,) = task.test()
    right = (run.model(test.frames)[:, -1, 0] > 0.5) == (test.labels[:, -1] > 0.5)
    assert outcome.test == right.double().mean().item()


def test_the_curve_has_the_metric_under_its_own_name(tmp_path: Path) -> None:
    train(Recall(), Settings(epochs=2), tmp_path, name="recall")

    with (tmp_path / runs.HISTORY).open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert list(rows[0]) == [
        *("epoch", "loss", "last_answer", "validation_loss", "validation_last_answer"),
        *("learning_rate", "gradient_norm", "seconds"),
    ]
    assert (tmp_path / runs.CURVE).read_bytes().startswith(b"\x89PNG")


def test_a_model_that_could_not_be_saved_is_not_trained(tmp_path: Path) -> None:
    def mine(x: torch.Tensor) -> torch.Tensor:
        return x.sin()

    task = Recall(options={"activation": mine})

    with pytest.raises(ValueError, match=r"cannot be saved: .*activation in its config is <func"):
        train(task, Settings(), tmp_path, name="recall")
    assert task.given == 0


# The device


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("chunk", [None, 5])
def test_training_on_a_gpu(tmp_path: Path, chunk: int | None) -> None:
    """Interrupted and resumed there, too; what is saved loads on the CPU."""

    def interrupt(number: int) -> None:
        if number == 4 * 2 + 1:
            raise KeyboardInterrupt

    options = {"stateful": chunk is not None, "dropout": 0.2, "steps": 6}
    settings = Settings(epochs=30, learning_rate=0.02, chunk=chunk)
    arguments = {"settings": settings, "output": tmp_path, "name": "recall", "device": "cuda"}
    with pytest.raises(KeyboardInterrupt):
        train(Recall(in_batch=interrupt, **options), **arguments)

    outcome = train(Recall(**options), resume=True, **arguments)

    assert outcome.device == "cuda"
    assert outcome.test > 0.9
    assert runs.load(tmp_path).model(torch.ones(2, 6, 2)).device.type == "cpu"
