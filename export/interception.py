"""How recurrent layers are made to take their states from outside while a model runs.

A layer that is called without an initial state would begin with zeros; meanwhile it begins with a
state from a ledger, in the order of the calls, and its final state goes back there. What it
computes in between may be replaced, too: by a node that torch's exporter does not look into.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import Tensor

import models
from models.loop import scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from models.cells import States


@dataclass(frozen=True, slots=True, eq=False)
class Intercepted:
    """A layer, what its states are called after, and whether it was to be unrolled."""

    name: str
    layer: models.RNN
    unrolled: bool


@dataclass(frozen=True, slots=True, eq=False)
class RecurrentCall:
    """One call of a recurrent layer while the model runs once.

    `states` are the names of the states that it carries from request to request, none if the model
    hands it an initial state; shapes are without batch, and for `x_shape` without time.
    """

    name: str
    layer: models.RNN
    zero_output: bool
    states: tuple[str, ...]
    x_shape: tuple[int, ...]
    state_shapes: tuple[tuple[int, ...], ...]
    constant_shapes: tuple[tuple[int, ...], ...]
    masked: bool


Compute: TypeAlias = """Callable[
    [RecurrentCall, Tensor, States, Tensor | None, Sequence[Tensor]], tuple[Tensor, States]
]"""  # a layer over all timesteps: x `(B, T, …)`, states, mask, constants → outputs, new states


def computed(
    call: RecurrentCall,
    x: Tensor,
    states: States,
    mask: Tensor | None,
    constants: Sequence[Tensor],
) -> tuple[Tensor, States]:
    """What the layer does."""
    if call.layer.go_backwards:
        x, mask = x.flip(1), None if mask is None else mask.flip(1)
    return scan(call.layer.cell, x, states, mask, constants or None, False, call.zero_output)


class Ledger:
    """The states of one run: those that were handed in, and those that come out.

    Without states the run begins with zeros. `calls` says which layers were called, in order.
    """

    def __init__(self, states: Sequence[Tensor] | None, compute: Compute) -> None:
        self._given = None if states is None else iter(states)
        self.compute = compute
        self.finals: list[Tensor] = []
        self.calls: list[RecurrentCall] = []

    def starting(self, layer: models.RNN, x: Tensor) -> States:
        zeros = models.RNN.get_initial_state(layer, x)
        if self._given is None:
            return zeros
        return tuple(next(self._given) for _ in zeros)


@contextmanager
def intercepted(layers: Sequence[Intercepted], ledger: Ledger) -> Iterator[None]:
    """Meanwhile the layers take their states from the ledger, and leave them there."""
    for each in layers:
        layer: Any = each.layer
        layer._starting_states = functools.partial(_starting, ledger, layer)
        layer.scan = functools.partial(_scan, ledger, each)
    try:
        yield
    finally:
        for each in layers:
            del each.layer._starting_states, each.layer.scan


class _Carried(tuple[Tensor, ...]):
    """States that came from the ledger, not from the model."""


def _starting(
    ledger: Ledger, layer: models.RNN, x: Tensor, initial_state: Sequence[Tensor] | None
) -> States:
    if initial_state is None:
        return _Carried(ledger.starting(layer, x))
    return models.RNN._starting_states(layer, x, initial_state)


def _scan(
    ledger: Ledger,
    own: Intercepted,
    x: Tensor,
    states: States,
    mask: Tensor | None = None,
    constants: Sequence[Tensor] | None = None,
    training: bool = False,
) -> tuple[Tensor, States]:
    layer, name = own.layer, own.name
    before = sum(call.layer is layer for call in ledger.calls)
    name = f"{name}_call_{before + 1}" if before else name
    carried = isinstance(states, _Carried)
    call = RecurrentCall(
        name,
        layer,
        zero_output=own.unrolled,
        states=tuple(f"{name}_{state}" for state in layer.state_names) if carried else (),
        x_shape=tuple(int(n) for n in x.shape[2:]),
        state_shapes=tuple(tuple(int(n) for n in state.shape[1:]) for state in states),
        constant_shapes=tuple(tuple(int(n) for n in c.shape[1:]) for c in constants or ()),
        masked=mask is not None,
    )
    ledger.calls.append(call)
    output, final = ledger.compute(call, x, tuple(states), mask, tuple(constants or ()))
    if carried:
        ledger.finals.extend(final)
    return output, final
