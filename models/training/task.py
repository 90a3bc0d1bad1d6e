"""A task: what there is to learn, from which data, and how well it was learnt.

This is all that the loop knows of an example. It never looks into a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from models.training.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

    from models.layer import Layer
    from models.training.randomness import Random

B = TypeVar("B", bound=Batch)


@dataclass(frozen=True)
class Metric:
    """What a result is judged by.

    `name`: words, such as "phoneme error rate". `unit`: what stands behind the number, "" for a
    share of 1.
    """

    name: str
    higher_is_better: bool
    unit: str = ""

    @property
    def key(self) -> str:
        """The name as one word."""
        return self.name.replace(" ", "_")


@dataclass(frozen=True)
class Baseline:
    """What the metric is on the test set without a model; `what` says how one gets that far."""

    value: float
    what: str


@dataclass(frozen=True)
class Measured:
    """A model on a batch.

    `loss`: a scalar with gradient, the mean over `weight` things (sequences, frames, phonemes, …).
    `metric`: the mean over the same things; None where it would cost too much, which is allowed on
    training batches only. Means over several batches are taken with `weight`.
    """

    loss: Tensor
    metric: float | None
    weight: float


class Task(Protocol[B]):
    """What the loop wants to be told. Any class with these members will do.

    `sizes`: how many sequences (or images, films, …) are in "training", "validation" and "test".
    """

    @property
    def metric(self) -> Metric: ...

    @property
    def baseline(self) -> Baseline: ...

    @property
    def sizes(self) -> Mapping[str, int]: ...

    def model(self) -> Layer:
        """A new model, built, on the CPU. Its class is registered; random weights are torch's."""

    def batches(self, random: Random) -> Iterable[B]:
        """The training set once, on the CPU; what is random about it comes from `random`."""

    def validation(self) -> Iterable[B]:
        """The validation set in batches, always the same."""

    def test(self) -> Iterable[B]:
        """The test set in batches."""

    def measure(self, model: Any, batch: B) -> Measured:
        """How `model`, one of `model()`, does on `batch`; both are on the same device.

        The loop has set `model.training`, and grad mode. It adds the model's `losses`.
        """
