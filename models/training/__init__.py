"""Training: a loop that knows no task, and what it takes to describe one. See docs/training.md."""

from models.training.batch import Batch, shuffled
from models.training.randomness import Random
from models.training.run import Outcome, train
from models.training.settings import Settings
from models.training.task import Baseline, Measured, Metric, Task

__all__ = [
    "Baseline",
    "Batch",
    "Measured",
    "Metric",
    "Outcome",
    "Random",
    "Settings",
    "Task",
    "shuffled",
    "train",
]
