"""A ledger that also knows who waits to begin: how many of each level, since when, until when.

A step stands in the queue from the moment it comes until its first run begins, or until it is
answered without one. Only steps queue: what reads and writes states takes no run of the model. A
frame is beside the queue, too, but for those of its steps that run by themselves.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from itertools import count
from typing import TYPE_CHECKING

from server.core.ledger import Ledger
from server.core.requests import Step
from server.errors import LimitReached

if TYPE_CHECKING:
    from server.core.ledger import Limits
    from server.core.queueing import Queueing
    from server.core.requests import Request, Result
    from server.core.session import Session

NEVER = float("inf")
RETRY_AFTER_S = 0.1  # a queue that is full has moved on by then
SPARE_DEADLINES = 64  # of those who have left, before they are looked for and dropped


class Place:
    """A step's place in the queue. `waits` tells whose it is, until that one leaves. Who is `late`
    has waited too long, and goes behind the others.
    """

    __slots__ = ("arrived_s", "late", "level", "waits")

    def __init__(self, session: Session, step: Step, level: int) -> None:
        self.waits: tuple[Session, Step] | None = (session, step)
        self.arrived_s = step.arrived_s
        self.level = level
        self.late = False

    @property
    def rank(self) -> int:
        """The smaller goes first."""
        return 2 * self.level + self.late


class QueueLedger(Ledger):
    def __init__(self, limits: Limits, queueing: Queueing) -> None:
        super().__init__(limits)
        self._queueing = queueing
        self._places: OrderedDict[Place, None] = OrderedDict()  # as they came
        self._waiting: Counter[int] = Counter()  # by level
        self._rows = 0
        self._deadlines: list[tuple[float, int, Place]] = []  # a heap; some may have left
        self._numbers = count()

    # ---- coming and leaving ---------------------------------------------------------------------

    def owe(self, session: Session, request: Request) -> None:
        if not isinstance(request, Step):
            return super().owe(session, request)
        level = self._queueing.level_of(request.priority)
        self._check_room(level)
        super().owe(session, request)
        request.place = place = Place(session, request, level)
        self._places[place] = None
        self._waiting[level] += 1
        self._rows += session.batch_size
        timeout_s = self._queueing.policy_of(level).timeout_of(request.timeout_s)
        if timeout_s:
            until_s = request.arrived_s + timeout_s
            heapq.heappush(self._deadlines, (until_s, next(self._numbers), place))

    def _check_room(self, level: int) -> None:
        waiting, most = self._waiting[level], self._queueing.policy_of(level).max_waiting
        if most and waiting >= most:
            where = f" at priority level {level}" if level else ""
            raise LimitReached(
                f"Exceeds maximum queue size: {waiting} requests wait already{where}; try again "
                "later",
                RETRY_AFTER_S,
            )

    def begin(self, session: Session) -> None:
        super().begin(session)
        self._leave(session.first)

    def answer(self, request: Request, result: Result, count: int = 1) -> None:
        self._leave(request)
        super().answer(request, result, count)

    def _leave(self, request: Request) -> None:
        place = request.place if isinstance(request, Step) else None
        if place is None or place.waits is None:
            return
        session, _ = place.waits
        place.waits, place.late = None, False
        del self._places[place]
        self._waiting[place.level] -= 1
        self._rows -= session.batch_size
        if len(self._deadlines) > 2 * len(self._places) + SPARE_DEADLINES:
            self._deadlines = [entry for entry in self._deadlines if entry[2].waits is not None]
            heapq.heapify(self._deadlines)

    # ---- the clock ------------------------------------------------------------------------------

    def overdue(self, now_s: float) -> Place | None:
        """One who has waited too long, each once; None if there is nobody."""
        while self._deadlines and self._deadlines[0][0] < now_s:
            place = heapq.heappop(self._deadlines)[2]
            if place.waits is not None:
                return place
        return None

    def delays(self, place: Place) -> bool:
        """Whether who is overdue goes behind the others, instead of away."""
        return self._queueing.policy_of(place.level).delays

    def next_deadline_s(self) -> float:
        """When the next one will have waited too long."""
        while self._deadlines and self._deadlines[0][2].waits is None:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else NEVER

    def gathers_until_s(self) -> float:
        """Until when an engine that is idle waits for more to come; 0 if it does not. It does not
        where anything is pending that has begun, or is no step.
        """
        if not self._queueing.window_s or self._rows >= self._queueing.enough:
            return 0
        if not self._places or self.pending > len(self._places):
            return 0
        return next(iter(self._places)).arrived_s + self._queueing.window_s
