"""Answers to frames, kept for whoever asks for them again: one record for all sessions of a run.

A session's columns `record` and `place` say where its last answer stands; a record knows, for each
of its places, where the one before that stands. So nothing is made or kept for a single session.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from server.core.remembered import conflict
from server.core.requests import Stepped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from server.core.remembered import Shelf
    from server.core.requests import Arrays, Step
    from server.core.table import Table
    from server.errors import RequestError

    Ints = NDArray[np.int64]

MAX_DEPTH = 64  # frames of a session that can be asked for again
_BLOCK = 4096  # words that are weighed at a time
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def _scattered(count: int) -> NDArray[np.uint64]:
    """Odd numbers, a product with one of which loses nothing: those of SplitMix64 (Steele, Lea and
    Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
    """
    z = np.arange(1, count + 1, dtype=np.uint64) * _FACTOR
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) | np.uint64(1)


_WEIGHTS = _scattered(_BLOCK)


class Record:
    """Steps `indices` of as many sessions; `outputs` are `(places, …)` each. `hashes` tell whether
    somebody who asks for a step again sends the same inputs.
    """

    def __init__(self, number: int, indices: Ints, outputs: Arrays, hashes: NDArray[Any]) -> None:
        self.number = number
        self.indices = indices
        self.outputs = outputs
        self.hashes = hashes
        self.nbytes = sum(array.nbytes for array in outputs.values()) + 40 * len(indices)
        self.previous: Ints
        self.previous_place: NDArray[np.int32]
        self.records: Records | None = None

    def drop(self) -> None:
        assert self.records is not None, "dropped twice"
        self.records.remove(self)
        self.records = None


class Found(NamedTuple):
    """`which` of those looked for stand at `places` of `record`."""

    which: Ints
    record: Record
    places: Ints


class Records:
    def __init__(self, table: Table, shelf: Shelf) -> None:
        self._table = table
        self._shelf = shelf
        self._by_number: dict[int, Record] = {}
        self._numbers = count(1)

    def keep(self, slots: Ints, indices: Ints, outputs: Arrays, hashes: NDArray[Any]) -> None:
        """The sessions at `slots` have made these steps; `outputs` belong to the record now."""
        record = Record(next(self._numbers), indices, outputs, hashes)
        record.previous = self._table.record[slots]
        record.previous_place = self._table.place[slots]
        record.records = self
        self._table.record[slots] = record.number
        self._table.place[slots] = np.arange(len(slots))
        self._by_number[record.number] = record
        self._shelf.put(record)

    def find(self, slots: Ints, indices: Ints) -> Iterator[Found]:
        """Where the answers to those steps stand, as far as they are remembered."""
        numbers, places = self._table.record[slots], self._table.place[slots]
        sought = np.arange(len(slots))
        for _ in range(MAX_DEPTH):
            if not len(sought):
                return
            left = []
            order = sought[np.argsort(numbers[sought], kind="stable")]
            for which in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
                record = self._by_number.get(int(numbers[which[0]]))
                if record is None:
                    continue
                at = places[which]
                hit = record.indices[at] == indices[which]
                if hit.any():
                    yield Found(which[hit], record, at[hit].astype(np.int64))
                numbers[which], places[which] = record.previous[at], record.previous_place[at]
                left.append(which[~hit])
            sought = np.concatenate([*left, sought[:0]])

    def find_one(self, slot: int, step: Step) -> Stepped | RequestError | None:
        """The answer to one step of one session, which comes outside of a frame now."""
        for _, record, places in self.find(np.array([slot]), np.array([step.index])):
            place = int(places[0])
            if hash_rows(step.inputs, 1)[0] != record.hashes[place]:
                return conflict(step.index)
            outputs = {name: array[place : place + 1] for name, array in record.outputs.items()}
            return None if step.return_state else Stepped(outputs, step.index)
        return None

    def oldest(self, slot: int) -> int:
        """The first step of a session whose answer is kept here; 0 if there is none."""
        number, place, index = int(self._table.record[slot]), int(self._table.place[slot]), 0
        for _ in range(MAX_DEPTH):
            if (record := self._by_number.get(number)) is None:
                break
            index = int(record.indices[place])
            number, place = int(record.previous[place]), int(record.previous_place[place])
        return index

    def remove(self, record: Record) -> None:
        del self._by_number[record.number]


def hash_rows(inputs: Arrays, count: int) -> NDArray[np.uint64]:
    """A number for each of `count` rows that other contents would hardly have."""
    total = np.zeros(count, np.uint64)
    for _, array in sorted(inputs.items()):
        raw = np.ascontiguousarray(array).reshape(len(array), -1).view(np.uint8)
        length = raw.shape[1]  # zeros differ in nothing else
        if odd := length % 4:
            raw = np.pad(raw, ((0, 0), (0, 4 - odd)))
        words = raw.view(np.uint32)
        for start in range(0, words.shape[1], _BLOCK):
            block = words[:, start : start + _BLOCK]
            total = total * _FACTOR + block @ _WEIGHTS[: block.shape[1]]
        total = total * _FACTOR + np.uint64(length)
    return total
