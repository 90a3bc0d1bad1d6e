"""Everything that is found out about a model, in one object: `report` shows it, `add` writes it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from inspection import batch_axis, names, reading, roles, states, time_axis
from inspection.choices import check_sizes, named
from inspection.errors import Refused
from inspection.flow import Flow
from inspection.trial import StateGrows, Trial, TrialFailed, batch_first, free, shape, variables

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from inspection.batch_axis import Batch
    from inspection.choices import Choices
    from inspection.reading import Model, Value
    from inspection.roles import Constant
    from inspection.states import Pair
    from inspection.time_axis import Time
    from inspection.trial import Sizes


@dataclass(frozen=True, slots=True)
class Findings:
    """`needs` are inputs without a value that only somebody who knows the model can give,
    `needs_sizes` axes of states without a size. `notes` tell in words what may be a mistake.
    """

    model: Model
    pairs: tuple[Pair, ...]
    constants: tuple[Constant, ...]
    trial: Trial
    batch: Batch
    time: Time
    needs: tuple[str, ...]
    needs_sizes: tuple[str, ...]
    notes: tuple[str, ...]
    output_ranks: Mapping[str, int]

    @property
    def batched(self) -> bool:
        return self.batch.axes is not None

    @property
    def missing(self) -> str:
        """The options that are still to be given, "" if none."""
        values = [f"--constant {name}=VALUE" for name in self.needs]
        return " ".join([*values, *(f"--size {name}=N" for name in self.needs_sizes)])

    @property
    def served(self) -> list[Value]:
        """What answers carry: the outputs that are no states, or are called as results are, such as
        an action that comes back with the next request; where there is no other, all.
        """
        values = [
            value
            for value in self.model.outputs
            if value.name in self.trial.served or names.sounds_like_result(value.name)
        ]
        return values or list(self.model.outputs)

    def input_dims(self, value: Value) -> list[int]:
        """The dims of a request's input, the batch axis not counted: -1 is any size."""
        return [self._size(dim) for dim in variables(value)[self.batched :]]

    def tried_dims(self, value: Value) -> list[int]:
        """The same with the sizes that were tried and run."""
        dims = variables(value)[self.batched :]
        return [dim if isinstance(dim, int) else self.batch.sizes[dim] for dim in dims]

    def output_dims(self, value: Value) -> list[int]:
        """The dims of an output likewise."""
        state = next((pair.input for pair in self.pairs if pair.output == value.name), None)
        if state is not None:
            return self.state_shape(state)
        dims = list(value.dims or [None] * self.output_ranks[value.name])
        if self.batched:
            _, *dims = batch_first(tuple(dims), self.batch.tensors[value.name])
        return [dim if isinstance(dim, int) else -1 for dim in dims]

    def state_shape(self, name: str) -> list[int]:
        """The shape of one session's row of a state, the batch axis not counted."""
        value = next(value for value in self.model.inputs if value.name == name)
        sizes = list(shape(value, self.batch.sizes))
        if self.batch.axes is not None:
            del sizes[self.batch.axes[name]]
        return sizes

    def session_bytes(self) -> int:
        """Bytes of state that a session of one row takes on the device."""
        return sum(
            math.prod(self.state_shape(value.name)) * value.dtype.itemsize
            for value in self.trial.states
            if value.dtype is not None
        )

    def _size(self, dim: int | str) -> int:
        """Without a batch axis, what counts rows or sizes a state has the one size that runs."""
        if isinstance(dim, int):
            return dim
        bound = (set(free(self.trial.states)) | self.batch.fixed) - self.batch.variables
        alone = not self.batched and names.sounds_like_batch(dim)
        return self.batch.sizes[dim] if dim in bound or alone else -1


def find(path: Path, choices: Choices) -> Findings:
    """Read, guess and try a model. Raises Refused with one line."""
    model, left_out = _servable(reading.read(path))
    pairs, notes = _states(model, choices)
    model = states.sharpened(model, pairs)
    constants = roles.constants(model, {pair.input for pair in pairs}, choices.constants)
    trial = Trial(model, pairs, constants)
    check_sizes(choices.sizes, free([*trial.data, *trial.states]))
    try:
        batch = _batch(trial, choices)
    except StateGrows as growth:
        raise Refused(
            f"{path}: {growth}; if it is none, name those that are, each with --state INPUT=OUTPUT"
        ) from None
    except TrialFailed as failure:
        raise Refused(f"{path}: {_how_to_make_it_run(trial, failure)}") from None
    trial = trial.batch_first(batch.tensors)
    scalars = tuple(value.name for value in trial.data if roles.is_scalar(value))
    return Findings(
        model=model,
        pairs=pairs,
        constants=constants,
        trial=trial,
        batch=batch,
        time=time_axis.find(trial, batch),
        needs=scalars if batch.axes is not None else (),
        needs_sizes=batch_axis.unsettled(trial, batch, choices.sizes),
        notes=(*left_out, *notes),
        output_ranks=_output_ranks(trial, batch.sizes),
    )


def _servable(model: Model) -> tuple[Model, list[str]]:
    """The model without outputs that are no numbers, and a note for each of those.

    Raises Refused where an input is none, or no output is left.
    """
    for value in model.inputs:
        if value.dims is None or value.dtype is None:
            raise Refused(
                f"{model.path}: input {value.name!r} is {value}; expected a tensor of numbers of a"
                " known number of axes"
            )
    served = tuple(value for value in model.outputs if value.dtype is not None)
    others = [value for value in model.outputs if value.dtype is None]
    if not served:
        raise Refused(f"{model.path}: output {others[0].name!r} is {others[0]}; expected numbers")
    notes = [f"output {v.name!r} is {v}, and left out: answers carry numbers" for v in others]
    return replace(model, outputs=served), notes


def _states(model: Model, choices: Choices) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """The states, and notes on what may be a mistake in the file."""
    if choices.pairs is not None:
        return named(model, choices.pairs), ()
    flow = Flow(model.proto)
    pairs = states.guess(model, flow)
    notes = [
        f"{name!r} looks like a state, but no output is its next value: every request has to bring"
        " it"
        for name in states.unpaired(model, flow, pairs)
        if name not in choices.constants
    ]
    if flow.recurrent_ops and not pairs and not notes:
        notes.append(
            f"it has {' and '.join(flow.recurrent_ops)} nodes whose states are neither inputs nor"
            " outputs: they begin anew with every request; to keep them, export them as both"
        )
    return pairs, tuple(notes)


def _batch(trial: Trial, choices: Choices) -> Batch:
    given = dict(choices.sizes)
    if choices.batched:
        return batch_axis.find(trial, given)
    return batch_axis.without(trial, given, "not wanted")


def _how_to_make_it_run(trial: Trial, failure: TrialFailed) -> str:
    sizes = [f"--size {n}=N" for n in free(trial.data) if not names.sounds_like_batch(n)]
    if not sizes:
        return (
            f"it does not run on random numbers ({failure}); if an input takes certain values only,"
            " give one: --constant INPUT=VALUE"
        )
    return (
        f"it runs at none of the sizes tried ({failure}); if you know which its axes of any size"
        f" take, say so: {' '.join(sizes)}"
    )


def _output_ranks(trial: Trial, sizes: Sizes) -> dict[str, int]:
    answers, _ = trial.run(trial.draw(np.random.default_rng(0), sizes), trial.zeros(sizes))
    return {name: array.ndim for name, array in answers.items()}
