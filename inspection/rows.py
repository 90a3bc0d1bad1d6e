"""A batch of three rows against each row alone, for two steps.

Inputs and outputs are seen with the batch axis first, but for `output_axes`, which finds out where
outputs have it: on the axis that grows with the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inspection.arrays import close, row, stacked
from inspection.roles import is_scalar
from inspection.trial import TrialFailed

if TYPE_CHECKING:
    from inspection.arrays import Arrays, Axes
    from inspection.trial import Sizes, Trial

ROWS = 3


class RowsDiffer(TrialFailed):
    """A row of a batch is not what it is alone."""


def output_axes(trial: Trial, rows: frozenset[str], sizes: Sizes) -> Axes:
    """The axis of each output that grows with the rows, and nothing else. Raises TrialFailed."""
    part = trial.draw(np.random.default_rng(0), sizes)
    one, _ = trial.run(part, trial.zeros(sizes))
    three, _ = trial.run(
        _together(trial, [part] * ROWS), trial.zeros(sizes | dict.fromkeys(rows, ROWS))
    )
    found = {}
    for name in trial.served:
        before, after = one[name].shape, three[name].shape
        grown = [axis for axis, size in enumerate(after) if before[axis : axis + 1] != (size,)]
        if len(before) != len(after) or [(before[a], after[a]) for a in grown] != [(1, ROWS)]:
            raise RowsDiffer(
                f"output {name!r} is {list(after)}, and {list(before)} for one: it has no axis for"
                " them"
            )
        found[name] = grown[0]
    return found


def check_rows(trial: Trial, axes: Axes, rows: frozenset[str], sizes: Sizes) -> None:
    """Two steps of a batch against the same steps of each row. Raises TrialFailed."""
    rng = np.random.default_rng(1)
    together = trial.zeros(sizes | dict.fromkeys(rows, ROWS))
    alone = [trial.zeros(sizes) for _ in range(ROWS)]
    for _ in range(2):
        parts = [trial.draw(rng, sizes) for _ in range(ROWS)]
        given = _together(trial, parts)
        answers, together = trial.run(given, together)
        shared = {value.name: given[value.name] for value in trial.data if is_scalar(value)}
        for index, part in enumerate(parts):
            expected, alone[index] = trial.run(part | shared, alone[index])
            _compare(answers, {}, index, expected, "output", trial.caveat)
            _compare(together, axes, index, alone[index], "state", trial.caveat)


def _together(trial: Trial, parts: list[Arrays]) -> Arrays:
    """The inputs of several rows as one batch; what is a single number is the first row's."""
    scalars = [value.name for value in trial.data if is_scalar(value)]
    own = [{n: a for n, a in part.items() if n not in scalars} for part in parts]
    return stacked(own, {}) | {name: parts[0][name] for name in scalars}


def _compare(
    together: Arrays, axes: Axes, index: int, alone: Arrays, kind: str, caveat: str
) -> None:
    """Row `index` of a batch against that row alone. Raises RowsDiffer."""
    for name, array in together.items():
        if array.shape[axes.get(name, 0)] != ROWS:
            raise RowsDiffer(f"{kind} {name!r} is {list(array.shape)}")
    own = row(together, index, axes)
    for name in alone:
        if not close(own[name], alone[name]):
            raise RowsDiffer(f"{kind} {name!r} is not what each gets alone{caveat}")
