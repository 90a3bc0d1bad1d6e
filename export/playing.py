"""Sessions through an exported graph, in ONNX Runtime, their states carried by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from export.errors import ExportError
from export.signature import BATCH, TIME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import onnxruntime

    from export.cases import Array, Case
    from export.schedules import Turn
    from export.signature import Signature, State, Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """What a case gave: for each request its outputs by name, and the last states."""

    outputs: tuple[Mapping[str, Array], ...]
    states: tuple[Array, ...]


def play(
    session: onnxruntime.InferenceSession,
    signature: Signature,
    cases: Sequence[Case],
    turns: Iterable[Turn],
) -> list[Played]:
    """Run the cases through the graph in the given turns, carrying their states by hand.

    Raises ExportError where the graph does not run, or gives other shapes than the signature says.
    """
    players = [_Player(signature, case) for case in cases]
    names = [t.name for t in signature.outputs] + [s.output for s in signature.states]
    tensors: list[Tensor | State] = [*signature.outputs, *signature.states]
    for members, length in turns:
        together = [players[i] for i in members]
        pieces = [player.piece(length) for player in together]
        feed = {name: np.stack([piece[name] for piece in pieces]) for name in pieces[0]}
        for place, state in enumerate(signature.states):
            feed[state.name] = np.stack([player.states[place] for player in together])
        results = _run(session, names, feed)
        steps = together[0].steps(length)
        for tensor, result in zip(tensors, results, strict=True):
            _check_shape(tensor, result, len(members), steps)
        for row, player in enumerate(together):
            player.advance([result[row] for result in results], length)
    return [player.played() for player in players]


class _Player:
    """How far a case is."""

    def __init__(self, signature: Signature, case: Case) -> None:
        self._signature, self._case = signature, case
        self.states = case.states
        self._request = self._done = 0
        self._pieces: list[list[list[Array]]] = [[] for _ in case.requests]

    def steps(self, length: int | None) -> int:
        """How many timesteps a piece has."""
        return self._case.lengths[self._request] if length is None else length

    def piece(self, length: int | None) -> dict[str, Array]:
        request, begin = self._case.requests[self._request], self._done
        return {
            tensor.name: request[tensor.name]
            if length is None or tensor.time_axis is None
            else _cut(request[tensor.name], tensor.time_axis - 1, begin, begin + length)
            for tensor in self._signature.inputs
        }

    def advance(self, results: list[Array], length: int | None) -> None:
        count = len(self._signature.outputs)
        self._pieces[self._request].append(results[:count])
        self.states = tuple(results[count:])
        self._done += self.steps(length)
        if self._done >= self._case.lengths[self._request]:
            self._request, self._done = self._request + 1, 0

    def played(self) -> Played:
        outputs = tuple(
            {
                tensor.name: _joined([piece[place] for piece in pieces], tensor.time_axis)
                for place, tensor in enumerate(self._signature.outputs)
            }
            for pieces in self._pieces
        )
        return Played(outputs, self.states)


def _run(
    session: onnxruntime.InferenceSession, names: list[str], feed: Mapping[str, Array]
) -> list[Array]:
    try:
        results: list[Array] = session.run(names, feed)
        return results
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        shapes = {name: array.shape for name, array in feed.items()}
        raise ExportError(
            f"the exported graph does not run on {shapes}: {' '.join(str(error).split())[:300]}. A "
            "loop over time in Python is frozen at the example's timesteps: models.RNN runs a cell "
            "over any number"
        ) from error


def _check_shape(tensor: Tensor | State, result: Array, batch: int, steps: int) -> None:
    known = {BATCH: batch, TIME: steps}
    wanted = tuple(size if isinstance(size, int) else known.get(size, -1) for size in tensor.shape)
    fits = result.ndim == len(wanted) and all(
        size in (-1, got) for size, got in zip(wanted, result.shape, strict=True)
    )
    if not fits:
        raise ExportError(
            f"{tensor.name!r} has shape {result.shape} for a batch of {batch} and {steps} "
            f"timesteps; the longer runs that told its shape, {tensor.shape}, make it {wanted}"
        )


def _cut(array: Array, axis: int, begin: int, end: int) -> Array:
    return array[(slice(None),) * axis + (slice(begin, end),)]


def _joined(pieces: list[Array], time_axis: int | None) -> Array:
    """An output without time is that of the last piece."""
    return pieces[-1] if time_axis is None else np.concatenate(pieces, axis=time_axis - 1)
