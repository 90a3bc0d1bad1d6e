"""What becomes of each position of a frame: computed now, answered before, or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from server.core.frame import Part
from server.core.records import hash_rows
from server.core.remembered import conflict, forgotten, gap
from server.errors import RequestError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from server.core.frame import Frame
    from server.core.ledger import Ledger
    from server.core.records import Records
    from server.core.remembered import Remembered
    from server.core.requests import Arrays, Stepped
    from server.core.table import Table

    Ints = NDArray[np.int64]


class Outcomes:
    def __init__(
        self, table: Table, ledger: Ledger, records: Records, remembered: Remembered
    ) -> None:
        self._table = table
        self._ledger = ledger
        self._records = records
        self._remembered = remembered

    def settle_known(self, frame: Frame, positions: Ints) -> None:
        """Steps that are not their session's next ones: answered before, or out of order."""
        expected = self._table.step[frame.slots[positions]] + 1
        ahead = frame.indices[positions] > expected
        for position, next_index in zip(positions[ahead], expected[ahead], strict=True):
            frame.put_error(int(position), gap(int(frame.indices[position]), int(next_index)))
        if ahead.all():
            return
        positions = positions[~ahead]
        slots, indices = frame.slots[positions], frame.indices[positions]
        hashes = hash_rows(
            {n: array[positions] for n, array in frame.inputs.items()}, len(positions)
        )
        left = np.ones(len(positions), np.bool_)
        for which, record, places in self._records.find(slots, indices):
            same = hashes[which] == record.hashes[places]
            if same.any():
                outputs = {name: array[places[same]] for name, array in record.outputs.items()}
                frame.put(positions[which[same]], outputs, indices[which[same]])
            for each in which[~same]:
                frame.put_error(int(positions[each]), conflict(int(indices[each])))
            left[which] = False
        for position in positions[left]:
            self._settle_one(frame, int(position))

    def _settle_one(self, frame: Frame, position: int) -> None:
        """A step that was committed, and stands in no record."""
        session = self._table.sessions[frame.slots[position]]
        assert session is not None
        known = None
        if session.answers:
            known = self._remembered.find_single(session, frame.single(position))
        self.settle(frame, position, known or forgotten(int(frame.indices[position])))

    def settle(self, frame: Frame, position: int, result: Stepped | RequestError) -> None:
        """The outcome of a step of the frame that was run by itself, or has been before."""
        frame.singles.pop(position, None)
        if isinstance(result, RequestError):
            frame.put_error(position, result)
        else:
            frame.put(np.array([position]), result.outputs, result.step)
        self.finish(frame)

    def finish(self, frame: Frame) -> None:
        """Answer the frame if every position has its outcome."""
        if not frame.unsettled and not frame.answered:
            frame.answered = True
            self._ledger.answer(frame, frame.result(), frame.enlisted)

    def remember(self, frame: Frame, positions: Ints, slots: Ints, outputs: Arrays) -> None:
        numbered = frame.indices[positions] != 0
        if not numbered.all():
            positions, slots = positions[numbered], slots[numbered]
            outputs = {name: array[numbered] for name, array in outputs.items()}
        if len(positions):
            hashes = hash_rows(
                {n: Part(frame, positions).input(n) for n in frame.inputs}, len(positions)
            )
            self._records.keep(slots, frame.indices[positions], outputs, hashes)
