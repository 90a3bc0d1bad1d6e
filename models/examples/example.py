"""An example: a task on a data set that comes with the package, and how to train it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.datasets.sequences import Array
    from models.training.settings import Settings
    from models.training.task import Metric, Task


class MakesTask(Protocol):
    """A class of tasks, from (the data, a seed for splitting it and the like)."""

    @property
    def metric(self) -> Metric: ...

    def __call__(self, data: Any, seed: int) -> Task[Any]: ...


@dataclass(frozen=True)
class Example:
    """What `rnnserve train --list` shows, and what it takes to train.

    - `title`: the data set and the question, in a line.
    - `structure`: as in "sequence → one"; `source`: the data in words; `duration`: in words, too,
      on two cores.
    - `data`: loads the splits, the test set last.
    - `task`: the class whose instances are trained; its `metric` is known without data.
    - `inputs`: of a split as `data` gives it, the model's inputs, one array each, without a batch
      axis. An export is proven with them. None where the model has several inputs or parts.
    """

    title: str
    structure: str
    source: str
    duration: str
    data: Callable[[], tuple[Any, ...]]
    task: MakesTask
    settings: Settings
    inputs: Callable[[Any], Sequence[Array]] | None = None
