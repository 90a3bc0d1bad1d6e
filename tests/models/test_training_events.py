"""What TensorBoard gets to see, read back by TensorBoard's own reader."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models.training import Settings, train
from models.training.checkpoint import CHECKPOINT
from models.training.events import FOLDER
from tests.models.training_tasks import Recall

if TYPE_CHECKING:
    from pathlib import Path

    from models.training.fit import Epoch

TAGS = {
    "loss/training": "loss",
    "loss/validation": "validation_loss",
    "last_answer/training": "metric",
    "last_answer/validation": "validation_metric",
    "learning_rate": "learning_rate",
    "gradient_norm": "gradient_norm",
}


def curves(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """(epoch, value) by tag."""
    events = EventAccumulator(str(run_dir / FOLDER))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def trained(run_dir: Path, **options: object) -> list[Epoch]:
    seen: list[Epoch] = []

    def on_epoch(epoch: Epoch) -> None:
        seen.append(epoch)
        shutil.copy(run_dir / CHECKPOINT, run_dir / f"{epoch.epoch}.pt")

    train(Recall(**options), Settings(epochs=5), run_dir, name="recall", on_epoch=on_epoch)
    return seen


def assert_shows(run_dir: Path, epochs: list[Epoch]) -> None:
    shown = curves(run_dir)
    assert shown.keys() == TAGS.keys()
    for tag, quantity in TAGS.items():
        expected = [(epoch.epoch, getattr(epoch, quantity)) for epoch in epochs]
        assert [step for step, _ in shown[tag]] == [number for number, _ in expected]
        values = [value for _, value in expected]
        assert [value for _, value in shown[tag]] == pytest.approx(values, rel=1e-6)


def test_a_point_per_epoch(tmp_path: Path) -> None:
    assert_shows(tmp_path, trained(tmp_path))


def test_events_of_epochs_that_were_lost_are_not_doubled(tmp_path: Path) -> None:
    """The checkpoint is of the third epoch, but the events of the fourth and fifth are there."""
    epochs = trained(tmp_path)
    (tmp_path / "3.pt").rename(tmp_path / CHECKPOINT)

    train(Recall(), Settings(epochs=5), tmp_path, name="recall", resume=True)

    assert len(list((tmp_path / FOLDER).iterdir())) == 2
    assert_shows(tmp_path, epochs)


def test_starting_anew_starts_new_curves(tmp_path: Path) -> None:
    trained(tmp_path)

    assert_shows(tmp_path, trained(tmp_path, noise=0.5))


def test_the_numbers_of_an_epoch(tmp_path: Path) -> None:
    """The rate falls along half a cosine; the norm is what it was before clipping to 1."""
    epochs = trained(tmp_path)

    expected = [0.003, 0.002713525, 0.001963525, 0.001036475, 0.000286475]
    assert [epoch.learning_rate for epoch in epochs] == pytest.approx(expected, rel=1e-5)
    assert all(epoch.gradient_norm > 0 for epoch in epochs)


def test_no_curve_where_a_task_has_no_metric_for_training(tmp_path: Path) -> None:
    class Costly(Recall):
        def measure(self, model, batch):
            measured = super().measure(model, batch)
            return (
                type(measured)(measured.loss, None, measured.weight) if model.training else measured
            )

    train(Costly(), Settings(epochs=1), tmp_path, name="recall")

    assert curves(tmp_path).keys() == TAGS.keys() - {"last_answer/training"}
