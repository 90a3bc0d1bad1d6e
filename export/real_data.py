"""Some sequences of the data that a run was trained for, unseen in training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.examples import EXAMPLES

if TYPE_CHECKING:
    from export.cases import Array
    from models.runs import Run

SEQUENCES = 16


def real_sequences(run: Run) -> list[Array]:
    """Up to 16 test inputs (time, features), or (features,), spread over the test set.

    Empty for a run that is no example's, or one whose inputs are no such arrays.
    """
    example = EXAMPLES.get(run.metrics.get("example", ""))
    if example is None or example.inputs is None:
        return []
    *_, test = example.data()
    inputs = example.inputs(test)
    spacing = max(1, len(inputs) // SEQUENCES)
    return list(inputs[::spacing][:SEQUENCES])
