"""Truncated back-propagation: chunks, carried states, and evaluation without stateful layers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
import torch

from models import LSTM, RNN, Dense, LSTMCell, Sequential, runs
from models.training import Batch, Settings, train
from models.training.fit import Training
from models.training.stateful import recurrent_layers, reset_states, stateless
from tests.models.training_tasks import BATCH_SIZE, Recall, Steps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

ONE_EPOCH = Settings(epochs=1, clip_norm=math.inf)


def trained(task: Recall, settings: Settings, epochs: int = 1) -> Training[Steps]:
    torch.manual_seed(0)
    training = Training(task, task.model(), settings, seed=0)
    for _ in range(epochs):
        training.run_epoch()
    return training


def weights(training: Training[Steps]) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in training.model.weights])


# Chunks


def test_chunks_are_pieces_in_time() -> None:
    batch = Recall().sequences(3, seed=0)
    pieces = list(batch.chunks(5))

    assert [piece.timesteps for piece in pieces] == [5, 5, 2]
    assert torch.equal(torch.cat([piece.frames for piece in pieces], dim=1), batch.frames)
    assert torch.equal(torch.cat([piece.labels for piece in pieces], dim=1), batch.labels)
    assert list(batch.chunks(None)) == [batch]


@dataclass(frozen=True)
class Labelled(Batch):
    frames: Tensor
    mask: Tensor | None
    labels: Tensor


@pytest.mark.parametrize("labels", [(2,), (2, 3)])
def test_only_what_has_time_as_axis_1_can_be_cut(labels: tuple[int, ...]) -> None:
    batch = Labelled(torch.zeros(2, 5, 1), None, torch.zeros(labels))

    with pytest.raises(ValueError, match=r"frames \(2, 5, 1\), labels \(2,"):
        list(batch.chunks(2))


def test_one_step_of_the_optimiser_per_chunk() -> None:
    steps: list[None] = []
    task = Recall(stateful=True)
    training = Training(
        task, task.model(), Settings(chunk=5), seed=0, on_step=lambda: steps.append(None)
    )

    training.run_epoch()

    assert len(steps) == 64 // BATCH_SIZE * 3


# What truncation is


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_one_chunk_is_plain_back_propagation(dropout: float) -> None:
    """Bit for bit, over several epochs."""
    settings = Settings(epochs=3)
    plain = trained(Recall(dropout=dropout), settings, epochs=3)
    in_one = trained(Recall(dropout=dropout, stateful=True), replace(settings, chunk=12), epochs=3)
    in_two = trained(Recall(dropout=dropout, stateful=True), replace(settings, chunk=6), epochs=3)

    assert torch.equal(weights(plain), weights(in_one))
    assert not torch.equal(weights(plain), weights(in_two))
    without_time = [replace(epoch, seconds=0) for epoch in plain.history]
    assert without_time == [replace(epoch, seconds=0) for epoch in in_one.history]


def test_the_gradient_of_a_chunk_stops_at_the_carried_states() -> None:
    """With a learning rate of zero the weights stay, and the last chunk's gradient can be read."""
    task = Recall(stateful=True, count=BATCH_SIZE, noise=0.0)
    settings = replace(ONE_EPOCH, learning_rate=0.0, chunk=5)
    training = trained(task, settings)
    model = training.model
    frames = last_batch(task).frames
    labels = last_batch(task).labels

    plain = stateless(model)
    assert isinstance(plain, Sequential)
    states = carried(plain, frames[:, :10])
    gradients = {}
    for name, start in (("detached", [s.detach() for s in states]), ("attached", states)):
        logits = plain.logits(frames[:, 10:], initial_state=start)[..., 0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels[:, 10:])
        gradients[name] = torch.autograd.grad(loss, list(plain.parameters()), retain_graph=True)

    found = [weight.grad for weight in model.parameters()]
    torch.testing.assert_close(found, list(gradients["detached"]))
    difference = found[0] - gradients["attached"][0]
    assert difference.norm() > 0.1 * gradients["attached"][0].norm()


def last_batch(task: Recall) -> Steps:
    """The rows of the only batch, in the order in which a training with seed 0 takes them."""
    from models.training import Random

    (batch,) = task.batches(Random(0, torch.device("cpu")))
    return batch


def carried(model: Sequential, frames: Tensor) -> list[Tensor]:
    _, states = model.step(frames, model.initial_state(len(frames)))
    return list(states)


