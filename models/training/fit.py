"""The training loop: AdamW, clipped gradients, whole sequences or chunks, early stopping.

On one machine the result depends on the arguments alone, bit for bit: every random number comes
from `Random`. `state_dict` is all that changes from epoch to epoch, so that a training that loads
it goes on as if it had never stopped.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias

import torch

from models import constraints
from models.training import stateful
from models.training.randomness import Random
from models.training.task import B

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from models.layer import Layer
    from models.training.settings import Settings
    from models.training.task import Measured, Task

Numbers: TypeAlias = tuple[float, float | None, float]
"""(loss, metric, weight): a `Measured` without its graph."""


class Diverged(Exception):
    """Training has left the realm of finite numbers; the text says where."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave; losses and metrics are means over the set, without regularisers.

    Those of the training set are taken while it trains: before each step, with noise and dropout.
    `metric` is None where the task has none for training. `gradient_norm` is the mean over all
    steps, before clipping. `learning_rate` is the one of the epoch's steps.
    """

    epoch: int
    loss: float
    metric: float | None
    validation_loss: float
    validation_metric: float
    learning_rate: float
    gradient_norm: float
    seconds: float


class Training(Generic[B]):
    """A model, a built one, in training on `device`, epoch by epoch.

    `history` has an entry for each epoch; `best` is the one with the lowest validation loss.
    """

    history: list[Epoch]

    def __init__(
        self,
        task: Task[B],
        model: Layer,
        settings: Settings,
        seed: int,
        device: torch.device | str = "cpu",
        on_step: Callable[[], None] = lambda: None,
    ) -> None:
        stateful.check(model, settings)
        self.task = task
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.settings = settings
        self.random = Random(seed, self.device)
        self.history = []
        self._on_step = on_step
        self._optimizer = torch.optim.AdamW(
            model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self._optimizer, settings.epochs
        )
        self._best_weights = copy.deepcopy(model.state_dict())

    @property
    def best(self) -> Epoch | None:
        """The epoch whose weights are kept; None before the first."""
        return min(self.history, key=lambda epoch: epoch.validation_loss, default=None)

    @property
    def over(self) -> bool:
        """Whether all epochs ran, or `patience` of them brought nothing."""
        done = len(self.history)
        since_best = done - self.best.epoch if self.best else 0
        return done >= self.settings.epochs or since_best >= self.settings.patience

    def run_epoch(self) -> Epoch:
        """Trains for one epoch, evaluates, and adds both to the history.

        Raises Diverged where a gradient or the validation loss is not finite.
        """
        started = time.perf_counter()
        learning_rate = float(self._schedule.get_last_lr()[0])
        with self.random.in_force():
            loss, metric, norm = self._train()
            held_out, held_out_metric = self.evaluate(self.task.validation())
        self._schedule.step()
        self._check_finite(held_out, "validation loss")
        epoch = Epoch(
            len(self.history) + 1,
            loss,
            metric,
            held_out,
            held_out_metric,
            learning_rate,
            norm,
            time.perf_counter() - started,
        )
        self.history.append(epoch)
        if self.best is epoch:
            self._best_weights = copy.deepcopy(self.model.state_dict())
        return epoch

    def best_model(self) -> Layer:
        """The model with the weights of its best epoch, without stateful layers, for inference."""
        self.model.load_state_dict(self._best_weights)
        return stateful.stateless(self.model).eval()

    def evaluate(self, batches: Iterable[B]) -> tuple[float, float]:
        """(loss, metric) over all `batches`, for which no layer is stateful."""
        model = stateful.stateless(self.model).eval()
        with torch.no_grad():
            measured = [
                _numbers(self.task.measure(model, batch.to(self.device))) for batch in batches
            ]
        loss, metric = _means(measured)
        if metric is None:
            raise TypeError("A task's `measure` must give a metric unless `model.training`.")
        return loss, metric

    # One epoch

    def _train(self) -> tuple[float, float | None, float]:
        """(loss, metric, gradient norm), means over the training set."""
        self.model.train()
        stateful.reset_states(self.model)
        measured, norms = [], []
        for batch in self.task.batches(self.random):
            if self.settings.reset == "batch":
                stateful.reset_states(self.model)
            for chunk in batch.to(self.device).chunks(self.settings.chunk):
                result, norm = self._step(chunk)
                measured.append(result)
                norms.append(norm)
                self._on_step()
        return *_means(measured), sum(norms) / len(norms)

    def _step(self, batch: B) -> tuple[Numbers, float]:
        """One step of the optimiser; what was measured before it, and the gradient's norm."""
        measured = self.task.measure(self.model, batch)
        loss = measured.loss
        for penalty in self.model.losses:
            loss = loss + penalty
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        clip_norm = self.settings.clip_norm
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip_norm).item()
        self._check_finite(norm, "norm of the gradient")
        self._optimizer.step()
        constraints.apply(self.model)
        return _numbers(measured), norm

    def _check_finite(self, value: float, what: str) -> None:
        if not math.isfinite(value):
            raise Diverged(
                f"The {what} is {value} in epoch {len(self.history) + 1}: the weights have run "
                "away. Try a smaller learning_rate or clip_norm."
            )

    # Stopping and going on

    def state_dict(self) -> dict[str, Any]:
        """All that has changed since the beginning, between two epochs."""
        return {
            "model": self.model.state_dict(),
            "best_weights": self._best_weights,
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "random": self.random.state_dict(),
            "history": [asdict(epoch) for epoch in self.history],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state`, which a training of the same task and settings gave."""
        self.model.load_state_dict(state["model"])
        self._best_weights = state["best_weights"]
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self.random.load_state_dict(state["random"])
        self.history = [Epoch(**epoch) for epoch in state["history"]]


def _numbers(measured: Measured) -> Numbers:
    return measured.loss.item(), measured.metric, measured.weight


def _means(measured: list[Numbers]) -> tuple[float, float | None]:
    """The means of loss and metric, weighted; the metric is None where a batch has none."""
    total = sum(weight for _, _, weight in measured)
    if not total > 0:
        raise ValueError("The task gave no batches, or none of any weight: there is no mean.")
    metrics = [(metric, weight) for _, metric, weight in measured if metric is not None]
    loss = sum(loss * weight for loss, _, weight in measured) / total
    if len(metrics) < len(measured):
        return loss, None
    return loss, sum(metric * weight for metric, weight in metrics) / total
