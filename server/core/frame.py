"""A frame, a step of each of many sessions in one request, and a run of the model for several of
those steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from server.core.batch import check_rows, span, stack
from server.core.requests import Framed, Request, Step

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from numpy.typing import NDArray

    from server.core.batch import Back, Layout
    from server.core.requests import Arrays
    from server.core.session import Session
    from server.errors import RequestError

    Ints = NDArray[np.int64]


@dataclass(slots=True, eq=False, kw_only=True)
class Frame(Request):
    """One step of each of the sessions at `slots`, all different and of one row each.

    `inputs` are `(count, …)`. `indices` `(count,)` are as `Step.index`. `errors` hold, by position,
    what is wrong already; `slots` are not looked at there.
    """

    inputs: Arrays
    slots: Ints
    indices: Ints
    timesteps: int = 1
    shapes: Hashable = ()
    errors: dict[int, RequestError] = field(default_factory=dict)

    # progress, kept by the scheduler
    queue: Ints = field(default_factory=lambda: np.zeros(0, np.int64))  # positions that wait
    enlisted: int = 0  # how many have waited there
    unsettled: int = 0  # positions without an outcome
    at_once: int = 0  # positions that may share a run because more have failed; 0: all that fit
    answered: bool = False
    made: int = 0  # steps that have run here, and those that could not
    failed: int = 0
    singles: dict[int, tuple[Session, Step]] = field(default_factory=dict)  # that run by themselves
    outputs: dict[str, NDArray[Any]] = field(default_factory=dict)
    steps: Ints = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def count(self) -> int:
        return len(self.slots)

    def put(self, positions: Ints, outputs: Arrays, steps: Ints | int) -> None:
        """These positions have their outputs, `(len(positions), …)` each."""
        if len(positions) == self.count and (positions[1:] > positions[:-1]).all():
            self.outputs = dict(outputs)
        else:
            for name, array in outputs.items():
                if name not in self.outputs:
                    self.outputs[name] = np.zeros((self.count, *array.shape[1:]), array.dtype)
                self.outputs[name][positions] = array
        self.steps[positions] = steps
        self.unsettled -= len(positions)

    def put_error(self, position: int, error: RequestError) -> None:
        self.errors[position] = error
        self.unsettled -= 1

    def single(self, position: int) -> Step:
        """The step at that position as one by itself."""
        return Step(
            inputs={name: array[position : position + 1] for name, array in self.inputs.items()},
            timesteps=self.timesteps,
            shapes=self.shapes,
            index=int(self.indices[position]),
        )

    def result(self) -> Framed:
        return Framed(self.outputs, self.steps, self.errors)


class Part(NamedTuple):
    """Positions of one frame that run together."""

    frame: Frame
    positions: Ints

    @property
    def slots(self) -> Ints:
        return self.frame.slots[self.positions]

    def input(self, name: str) -> NDArray[Any]:
        array = self.frame.inputs[name]
        return array if len(self.positions) == len(array) else array[self.positions]


class FrameRun(NamedTuple):
    """One run of the model: `timesteps` timesteps, after `position` of them, of every part; None
    where requests must run whole. New states go from rows `read` to rows `write`. It goes on with
    `working`, unless it is the first of its parts.
    """

    parts: tuple[Part, ...]
    sessions: tuple[Session, ...]  # only if a control wants to know them
    position: int
    timesteps: int | None
    read: Ints
    write: Ints
    come_back: Back | None
    start: NDArray[np.bool_]
    layout: Layout
    working: Working | None

    @property
    def size(self) -> int:
        return len(self.read)

    @property
    def is_last(self) -> bool:
        whole = self.parts[0].frame.timesteps
        return self.timesteps is None or self.position + self.timesteps >= whole

    def read_rows(self) -> Ints:
        return self.read

    def write_rows(self) -> Ints:
        return self.write

    def back(self) -> Back | None:
        return self.come_back

    def inputs(self) -> dict[str, NDArray[Any]]:
        """The inputs of all parts, one below the other: `(size, …)` each."""
        inputs = {name: stack([part.input(name) for part in self.parts]) for name in self._names}
        if self.timesteps is not None and not (self.position == 0 and self.is_last):
            stop = self.position + self.timesteps
            inputs = {
                name: array
                if (axis := self.layout.inputs[name]) is None
                else np.ascontiguousarray(span(array, axis, self.position, stop))
                for name, array in inputs.items()
            }
        for control in self.layout.controls:
            inputs[control.name] = control.column(self.sessions, self.start)
        return inputs

    @property
    def _names(self) -> Iterable[str]:
        return self.parts[0].frame.inputs

    def check(self, outputs: Arrays) -> None:
        """Raises StepFailed."""
        if self.size > 1:
            check_rows(outputs, self.size)


class Working(NamedTuple):
    """Parts of which the first `position` timesteps have run: their outputs are `pieces`, and their
    states stand in `rows`, not committed yet.
    """

    parts: tuple[Part, ...]
    position: int
    rows: Ints
    pieces: list[Arrays]
