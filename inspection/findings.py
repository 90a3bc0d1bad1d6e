"""Everything that is found out about a model, in one object: `report` shows it, `add` writes it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from inspection import batch_axis, names, reading, roles, states, time_axis
from inspection.errors import Refused
from inspection.trial import StateGrows, Trial, TrialFailed, free, shape, variables

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from inspection.batch_axis import Batch
    from inspection.reading import Model, Value
    from inspection.roles import Constant
    from inspection.states import Pair
    from inspection.time_axis import Time
    from inspection.trial import Sizes


@dataclass(frozen=True, slots=True)
class Choices:
    """What somebody says instead of leaving it to the guess.

    `pairs` are (input, output), None to guess; `sizes` are for axes of any size, by symbol or as
    `input[axis]`; `batched` False: no batch axis, even where there is one.
    """

    pairs: tuple[tuple[str, str], ...] | None = None
    constants: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    batched: bool = True


@dataclass(frozen=True, slots=True)
class Findings:
    """`needs` are inputs without a value that only somebody who knows the model can give,
    `needs_sizes` axes of states without a size.
    """

    model: Model
    pairs: tuple[Pair, ...]
    constants: tuple[Constant, ...]
    trial: Trial
    batch: Batch
    time: Time
    needs: tuple[str, ...]
    needs_sizes: tuple[str, ...]
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
        """What answers carry: the outputs that are no states; where there is no other, those."""
        values = [value for value in self.model.outputs if value.name in self.trial.served]
        return values or list(self.model.outputs)

    def input_dims(self, value: Value) -> list[int]:
        """The dims of a request's input, the batch axis not counted: -1 is any size."""
        return [self._size(dim) for dim in variables(value)[self.batched :]]

    def output_dims(self, value: Value) -> list[int]:
        """The dims of an output likewise."""
        state = next((pair.input for pair in self.pairs if pair.output == value.name), None)
        if state is not None:
            return self.state_shape(state)
        dims = value.dims if value.dims is not None else (None,) * self.output_ranks[value.name]
        return [dim if isinstance(dim, int) else -1 for dim in dims[self.batched :]]

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
        bound = set(free(self.trial.states)) - self.batch.variables
        alone = not self.batched and names.sounds_like_batch(dim)
        return self.batch.sizes[dim] if dim in bound or alone else -1


def find(path: Path, choices: Choices) -> Findings:
    """Read, guess and try a model. Raises Refused with one line."""
    model = reading.read(path)
    for value in model.inputs:
        if value.dims is None or value.dtype is None:
            raise Refused(
                f"{path}: input {value.name!r} is {value}; expected a tensor of numbers of a known"
                " number of axes"
            )
    pairs = states.guess(model) if choices.pairs is None else _named(model, choices.pairs)
    model = states.sharpened(model, pairs)
    constants = roles.constants(model, {pair.input for pair in pairs}, choices.constants)
    trial = Trial(model, pairs, constants)
    _check_sizes(trial, choices.sizes)
    try:
        batch = _batch(trial, choices)
    except StateGrows as growth:
        raise Refused(
            f"{path}: {growth}; if it is none, name those that are, each with --state INPUT=OUTPUT"
        ) from None
    except TrialFailed as failure:
        raise Refused(
            f"{path}: it runs at none of the sizes tried ({failure}); if you know which its axes of"
            f" any size take, say so: {_size_hint(trial)}"
        ) from None
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
        output_ranks=_output_ranks(trial, batch.sizes),
    )


def _batch(trial: Trial, choices: Choices) -> Batch:
    given = dict(choices.sizes)
    if choices.batched:
        return batch_axis.find(trial, given)
    return batch_axis.without(trial, given, "not wanted")


def _named(model: Model, pairs: tuple[tuple[str, str], ...]) -> tuple[Pair, ...]:
    """Raises Refused at a name that is not there, or twice, or two tensors that cannot be equal."""
    inputs = {value.name: value for value in model.inputs}
    outputs = {value.name: value for value in model.outputs}
    for before, after in pairs:
        for kind, name, known in (("input", before, inputs), ("output", after, outputs)):
            if name not in known:
                raise Refused(
                    f"--state {before}={after}: no {kind} {name!r}; there is: {', '.join(known)}"
                )
        if not states.may_be_equal(inputs[before], outputs[after]):
            raise Refused(
                f"--state {before}={after}: the model reads {inputs[before]} and writes"
                f" {outputs[after]}; expected the same type and shape"
            )
    for side in zip(*pairs, strict=True):
        twice = [name for name in side if side.count(name) > 1]
        if twice:
            raise Refused(f"--state: {twice[0]!r} is named twice; expected each tensor once")
    return states.given(pairs)


def _check_sizes(trial: Trial, sizes: Sizes | Mapping[str, int]) -> None:
    known = free([*trial.data, *trial.states])
    for name in sizes:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise Refused(f"--size {name}: no such axis of any size; there is: {listed}")


def _size_hint(trial: Trial) -> str:
    names_ = [name for name in free(trial.data) if not names.sounds_like_batch(name)]
    return " ".join(f"--size {name}=N" for name in names_) or "there is no such axis"


def _output_ranks(trial: Trial, sizes: Sizes) -> dict[str, int]:
    answers, _ = trial.run(trial.draw(np.random.default_rng(0), sizes), trial.zeros(sizes))
    return {name: array.ndim for name, array in answers.items()}
