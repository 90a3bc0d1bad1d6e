"""Sizes at which a model runs, for its axes of any size: those that are usual, tried in turn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from inspection import names
from inspection.trial import Sizes, StateGrows, TrialFailed, free, shape, variables

if TYPE_CHECKING:
    from inspection.trial import Trial

_MOST_ELEMENTS = 4_000_000
# What frames, filters and blocks measure.
_COMMON_SIZES = (
    *(1, 2, 3, 4, 5, 8, 16, 32, 64, 80, 128, 160, 256, 320, 400, 480, 512, 576, 640),
    *(768, 800, 1024, 1280, 1600, 2048, 4096, 8000, 16000),
)


def working_sizes(trial: Trial, fixed: Sizes) -> Sizes:
    """Sizes for all variables, `fixed` among them, at which a step runs. Raises TrialFailed."""
    open_ones = [name for name in free([*trial.data, *trial.states]) if name not in fixed]
    failure = TrialFailed("not tried")
    for size in _COMMON_SIZES if open_ones else (1,):
        sizes = fixed | dict.fromkeys(open_ones, size)
        if _elements(trial, sizes) > _MOST_ELEMENTS:
            break
        try:
            check_step(trial, sizes)
        except TrialFailed as error:
            failure = error
        else:
            return sizes
    raise failure


def check_step(trial: Trial, sizes: Sizes) -> None:
    """Raises TrialFailed if a step does not run at these sizes, or changes the size of a state."""
    before = trial.zeros(sizes)
    _, after = trial.run(trial.draw(np.random.default_rng(0), sizes), before)
    for name, array in after.items():
        if array.shape != before[name].shape:
            raise StateGrows(
                f"state {name!r} goes in as {list(before[name].shape)} and comes out as"
                f" {list(array.shape)}: a state must keep its size"
            )


def others(trial: Trial, sizes: Sizes, name: str) -> Sizes | None:
    """Sizes at which the model runs too, `name` one greater or else twice as great; None: at
    neither.
    """
    for size in (sizes[name] + 1, 2 * sizes[name]):
        try:
            check_step(trial, sizes | {name: size})
        except TrialFailed:
            continue
        return sizes | {name: size}
    return None


def may_count_rows(trial: Trial, name: str) -> bool:
    """By its name, or by its place in a state: the first axis, or the one before the last."""
    places = (
        (axis, len(dims))
        for dims in map(variables, trial.states)
        for axis, dim in enumerate(dims)
        if dim == name
    )
    return names.sounds_like_batch(name) or any(a in (0, count - 2) for a, count in places)


def _elements(trial: Trial, sizes: Sizes) -> int:
    return sum(math.prod(shape(value, sizes)) for value in (*trial.data, *trial.states))