def test_what_is_carried_outlives_a_chunk() -> None:
    """No gradient reaches back over more than 3 of 24 steps, and still the first is remembered.

    The last chunk alone does not give the answer away: it is all in the states.
    """
    task = Recall(steps=24, stateful=True)
    training = trained(task, Settings(epochs=60, chunk=3, learning_rate=0.02), epochs=60)
    (whole,) = task.test()
    *_, last = whole.chunks(3)

    assert training.evaluate([whole])[1] == 1.0
    assert 0.3 < training.evaluate([last])[1] < 0.7


# Resets


class Continued(Recall):
    """The one batch of an epoch in pieces: each goes on where the one before has stopped."""

    def batches(self, random) -> Iterator[Steps]:
        for batch in super().batches(random):
            yield from batch.chunks(4)


def test_batches_may_continue_each_other() -> None:
    """Then they equal chunks of one batch, and differ from batches that start from zero."""
    options = {"stateful": True, "count": BATCH_SIZE}
    chunks = trained(Recall(**options), Settings(chunk=4), epochs=3)
    batches = trained(Continued(**options), Settings(reset="epoch"), epochs=3)
    apart = trained(Continued(**options), Settings(reset="batch"), epochs=3)

    assert torch.equal(weights(chunks), weights(batches))
    assert not torch.equal(weights(chunks), weights(apart))


def test_each_epoch_starts_from_zero() -> None:
    """As each batch does: else the second epoch would start from the states of the first."""
    task = Recall(stateful=True, count=BATCH_SIZE, noise=0.0)
    settings = Settings(learning_rate=0.0, chunk=12, reset="epoch")
    training = trained(task, settings, epochs=2)

    first, second = training.history

    assert second.loss == pytest.approx(first.loss, rel=1e-6)


def test_reset_reaches_layers_inside_layers() -> None:
    inner = Sequential([LSTM(2, stateful=True, return_sequences=True)], name="inner")
    outer = Sequential([inner, LSTM(2), Dense(1)])
    outer.build((3, None, 2))
    outer(torch.randn(3, 4, 2))
    (stateful, other) = recurrent_layers(outer)
    assert stateful.states[0].abs().max() > 0

    reset_states(outer)

    assert all(state.abs().max() == 0 for state in stateful.states)
    assert not other.stateful


# What is refused


@pytest.mark.parametrize("settings", [Settings(chunk=4), Settings(reset="epoch")])
def test_states_cannot_be_carried_by_layers_that_forget(settings: Settings) -> None:
    task = Recall()

    with pytest.raises(ValueError, match="need stateful=True, but lstm has it not"):
        Training(task, task.model(), settings, seed=0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"chunk": 0}, "chunk is 0; it must be 1 or more"),
        ({"epochs": 0}, "epochs is 0"),
        ({"patience": 0}, "patience is 0"),
        ({"clip_norm": 0.0}, r"clip_norm is 0\.0; it must be above 0"),
        ({"reset": "never"}, "reset is 'never'; it must be 'batch' or 'epoch'"),
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**wrong)


# Without stateful layers


def test_the_stateless_copy_computes_the_same_for_any_batch() -> None:
    task = Recall(stateful=True)
    model = task.model()
    frames = task.sequences(BATCH_SIZE, seed=0).frames
    torch.manual_seed(1)
    before = torch.get_rng_state()

    copy = stateless(model)

    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(copy(frames), model(frames))
    assert copy(frames[:3]).shape == (3, 12, 1)
    assert not any(layer.stateful for layer in recurrent_layers(copy))
    assert model.layers[0].stateful


def test_a_model_without_stateful_layers_needs_no_copy() -> None:
    model = Recall().model()

    assert stateless(model) is model


def test_cells_keep_their_kind_in_the_copy() -> None:
    model = Sequential([RNN([LSTMCell(2), LSTMCell(3)], stateful=True), Dense(1)])
    model.build((4, None, 2))

    torch.testing.assert_close(stateless(model)(torch.ones(4, 5, 2)), model(torch.ones(4, 5, 2)))


def test_what_is_saved_is_not_stateful(tmp_path: Path) -> None:
    """Else a run could be used with batches of the training's size only, and would remember."""
    task = Recall(stateful=True)
    train(task, Settings(epochs=1, chunk=4), tmp_path, name="recall")

    model = runs.load(tmp_path).model

    assert model(torch.ones(3, 7, 2)).shape == (3, 7, 1)
    assert torch.equal(model(torch.ones(1, 7, 2)), model(torch.ones(1, 7, 2)))
