"""Which axis of each tensor may count the rows of a batch: guesses to be tried in this order.

A guess names one axis of any size for every input and state. Tensors of one kind and shape have it
at the same place; an axis that counts rows in one tensor counts nothing else in another.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from inspection import names
from inspection.roles import is_scalar
from inspection.trial import variables

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inspection.arrays import Axes
    from inspection.reading import Value
    from inspection.trial import Trial

_MOST_COMBINATIONS = 512
_MOST_GUESSES = 16


def batched_tensors(trial: Trial) -> list[Value]:
    """What has a batch axis if anything has: inputs that are no single number, and states."""
    return [*(value for value in trial.data if not is_scalar(value)), *trial.states]


def rows_of(tensors: Iterable[Value], guess: Axes) -> frozenset[str]:
    """The variables that count rows."""
    return frozenset(str(variables(value)[guess[value.name]]) for value in tensors)


def guesses(trial: Trial) -> list[Axes]:
    """The axis of each input and state by its name; those with the fewest symbols for rows first.

    Every tensor must have an axis of any size.
    """
    tensors = batched_tensors(trial)
    states = {value.name for value in trial.states}
    alike: dict[object, list[Value]] = {}
    for value in tensors:
        alike.setdefault((value.name in states, value.dims), []).append(value)
    common = set.intersection(*(set(variables(value)) for value in tensors))
    choices = [
        _by_likelihood(group[0], group[0].name in states, common) for group in alike.values()
    ]
    found = []
    for axes in itertools.islice(itertools.product(*choices), _MOST_COMBINATIONS):
        pairs = zip(alike.values(), axes, strict=True)
        guess = {value.name: axis for group, axis in pairs for value in group}
        if _is_consistent(tensors, guess):
            found.append(guess)
    return sorted(found, key=lambda guess: len(_symbols(tensors, guess)))[:_MOST_GUESSES]


def _by_likelihood(value: Value, is_state: bool, common: set[int | str]) -> list[int]:
    """The axes of any size: first one that all tensors have, then one called so. Then inputs have
    it in front, states before the last axis, where every LSTM has it.
    """
    dims = variables(value)
    usual = len(dims) - 2 if is_state else 0
    return sorted(
        (axis for axis, dim in enumerate(dims) if isinstance(dim, str)),
        key=lambda axis: (
            dims[axis] not in common,
            not names.sounds_like_batch(str(dims[axis])),
            axis != usual,
            axis,
        ),
    )


def _is_consistent(tensors: Iterable[Value], guess: Axes) -> bool:
    rows = rows_of(tensors, guess)
    return all(sum(dim in rows for dim in variables(value)) == 1 for value in tensors)


def _symbols(tensors: Iterable[Value], guess: Axes) -> set[object]:
    """The names that the file itself has for the rows."""
    dims = (value.dims[guess[value.name]] for value in tensors if value.dims is not None)
    return {dim for dim in dims if dim is not None}
