"""Which axis counts timesteps, and whether a request may be cut there: tried, not guessed.

An axis of any size of the inputs is tried with 1, 2 and 3 timesteps. Outputs whose axis follows
carry timesteps too. The model may be cut if running in pieces, the states carried from piece to
piece, gives the same as running whole, for several random cuts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from inspection import names
from inspection.arrays import equal
from inspection.trial import Sizes, TrialFailed, free, variables

if TYPE_CHECKING:
    from inspection.arrays import Arrays
    from inspection.batch_axis import Batch
    from inspection.trial import Trial

_LENGTHS = (1, 2, 3)
_WHOLE = 11  # timesteps of the request that is cut
_CUTS = 4


@dataclass(frozen=True, slots=True)
class Time:
    """The axis of timesteps of each input and output that has one, counted with the batch axis."""

    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    may_be_cut: bool = False
    why: str = "no axis of any size is left that could count timesteps"
    variable: str = ""


def find(trial: Trial, batch: Batch) -> Time:
    """The likeliest axis that behaves like time; of several, one at which the model may be cut."""
    best = Time()
    for variable in _candidates(trial, batch):
        tried = _try(trial, batch, variable)
        if tried.may_be_cut:
            return tried
        if not best.inputs:
            best = tried
    return best


def _candidates(trial: Trial, batch: Batch) -> list[str]:
    """Variables of the inputs that neither count rows nor size a state; by name, then by place."""
    sized = batch.variables | set(free(trial.states))
    left = [
        name
        for name in free(trial.data)
        if name not in sized and not (batch.axes is None and names.sounds_like_batch(name))
    ]
    return sorted(left, key=lambda name: (not names.sounds_like_time(name), left.index(name)))


def _try(trial: Trial, batch: Batch, variable: str) -> Time:
    if not trial.states:
        return Time(why="without states every request stands alone")
    inputs = {
        value.name: variables(value).index(variable)
        for value in trial.data
        if variable in variables(value)
    }
    rng = np.random.default_rng(2)
    try:
        runs = [_run(trial, batch.sizes, variable, length, rng) for length in _LENGTHS]
    except TrialFailed as failure:
        return Time(why=f"{variable} does not take 1, 2 and 3 timesteps: {failure}")
    outputs = {}
    for name in trial.served:
        shapes = [run[name].shape for run in runs]
        axes = [axis for axis in range(len(shapes[0])) if _follows(shapes, axis)]
        if axes:
            outputs[name] = axes[0]
    may_be_cut, why = _may_be_cut(trial, batch.sizes, inputs, outputs, variable)
    if not outputs and not may_be_cut:
        return Time(why=f"no output follows {variable}, and the model may not be cut there")
    return Time(inputs, outputs, may_be_cut, why, variable)


def _run(
    trial: Trial, sizes: Sizes, variable: str, length: int, rng: np.random.Generator
) -> Arrays:
    own = sizes | {variable: length}
    answers, after = trial.run(trial.draw(rng, own, length), trial.zeros(own))
    for name, array in after.items():
        if array.shape != trial.zeros(own)[name].shape:
            raise TrialFailed(f"state {name!r} changes its shape with {length} timesteps")
    return answers


def _follows(shapes: list[tuple[int, ...]], axis: int) -> bool:
    return all(
        len(shape) > axis and shape[axis] == length
        for shape, length in zip(shapes, _LENGTHS, strict=True)
    )


def _may_be_cut(
    trial: Trial, sizes: Sizes, inputs: dict[str, int], outputs: dict[str, int], variable: str
) -> tuple[bool, str]:
    rng = np.random.default_rng(3)
    own = sizes | {variable: _WHOLE}
    for _ in range(_CUTS):
        given = trial.draw(rng, own, _WHOLE)
        cuts = np.sort(rng.choice(np.arange(1, _WHOLE), size=rng.integers(1, 5), replace=False))
        try:
            whole, states = trial.run(given, trial.zeros(own))
            joined, carried = in_pieces(trial, given, trial.zeros(own), inputs, outputs, cuts)
        except TrialFailed as failure:
            return False, f"a piece of it does not run: {failure}"
        if not equal(joined, whole) or not equal(carried, states):
            where = f"cut at {cuts.tolist()} of {_WHOLE} timesteps"
            return False, f"{where} the result is another{trial.caveat}"
    return True, f"{_CUTS} requests of {_WHOLE} timesteps, cut at random, gave the same as whole"


def in_pieces(
    trial: Trial,
    given: Arrays,
    states: Arrays,
    inputs: dict[str, int],
    outputs: dict[str, int],
    cuts: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> tuple[Arrays, Arrays]:
    """One request run piece by piece, as the server would. Raises TrialFailed."""
    pieces = {
        name: np.split(array, cuts, axis=inputs[name])
        for name, array in given.items()
        if name in inputs
    }
    answers = []
    for index in range(len(cuts) + 1):
        own = {name: parts[index] for name, parts in pieces.items()}
        answer, states = trial.run(given | own, states)
        answers.append(answer)
    joined = {
        name: np.concatenate([answer[name] for answer in answers], outputs[name])
        if name in outputs
        else answers[-1][name]
        for name in answers[0]
    }
    return joined, states
