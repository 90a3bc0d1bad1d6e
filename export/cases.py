"""Sessions to prove an export with: random ones, and real data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from export.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from export.inputs import Draw
    from export.signature import Signature, Tensor

    Array = NDArray[Any]
    Request = Mapping[str, Array]

LENGTHS = (1, 2, 3, 5, 8, 13, 21, 34)  # timesteps of the random requests
EQUAL_LENGTHS = (1, 2, 5, 5, 2, 1, 9, 9)  # where only whole requests can share a batch


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One session: its requests, arrays without a batch axis, and its first states."""

    requests: tuple[Request, ...]
    states: tuple[Array, ...]
    lengths: tuple[int, ...]  # timesteps of each request; 1 where there is no time


def random_cases(
    signature: Signature, draws: Mapping[str, Draw], rng: np.random.Generator
) -> list[Case]:
    """Sessions of two requests each, or of one that will be cut."""
    count = 1 if signature.may_be_cut else 2
    known = LENGTHS if signature.may_be_cut else EQUAL_LENGTHS

    def drawn(tensor: Tensor, length: int) -> Array:
        return draws[tensor.name].values(tensor, tensor.sized(length), rng)

    cases = []
    for index, length in enumerate(known):
        lengths = tuple(length if signature.has_time else 1 for _ in range(count))
        fixed = {t.name: drawn(t, 1) for t in signature.inputs if t.constant}
        requests = tuple(
            {t.name: fixed[t.name] if t.constant else drawn(t, n) for t in signature.inputs}
            for n in lengths
        )
        states = _zeros(signature)
        if index % 2:
            states = tuple(rng.uniform(-1, 1, s.shape).astype(s.dtype) for s in states)
        cases.append(Case(requests, states, lengths))
    return cases


def real_case(signature: Signature, data: Array) -> Case:
    """A session of one request; masks are true.

    Raises ExportError where the data are of another shape than the model's only input.
    """
    (first, *others) = signature.inputs
    fits = data.ndim == len(first.shape) - 1 and data.shape == first.sized(len(data))
    if not fits or not data.size or not all(tensor.optional for tensor in others):
        raise ExportError(
            f"real data of shape {data.shape}: expected {first.name!r} alone, {first.shape[1:]}"
        )
    length = len(data) if first.time_axis is not None else 1
    request = {first.name: data.astype(first.dtype)}
    for tensor in others:
        request[tensor.name] = np.ones(tensor.sized(length), tensor.dtype)
    return Case((request,), _zeros(signature), (length,))


def _zeros(signature: Signature) -> tuple[Array, ...]:
    return tuple(np.zeros([int(n) for n in s.shape[1:]], s.dtype) for s in signature.states)
