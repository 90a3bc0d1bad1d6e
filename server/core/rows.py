"""Which rows of the state arena are free.

A row holds the state of one row of one session, or of several that have it in common, because one
was forked off the other. Rows are handed out, written once, read any number of times and given
back by everybody who has them; nobody writes a row that counts. Row `INITIAL_ROW` holds the model's
initial state: it belongs to every session that has not stepped yet and is never handed out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

INITIAL_ROW = 0


class RowPool:
    """Hands out row numbers from 1 to `size - 1`.

    Rows that were used before are preferred over fresh ones, so that an arena whose pages the
    operating system commits on first touch stays as small as its busiest moment.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._returned: list[int] = []
        self._next_fresh = INITIAL_ROW + 1
        self._sharers: dict[int, int] = {}  # row → how many have it beside the first

    @property
    def free(self) -> int:
        return len(self._returned) + self.size - self._next_fresh

    def take(self, count: int) -> tuple[int, ...]:
        assert count <= self.free, f"{count} rows wanted, {self.free} free: the caller must check"
        cut = max(0, len(self._returned) - count)
        rows = self._returned[cut:]
        del self._returned[cut:]
        fresh = range(self._next_fresh, self._next_fresh + count - len(rows))
        self._next_fresh = fresh.stop
        return (*rows, *fresh)

    def share(self, rows: Sequence[int]) -> None:
        """Somebody else has these rows, too, and will give them back."""
        for row in rows:
            if row > INITIAL_ROW:
                self._sharers[row] = self._sharers.get(row, 0) + 1

    def give_back(self, rows: Iterable[int]) -> None:
        for row in rows:
            if row > INITIAL_ROW and not (self._sharers and self._is_still_shared(row)):
                self._returned.append(row)

    def _is_still_shared(self, row: int) -> bool:
        sharers = self._sharers.pop(row, 0)
        if sharers > 1:
            self._sharers[row] = sharers - 1
        return sharers > 0

    def __repr__(self) -> str:
        return f"<RowPool {self.free} of {self.size} free>"
