"""Trains a task from its data to a run folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from models import runs
from models.training import checkpoint, events
from models.training.checkpoint import Checkpoint
from models.training.fit import Training
from models.training.history import draw, write_csv

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from models.training.batch import Batch
    from models.training.fit import Epoch
    from models.training.settings import Settings
    from models.training.task import Task


@dataclass(frozen=True)
class Outcome:
    """What came out; metrics.json holds the same.

    `test`, `validation` and `baseline` are values of `metric`; `baseline_is` says in words what
    comes as far as `baseline` on the test set. `sizes` counts sequences (or images, …). `seconds`
    is the time in epochs, those before an interruption included.
    """

    example: str
    metric: str
    unit: str
    higher_is_better: bool
    test: float
    baseline: float
    baseline_is: str
    validation: float
    test_loss: float
    sizes: Mapping[str, int]
    parameters: int
    seed: int
    device: str
    epochs: int
    best_epoch: int
    seconds: float


def train(
    task: Task[Any],
    settings: Settings,
    output: Path,
    *,
    name: str,
    title: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    resume: bool = False,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_step: Callable[[], None] = lambda: None,
) -> Outcome:
    """Trains and writes the run folder `output` (`models.runs` says what is in it).

    After each epoch it holds a checkpoint. With `resume` training goes on from there, to the very
    weights, history and metrics that it would have reached without interruption; without, what an
    older training left in the folder is removed. `on_epoch` is called after each epoch, when its
    checkpoint is written, and for those before an interruption, too; `on_step` after each step of
    the optimiser. The test set is looked at once, at the end.

    Raises ResumeError where there is no checkpoint, or one that was begun otherwise or by another
    task; Diverged where numbers run away; ValueError where the model could not be saved.
    """
    output.mkdir(parents=True, exist_ok=True)  # now, not after minutes of training
    begun = checkpoint.beginning(name, seed, device, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = task.model()
    runs.check(model)
    training = Training(task, model, settings, seed, device, on_step)
    if resume:
        _load(output, training, begun)
    else:
        runs.clear(output)
        events.clear(output)
        checkpoint.save(output, Checkpoint(begun, training.state_dict()))
    for epoch in training.history:
        on_epoch(epoch)
    if not training.over:
        _run(output, training, begun, on_epoch)
    return _finish(output, training, name, title or name, seed, device)


def _load(output: Path, training: Training[Batch], begun: Mapping[str, Any]) -> None:
    saved = checkpoint.load(output)
    checkpoint.check(output, saved, begun)
    try:
        training.load_state_dict(saved.training)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise checkpoint.ResumeError(
            f"The checkpoint in {output} is another model's or another version's: {error}"
        ) from error


def _run(
    output: Path,
    training: Training[Batch],
    begun: Mapping[str, Any],
    on_epoch: Callable[[Epoch], None],
) -> None:
    with events.Events(output, training.task.metric, len(training.history) + 1) as written:
        while not training.over:
            epoch = training.run_epoch()
            # First the events: if the checkpoint is not written any more, they are purged.
            written.write(epoch)
            checkpoint.save(output, Checkpoint(begun, training.state_dict()))
            on_epoch(epoch)


def _finish(
    output: Path, training: Training[Batch], name: str, title: str, seed: int, device: str
) -> Outcome:
    task, history, best = training.task, training.history, training.best
    assert best is not None, "settings have at least one epoch"
    model = training.best_model()
    test_loss, test = training.evaluate(task.test())
    outcome = Outcome(
        example=name,
        metric=task.metric.name,
        unit=task.metric.unit,
        higher_is_better=task.metric.higher_is_better,
        test=test,
        baseline=task.baseline.value,
        baseline_is=task.baseline.what,
        validation=best.validation_metric,
        test_loss=test_loss,
        sizes=dict(task.sizes),
        parameters=model.count_params(),
        seed=seed,
        device=device,
        epochs=len(history),
        best_epoch=best.epoch,
        seconds=sum(epoch.seconds for epoch in history),
    )
    write_csv(output / runs.HISTORY, history, task.metric)
    draw(output / runs.CURVE, history, best.epoch, task.metric, task.baseline, title)
    runs.save(output, model, name, asdict(outcome))
    return outcome
