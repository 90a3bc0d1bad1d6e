"""Where the batch axis is: guessed (axis_guesses.py), then tried.

A guess holds if the rows of a batch are the same as each alone (rows.py), and still are with
another size of whatever else may have any size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from inspection.axis_guesses import batched_tensors, guesses, rows_of
from inspection.roles import is_scalar
from inspection.rows import ROWS, RowsDiffer, check_rows, output_axes
from inspection.sizes import may_count_rows, others, working_sizes
from inspection.trial import Sizes, StateGrows, TrialFailed, free

if TYPE_CHECKING:
    from collections.abc import Collection

    from inspection.arrays import Axes
    from inspection.trial import Trial


@dataclass(frozen=True, slots=True)
class Batch:
    """`axes` has the batch axis of each state by its input's name; None: no batch axis at all.

    `tensors` has that of each input and output, where the graph has it. `variables` are those that
    count the rows. `sizes` has a size for every variable at which the model runs, with one row.
    At no other size does it run where a variable is in `fixed`. `why` is in words.
    """

    axes: Axes | None
    variables: frozenset[str]
    sizes: Sizes
    why: str
    tensors: Axes = field(default_factory=dict)
    fixed: frozenset[str] = frozenset()


def find(trial: Trial, given: Sizes) -> Batch:
    """The batch axis, tried. `given` are sizes that somebody chose.

    Raises TrialFailed if the model runs at none of the sizes.
    """
    obstacle = _obstacle(trial)
    if obstacle is not None:
        return without(trial, given, obstacle)
    failures: list[tuple[str, TrialFailed]] = []
    for guess in guesses(trial):
        try:
            return _tried(trial, guess, given)
        except TrialFailed as failure:
            name, axis = next(iter(guess.items()))
            failures.append((f"axis {axis} of {name!r}", failure))
    return without(trial, given, _why_none(failures))


def without(trial: Trial, given: Sizes, why: str) -> Batch:
    """No batch axis: whatever may count rows has size 1, or the one at which the model runs.

    Raises TrialFailed.
    """
    tried = free([*trial.data, *trial.states])
    known = {name: 1 for name in tried if may_count_rows(trial, name)}
    try:
        sizes = working_sizes(trial, known | given)
    except StateGrows:
        raise
    except TrialFailed as failure:  # of a file whose states have a batch that is no 1
        try:
            sizes = working_sizes(trial, given)
        except TrialFailed:
            raise failure from None
    left = [name for name in sizes if sizes[name] != 1 or name not in known]
    fixed = frozenset(name for name in left if others(trial, sizes, name) is None)
    return Batch(None, frozenset(), sizes, why, fixed=fixed)


def unsettled(trial: Trial, batch: Batch, given: Collection[str]) -> tuple[str, ...]:
    """Axes of states whose size only somebody who knows the model can tell: it runs with another
    size just as well as with the one that was tried.
    """
    rows = batch.variables
    if batch.axes is None:
        rows = frozenset(name for name in free(trial.states) if may_count_rows(trial, name))
    left = [name for name in free(trial.states) if name not in rows and name not in given]
    return tuple(name for name in left if name not in batch.fixed)


def _obstacle(trial: Trial) -> str | None:
    """What rules a batch axis out before anything is tried."""
    states = {value.name for value in trial.states}
    for value in batched_tensors(trial):
        if not free([value]):
            kind = "state" if value.name in states else "input"
            return f"{kind} {value.name!r} is {value}, with no axis of any size"
    if trial.start is not None and not free([trial.start]):
        return f"input {trial.start.name!r} is one flag for all rows"
    if all(is_scalar(value) for value in trial.data):  # the same for all rows: see findings.py
        return "no input has an axis"
    return None


def _why_none(failures: list[tuple[str, TrialFailed]]) -> str:
    """Of all guesses that failed: that rows differ says more than that a wrong guess does not run,
    and the likeliest guess says most.
    """
    if not failures:
        return "no choice of axes fits all inputs and states"
    differ = [(where, f) for where, f in failures if isinstance(f, RowsDiffer)]
    where, failure = (differ or failures)[0]
    return f"with {ROWS} rows on {where} {'' if differ else 'it does not run: '}{failure}"


def _tried(trial: Trial, guess: Axes, given: Sizes) -> Batch:
    """Raises TrialFailed if the guess is wrong."""
    tensors = batched_tensors(trial)
    rows = rows_of(tensors, guess)
    states = {value.name: guess.pop(value.name) for value in trial.states}
    view = trial.batch_first(guess)
    sizes = working_sizes(view, dict.fromkeys(rows, 1) | given)
    axes = guess | output_axes(view, rows, sizes)
    view = trial.batch_first(axes)
    check_rows(view, states, rows, sizes)
    left = [name for name in sizes if name not in rows]
    fixed = frozenset(n for n in left if not _may_vary(view, states, rows, sizes, n))
    why = f"run and compared, the rows of a batch of {ROWS} are as each alone"
    return Batch(states, rows, sizes, why, axes, fixed)


def _may_vary(trial: Trial, axes: Axes, rows: frozenset[str], sizes: Sizes, name: str) -> bool:
    """Whether the model runs with another size of `name`, the batch intact.

    Raises RowsDiffer if it runs with one more of them and the batch is not.
    """
    other = others(trial, sizes, name)
    if other is None:
        return False
    try:
        check_rows(trial, axes, rows, other)
    except RowsDiffer:
        if other[name] == sizes[name] + 1:
            raise
        return False
    return True
