"""Where sessions wait for the engine: one lane for each kind of work that can share a batch."""

from __future__ import annotations

import heapq
from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any

from server.core.phases import Phase

if TYPE_CHECKING:
    from collections.abc import Hashable

    from server.core.session import Session


class Lanes:
    """First come, first served, inside a lane and between lanes.

    A session that stops waiting is not looked for: its ticket is void, and whoever comes across the
    old one drops it. A heap tells which lane is next: every lane has announced a ticket there that
    is its first one, or smaller where that one has left; that costs no more with many lanes. Who
    comes when nobody else waits needs none of that and waits at the door.
    """

    line: type[Any] = deque  # of those who wait

    def __init__(self) -> None:
        self._door: tuple[Hashable, int, Session] | None = None
        self._lanes: dict[Hashable, deque[tuple[int, Session]]] = {}
        self._announced: dict[Hashable, int] = {}
        self._heads: list[tuple[int, int, Hashable]] = []  # ticket, tie-breaker, lane
        self._parked: deque[tuple[int, Hashable, Session]] = self.line()
        self._tickets = count(1)

    def join(self, lane: Hashable, session: Session) -> None:
        """Wait at the end of `lane`."""
        session.ticket = next(self._tickets)
        if self._door is None and not self._lanes:
            self._door = (lane, session.ticket, session)
            return
        self._leave_door()
        self._lanes.setdefault(lane, self.line()).append((session.ticket, session))
        if lane not in self._announced:
            self._announce(lane, session.ticket)

    def rejoin(self, lane: Hashable, session: Session) -> None:
        """Wait at the front of `lane`, with the ticket from before."""
        self._leave_door()
        self._lanes.setdefault(lane, self.line()).appendleft((session.ticket, session))
        self._announce(lane, session.ticket)

    def park(self, lane: Hashable, session: Session) -> None:
        """Wait outside until there is room."""
        self._parked.append((session.ticket, lane, session))

    @property
    def parked(self) -> bool:
        """Whether somebody may wait outside."""
        return bool(self._parked)

    def unpark(self, room: int) -> list[Session]:
        """Let those who were parked first back to the front of their lanes, `room` rows of them.
        Room that is too small for the first is kept for it.
        """
        back = []
        while self._parked:
            ticket, lane, session = self._parked[0]
            if _holds(ticket, session):
                if session.batch_size > room:
                    break
                room -= session.batch_size
                back.append((lane, session))
            self._parked.popleft()
        for lane, session in reversed(back):
            self.rejoin(lane, session)
        return [session for _, session in back]

    def longest_waiting(self) -> Hashable | None:
        """The lane whose first session has waited longest, None if nobody waits."""
        if self._door is not None:
            lane, ticket, session = self._door
            if _holds(ticket, session):
                return lane
            self._door = None
        while self._heads:
            ticket, _, lane = self._heads[0]
            waiting = self._drop_void(lane)
            if waiting and waiting[0][0] == ticket:
                return lane
            heapq.heappop(self._heads)
            if self._announced.get(lane) == ticket:
                del self._announced[lane]
                if waiting:
                    self._announce(lane, waiting[0][0])
        return None

    def take(self, lane: Hashable) -> Session | None:
        """The first session of `lane`, which leaves it; None if there is none."""
        if self._door is not None and self._door[0] == lane:
            _, ticket, session = self._door
            self._door = None
            return session if _holds(ticket, session) else None
        waiting = self._drop_void(lane)
        return waiting.popleft()[1] if waiting else None

    def _leave_door(self) -> None:
        """Whoever waits at the door goes to a lane, because others come."""
        if self._door is not None:
            lane, ticket, session = self._door
            self._door = None
            self._lanes.setdefault(lane, self.line()).append((ticket, session))
            self._announce(lane, ticket)

    def _announce(self, lane: Hashable, ticket: int) -> None:
        self._announced[lane] = ticket
        heapq.heappush(self._heads, (ticket, next(self._tickets), lane))

    def _drop_void(self, lane: Hashable) -> deque[tuple[int, Session]] | None:
        """Those who wait in `lane`, a valid ticket first; None, and no lane, if there is nobody."""
        waiting = self._lanes.get(lane)
        while waiting and not _holds(*waiting[0]):
            waiting.popleft()
        if not waiting:
            self._lanes.pop(lane, None)
        return waiting

    def __repr__(self) -> str:
        counts = {lane: len(waiting) for lane, waiting in self._lanes.items()}
        if self._door is not None:
            counts[self._door[0]] = 1
        lanes = ", ".join(f"{lane!r}: {number}" for lane, number in counts.items())
        return f"<Lanes {{{lanes}}} parked: {len(self._parked)}>"


def _holds(ticket: int, session: Session) -> bool:
    return session.phase is Phase.QUEUED and session.ticket == ticket
