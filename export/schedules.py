"""Who runs with whom, and for how long: the ways in which an exported graph is tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np

    from export.cases import Case
    from export.signature import Signature

MAX_CHUNK = 7
Turn = tuple[list[int], int | None]  # who runs together, and how many timesteps; None: the rest
Schedule: TypeAlias = "Callable[[Sequence[Case], np.random.Generator], Iterator[Turn]]"


def schedules_of(signature: Signature) -> dict[str, Schedule]:
    """The comparisons that a graph of this signature allows."""
    steps: dict[str, Schedule] = {"steps": _steps, "strangers": _strangers}
    if any(t.time_axis is not None and t.shape[t.time_axis] == 1 for t in signature.inputs):
        return steps
    if signature.may_be_cut:
        return {"whole": _whole, **steps, "chunks": _chunks}
    return {"whole": _whole, "together": _together}


def _whole(cases: Sequence[Case], rng: np.random.Generator) -> Iterator[Turn]:
    return (([i], None) for i, case in enumerate(cases) for _ in case.requests)


def _together(cases: Sequence[Case], rng: np.random.Generator) -> Iterator[Turn]:
    """Until all are done: some of those whose next request has the same length."""
    done = [0] * len(cases)
    while True:
        by_length: dict[int, list[int]] = {}
        for i, case in enumerate(cases):
            if done[i] < len(case.requests):
                by_length.setdefault(case.lengths[done[i]], []).append(i)
        if not by_length:
            return
        ready = by_length[int(rng.choice(list(by_length)))]
        members = rng.choice(ready, rng.integers(1, len(ready) + 1), replace=False)
        yield [int(i) for i in members], None
        for i in members:
            done[i] += 1


def _steps(cases: Sequence[Case], rng: np.random.Generator) -> Iterator[Turn]:
    return (([i], 1) for i, case in enumerate(cases) for _ in range(case.lengths[0]))


def _strangers(cases: Sequence[Case], rng: np.random.Generator) -> Iterator[Turn]:
    return _mixed(cases, rng, max_chunk=1)


def _chunks(cases: Sequence[Case], rng: np.random.Generator) -> Iterator[Turn]:
    return _mixed(cases, rng, max_chunk=MAX_CHUNK)


def _mixed(cases: Sequence[Case], rng: np.random.Generator, max_chunk: int) -> Iterator[Turn]:
    """Until all are done: some of those that are not, in random order, for a random length."""
    left = {i: case.lengths[0] for i, case in enumerate(cases)}
    while left:
        count = rng.integers(1, len(left) + 1)
        members = [int(i) for i in rng.choice(list(left), count, replace=False)]
        chunk = int(rng.integers(1, 1 + min(max_chunk, *(left[i] for i in members))))
        yield members, chunk
        for i in members:
            left[i] -= chunk
        left = {i: rest for i, rest in left.items() if rest}
