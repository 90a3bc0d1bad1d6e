"""The course of a training for TensorBoard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

    from models.training.fit import Epoch
    from models.training.task import Metric

FOLDER = "tensorboard"


class Events:
    """Writes scalars, one point per epoch, into `run_dir`/tensorboard.

    Tags: loss/training, loss/validation, METRIC/training, METRIC/validation, learning_rate,
    gradient_norm. `first_epoch` is the number of the first epoch to be written; what an interrupted
    training has written of that and later ones is purged (TensorBoard does so when it reads), so
    that no point is doubled.
    """

    def __init__(self, run_dir: Path, metric: Metric, first_epoch: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        self._metric = metric.key
        self._writer = SummaryWriter(str(run_dir / FOLDER), purge_step=first_epoch)

    def write(self, epoch: Epoch) -> None:
        scalars = {
            "loss/training": epoch.loss,
            "loss/validation": epoch.validation_loss,
            f"{self._metric}/training": epoch.metric,
            f"{self._metric}/validation": epoch.validation_metric,
            "learning_rate": epoch.learning_rate,
            "gradient_norm": epoch.gradient_norm,
        }
        for tag, value in scalars.items():
            if value is not None:
                self._writer.add_scalar(tag, value, epoch.epoch)
        self._writer.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._writer.close()


def clear(run_dir: Path) -> None:
    """Removes what an older training wrote."""
    for file in (run_dir / FOLDER).glob("events.out.tfevents.*"):
        file.unlink()
