"""Lanes where some go before others who came earlier."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

from server.core.lanes import Lanes
from server.core.requests import Step

if TYPE_CHECKING:
    from collections.abc import Hashable

    from server.core.session import Session

RANK_BITS = 48  # of a ticket, that count those who came


class Sorted:
    """Entries that begin with a ticket, the smallest first: what lanes need of a deque."""

    def __init__(self) -> None:
        self._heap: list[tuple[Any, ...]] = []

    def append(self, entry: tuple[Any, ...]) -> None:
        heapq.heappush(self._heap, entry)

    appendleft = append

    def popleft(self) -> tuple[Any, ...]:
        return heapq.heappop(self._heap)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        assert index == 0, "only the first is known"
        return self._heap[0]

    def __len__(self) -> int:
        return len(self._heap)


class RankedLanes(Lanes):
    """First come, first served among those of one rank, which their place in the queue tells; the
    smallest rank first. Who has no place, because it takes no run of the model, goes before all.
    """

    line: type[Any] = Sorted

    def join(self, lane: Hashable, session: Session) -> None:
        first = session.first
        place = first.place if isinstance(first, Step) else None
        ticket = session.ticket = (place.rank if place else 0) << RANK_BITS | next(self._tickets)
        self._lanes.setdefault(lane, self.line()).append((ticket, session))
        if ticket < self._announced.get(lane, ticket + 1):
            self._announce(lane, ticket)
