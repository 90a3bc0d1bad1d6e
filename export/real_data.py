"""Some sequences of the data that a run was trained for, unseen in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.examples import EXAMPLES

if TYPE_CHECKING:
    from export.description import Array
    from models.runs import Run

SEQUENCES = 16


def real_sequences(run: Run) -> list[Array]:
    """Up to 16 test sequences (time, features), spread over the test set.

    Empty for a run that is no example's.
    """
    example = EXAMPLES.get(run.metrics.get("example", ""))
    if example is None:
        return []
    _, test = example.data()
    spacing = max(1, len(test.frames) // SEQUENCES)
    return list(test.frames[::spacing][:SEQUENCES])
