"""A progress bar for a training: epochs, time left, how good it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from models.training.fit import Epoch
    from models.training.task import Metric


class TrainingBar:
    """Moves with every step, once an epoch has shown how many steps there are.

    The time left is up to the last epoch; early stopping may come before it.
    """

    def __init__(self, console: Console, epochs: int, metric: Metric) -> None:
        self._total = epochs
        self._metric = metric
        self._epochs, self._steps, self._steps_per_epoch = 0, 0, 0
        self._status = ""
        self._bar: TaskID | None = None
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}"),
            console=console,
        )

    @property
    def moved(self) -> bool:
        """Whether there was a step at all."""
        return self._bar is not None

    def step(self) -> None:
        self._steps += 1
        self._show()

    def epoch(self, epoch: Epoch) -> None:
        """`epoch` is over, or was before training was resumed: no steps then."""
        self._epochs = epoch.epoch
        self._steps, self._steps_per_epoch = 0, self._steps
        value = f"{epoch.validation_metric:.4g}{self._metric.unit}"
        self._status = f"loss {epoch.validation_loss:.3g}, {self._metric.name} {value}"
        if self._bar is not None:
            self._show()

    def _show(self) -> None:
        part = self._steps / self._steps_per_epoch if self._steps_per_epoch else 0.0
        completed = self._epochs + min(part, 1.0)
        if self._bar is None:  # not before there is something to time: earlier epochs would count
            self._progress.start()
            self._bar = self._progress.add_task(
                "", total=self._total, completed=int(completed), status=self._status
            )
        status = self._status or f"step {self._steps}"
        self._progress.update(self._bar, completed=completed, status=status)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()
