"""What the scheduler tells the engine to do, and how inputs and outputs of many sessions are laid
side by side and taken apart again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from server.errors import StepFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from server.core.controls import Control
    from server.core.requests import Arrays, Read, Step, Write
    from server.core.session import Session


@dataclass(frozen=True, slots=True)
class Layout:
    """Where time runs in each input and output: an axis, or None. `controls` are inputs that no
    request carries.
    """

    inputs: Mapping[str, int | None]
    outputs: Mapping[str, int | None]
    controls: tuple[Control, ...] = ()


class Entry(NamedTuple):
    """One session's part in a batch; the new state goes to rows `write`. Where the session's state
    is off the device, it comes `back` into rows `read` first, which are the batch's own.
    """

    session: Session
    step: Step
    read: tuple[int, ...]
    write: tuple[int, ...]
    back: Arrays | None = None


class Batch(NamedTuple):
    """One run of the model: `timesteps` timesteps of every entry.

    `timesteps` is None where requests must run whole: then all of them have the same shapes.
    """

    entries: tuple[Entry, ...]
    timesteps: int | None
    layout: Layout

    @property
    def size(self) -> int:
        return sum(entry.session.batch_size for entry in self.entries)

    def read_rows(self) -> NDArray[np.int64]:
        return np.array([row for entry in self.entries for row in entry.read], np.int64)

    def write_rows(self) -> NDArray[np.int64]:
        return np.array([row for entry in self.entries for row in entry.write], np.int64)

    def back(self) -> Back | None:
        return together([(entry.read, entry.back) for entry in self.entries if entry.back])

    def inputs(self) -> dict[str, NDArray[Any]]:
        """The inputs of all entries, one below the other: `(size, …)` each."""
        first = self.entries[0].step
        if len(self.entries) == 1 and self.timesteps in (None, first.timesteps):
            inputs = dict(first.inputs)
        else:
            inputs = {
                name: stack([self._piece(entry.step, name, axis) for entry in self.entries])
                for name, axis in self.layout.inputs.items()
                if name in first.inputs
            }
        for control in self.layout.controls:
            inputs[control.name] = control.array(self.entries, self.timesteps)
        return inputs

    def _piece(self, step: Step, name: str, axis: int | None) -> NDArray[Any]:
        array = step.inputs[name]
        if axis is None or self.timesteps is None or self.timesteps == step.timesteps:
            return array
        return span(array, axis, step.position, step.position + self.timesteps)

    def check(self, outputs: Arrays) -> None:
        """Raises StepFailed; requests that run alone are safe from that."""
        if len(self.entries) > 1:
            check_rows(outputs, self.size)

    def split(self, outputs: Arrays) -> list[Arrays]:
        """The outputs of each entry, `(batch_size, …)` each: views, in the order of the entries."""
        if len(self.entries) == 1:
            return [outputs]
        parts: list[Arrays] = []
        start = 0
        for entry in self.entries:
            stop = start + entry.session.batch_size
            parts.append({name: array[start:stop] for name, array in outputs.items()})
            start = stop
        return parts

    def join(self, pieces: list[Arrays]) -> Arrays:
        """The outputs of a whole request from those of its pieces. Raises StepFailed."""
        return in_sequence(pieces, self.layout)


@dataclass(frozen=True, slots=True)
class ReadRows:
    """Fetch the states in `rows`, for themselves or for the answer to a step."""

    session: Session
    request: Read | Step
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WriteRows:
    """Store `states` in the free rows `rows`."""

    session: Session
    request: Write
    states: Arrays
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MoveOut:
    """Fetch the states in `rows`, those of `sessions` one below the other, to keep them off the
    device.
    """

    sessions: tuple[Session, ...]
    rows: tuple[int, ...]


class Back(NamedTuple):
    """States to be stored in `rows` before anything else."""

    rows: NDArray[np.int64]
    states: dict[str, NDArray[Any]]


def together(parts: Sequence[tuple[Sequence[int], Arrays]]) -> Back | None:
    """All the rows and the states for them, one below the other; None where there are none."""
    if not parts:
        return None
    rows = [row for rows, _ in parts for row in rows]
    names = parts[0][1]
    states = {name: np.concatenate([states[name] for _, states in parts]) for name in names}
    return Back(np.array(rows, np.int64), states)


def check_rows(outputs: Arrays, size: int) -> None:
    """Nobody may get another one's rows. Raises StepFailed if an output has not one row for each
    row of the batch.
    """
    for name, array in outputs.items():
        if array.shape[:1] != (size,):
            raise StepFailed(
                f"output {name!r} has shape {array.shape} for a batch of {size} rows: its first "
                "axis is not the batch"
            )


def in_sequence(pieces: Sequence[Arrays], layout: Layout) -> Arrays:
    """Pieces of outputs made one: the sequences one after the other, and of what has no time axis
    the last. Raises StepFailed if they do not fit together.
    """
    if len(pieces) == 1:
        return pieces[0]
    try:
        return {
            name: last
            if (axis := layout.outputs[name]) is None
            else np.concatenate([piece[name] for piece in pieces], axis)
            for name, last in pieces[-1].items()
        }
    except ValueError as error:
        raise StepFailed(f"this model may not be cut into pieces of time: {error}") from None


def stack(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.ascontiguousarray(arrays[0]) if len(arrays) == 1 else np.concatenate(arrays)


def span(array: NDArray[Any], axis: int, start: int, stop: int) -> NDArray[Any]:
    """From `start` to `stop` on `axis`: a view."""
    index = (slice(None),) * axis + (slice(start, stop),)
    piece: NDArray[Any] = array[index]
    return piece
