"""Where the batch axis is: guessed from symbols, then tried.

A guess says which axis of each state counts the rows; of inputs and outputs it is always the first.
It holds if the rows of a batch of three, run for two steps, are the same as each alone.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inspection import names
from inspection.roles import is_scalar
from inspection.trial import (
    Sizes,
    StateGrows,
    TrialFailed,
    equal,
    free,
    row,
    shape,
    stacked,
    variables,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from inspection.reading import Value
    from inspection.trial import Arrays, Trial

_ROWS = 3
_MOST_GUESSES = 16
_MOST_ELEMENTS = 4_000_000
# For axes of any size that are neither batch nor given: what frames, filters and blocks measure.
_COMMON_SIZES = (
    *(1, 2, 3, 4, 5, 8, 16, 32, 64, 80, 128, 160, 256, 320, 400, 480, 512, 576, 640),
    *(768, 800, 1024, 1280, 1600, 2048, 4096, 8000, 16000),
)


@dataclass(frozen=True, slots=True)
class Batch:
    """`axes` has the batch axis of each state by its input's name; None: no batch axis at all.

    `variables` are those that count the rows. `sizes` has a size for every variable at which the
    model runs, with one row. `why` is in words.
    """

    axes: dict[str, int] | None
    variables: frozenset[str]
    sizes: Sizes
    why: str


def find(trial: Trial, given: Sizes) -> Batch:
    """The batch axis, tried. `given` are sizes that somebody chose.

    Raises TrialFailed if the model runs at none of the sizes.
    """
    obstacle = _obstacle(trial)
    if obstacle is None:
        obstacle = "no choice of axes gave each row what it gets alone"
        for axes in itertools.islice(_guesses(trial), _MOST_GUESSES):
            rows = _row_variables(trial, axes)
            try:
                sizes = working_sizes(trial, dict.fromkeys(rows, 1) | given)
                if _rows_are_independent(trial, axes, rows, sizes):
                    why = f"run and compared, the rows of a batch of {_ROWS} are as each alone"
                    return Batch(axes, rows, sizes, why)
            except TrialFailed as failure:
                obstacle = f"a batch of {_ROWS} does not run: {failure}"
    return without(trial, given, obstacle)


def without(trial: Trial, given: Sizes, why: str) -> Batch:
    """No batch axis: whatever may count rows has size 1. Raises TrialFailed."""
    tried = free([*trial.data, *trial.states])
    known = {name: 1 for name in tried if _may_count_rows(trial, name)}
    return Batch(None, frozenset(), working_sizes(trial, known | given), why)


def unsettled(trial: Trial, batch: Batch, given: Mapping[str, int]) -> tuple[str, ...]:
    """Axes of states whose size only somebody who knows the model can tell: it runs with another
    size just as well as with the one that was tried.
    """
    rows = batch.variables
    if batch.axes is None:
        rows = frozenset(name for name in free(trial.states) if _may_count_rows(trial, name))
    left = [name for name in free(trial.states) if name not in rows and name not in given]
    found = []
    for name in left:
        try:
            _check_step(trial, batch.sizes | {name: batch.sizes[name] + 1})
        except TrialFailed:
            continue
        found.append(name)
    return tuple(found)


def _may_count_rows(trial: Trial, name: str) -> bool:
    """By its name, or by its place in a state: the first axis, or the one before the last."""
    places = (
        (axis, len(dims))
        for dims in map(variables, trial.states)
        for axis, dim in enumerate(dims)
        if dim == name
    )
    return names.sounds_like_batch(name) or any(a in (0, count - 2) for a, count in places)


def working_sizes(trial: Trial, fixed: Sizes) -> Sizes:
    """Sizes for all variables, `fixed` among them, at which a step runs. Raises TrialFailed."""
    open_ones = [name for name in free([*trial.data, *trial.states]) if name not in fixed]
    failure = TrialFailed("not tried")
    for size in _COMMON_SIZES if open_ones else (1,):
        sizes = fixed | dict.fromkeys(open_ones, size)
        if _elements(trial, sizes) > _MOST_ELEMENTS:
            break
        try:
            _check_step(trial, sizes)
        except TrialFailed as error:
            failure = error
        else:
            return sizes
    raise failure


def _check_step(trial: Trial, sizes: Sizes) -> None:
    """Raises TrialFailed if a step does not run at these sizes, or changes the size of a state."""
    before = trial.zeros(sizes)
    _, after = trial.run(trial.draw(np.random.default_rng(0), sizes), before)
    for name, array in after.items():
        if array.shape != before[name].shape:
            raise StateGrows(
                f"state {name!r} goes in as {list(before[name].shape)} and comes out as"
                f" {list(array.shape)}: a state must keep its size"
            )


def _elements(trial: Trial, sizes: Sizes) -> int:
    return sum(math.prod(shape(value, sizes)) for value in (*trial.data, *trial.states))


def _obstacle(trial: Trial) -> str | None:
    """What rules a batch axis out before anything is tried."""
    for value in trial.data:
        if is_scalar(value):
            continue  # the same for the whole batch: see findings.py
        if isinstance(variables(value)[0], int):
            return f"the first axis of input {value.name!r} is fixed at {variables(value)[0]}"
    for value in trial.states:
        if not any(isinstance(dim, str) for dim in variables(value)):
            return f"state {value.name!r} has no axis of any size"
    if trial.start is not None and not any(isinstance(d, str) for d in variables(trial.start)):
        return f"input {trial.start.name!r} is one flag for all rows"
    if all(is_scalar(value) for value in trial.data):
        return "no input has a first axis"
    return None


def _guesses(trial: Trial) -> Iterator[dict[str, int]]:
    """A batch axis for each state, the likeliest choice first."""
    first = {str(variables(value)[0]) for value in trial.data if not is_scalar(value)}
    choices = [_axes_by_likelihood(value, first) for value in trial.states]
    for axes in itertools.product(*choices):
        yield {v.name: axis for v, axis in zip(trial.states, axes, strict=True)}


def _axes_by_likelihood(state: Value, first: set[str]) -> list[int]:
    """The axes of any size: first one that the inputs count their rows with, then one called so,
    then the one before the last, where every LSTM has it.
    """
    dims = variables(state)
    axes = [axis for axis, dim in enumerate(dims) if isinstance(dim, str)]
    return sorted(
        axes,
        key=lambda axis: (
            dims[axis] not in first,
            not names.sounds_like_batch(str(dims[axis])),
            axis != len(dims) - 2,
            axis,
        ),
    )


def _row_variables(trial: Trial, axes: dict[str, int]) -> frozenset[str]:
    rows = {str(variables(v)[0]) for v in trial.data if not is_scalar(v)}
    return frozenset(rows | {str(variables(v)[axes[v.name]]) for v in trial.states})


def _rows_are_independent(
    trial: Trial, axes: dict[str, int], rows: frozenset[str], sizes: Sizes
) -> bool:
    """Two steps of a batch against the same steps of each row. Raises TrialFailed."""
    rng = np.random.default_rng(1)
    many = sizes | dict.fromkeys(rows, _ROWS)
    scalars = [value.name for value in trial.data if is_scalar(value)]
    together, alone = trial.zeros(many), [trial.zeros(sizes) for _ in range(_ROWS)]
    for _ in range(2):
        parts = [trial.draw(rng, sizes) for _ in range(_ROWS)]
        shared = {name: parts[0][name] for name in scalars}
        own = [{n: a for n, a in part.items() if n not in shared} for part in parts]
        answers, together = trial.run(stacked(own, {}) | shared, together)
        if not _has_rows(answers) or not _has_rows(together, axes):
            return False
        for index, part in enumerate(parts):
            expected, alone[index] = trial.run(part | shared, alone[index])
            if not equal(row(answers, index, {}), expected):
                return False
            if not equal(row(together, index, axes), alone[index]):
                return False
    return True


def _has_rows(arrays: Arrays, axes: dict[str, int] | None = None) -> bool:
    places = axes or {}
    return all(
        array.ndim > places.get(name, 0) and array.shape[places.get(name, 0)] == _ROWS
        for name, array in arrays.items()
    )
