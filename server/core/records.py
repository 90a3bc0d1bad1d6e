"""Answers to frames, kept for whoever asks for them again: one record for all sessions of a run.

A session's columns `record` and `place` say where its last answer stands; a record knows, for each
of its places, where the one before that stands. So nothing is made or kept for a single session.
"""

from __future__ import annotations

from functools import lru_cache
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
_UNKNOWN = 0


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
            left = []
            for number in np.unique(numbers[sought]):
                which = sought[numbers[sought] == number]
                record = self._by_number.get(int(number))
                if record is None:
                    continue
                at = places[which]
                hit = record.indices[at] == indices[which]
                if hit.any():
                    yield Found(which[hit], record, at[hit].astype(np.int64))
                numbers[which], places[which] = record.previous[at], record.previous_place[at]
                left.append(which[~hit])
            if not left:
                return
            sought = np.sort(np.concatenate(left))

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
        total = total * np.uint64(31) + words @ _weights(words.shape[1]) + np.uint64(length)
    return total


@lru_cache(maxsize=64)
def _weights(count: int) -> NDArray[np.uint64]:
    """Odd numbers: a product with one of them loses nothing."""
    return np.random.default_rng(count).integers(0, 2**63, count, np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
