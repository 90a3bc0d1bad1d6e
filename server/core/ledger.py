"""What belongs to whom: arena rows to sessions and to unfinished requests, answers to callers.

State is never overwritten while it counts. A step reads its session's rows and writes other ones;
the session's pointer moves to those when the whole request has succeeded, and the old ones are free
again. Until then the session is, whatever happens, as it was. A request of several pieces holds
working rows between them, `batch_size` of its own, from its first piece to its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from server.core.requests import Step
from server.core.rows import INITIAL_ROW, RowPool
from server.core.table import ON_HOST
from server.errors import LimitReached

if TYPE_CHECKING:
    from server.core.queueing import Queueing
    from server.core.requests import Arrays, Request, Result
    from server.core.session import Session

MAX_WORKING_BATCHES = 4
MIN_BATCHES = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_rows`: rows of all sessions together; `max_resident_rows`: of those whose state is on
    the device at a time, None for all of them; `max_chunk`: timesteps in one run, None for a model
    whose requests run whole; `max_pending…`: requests that have no answer yet, and the bytes that
    they carry; `max_remembered_bytes`: answers that are kept for whoever asks for a step again;
    `instances`: jobs that the engine does at a time; `queueing`: how requests queue, None for first
    come, first served.
    """

    max_batch_size: int
    max_rows: int
    max_resident_rows: int | None = None
    max_chunk: int | None = None
    max_pending_per_session: int = 256
    max_pending: int = 65_536
    max_pending_bytes: int = 2**30
    max_remembered_bytes: int = 2**28
    instances: int = 1
    queueing: Queueing | None = None

    @property
    def max_pending_in_frames(self) -> int:
        """Frames leave room for those who come with single requests."""
        return max(1, self.max_pending * 3 // 4)

    @property
    def max_working_rows(self) -> int:
        return (MAX_WORKING_BATCHES - 1 + self.instances) * self.max_batch_size

    @property
    def resident_rows(self) -> int:
        """Sessions' rows that there is room for on the device, some batches at least."""
        if self.max_resident_rows is None:
            return self.max_rows
        least = MIN_BATCHES * self.instances * self.max_batch_size
        return min(self.max_rows, max(self.max_resident_rows, least))

    @property
    def spare_rows(self) -> int:
        """Rows that belong to no session: all working rows, and for each instance those of a frame
        between its pieces, those that a batch writes, and those by which sessions come back to the
        device.
        """
        return self.max_working_rows + 3 * self.instances * self.max_batch_size

    @property
    def arena_rows(self) -> int:
        """The initial row, sessions' rows, and the spare ones."""
        return 1 + self.resident_rows + self.spare_rows


class Ledger:
    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.rows = RowPool(limits.arena_rows)
        self._all_fit = limits.resident_rows == limits.max_rows
        self.reserved_rows = 0
        self.working_rows = 0
        self.pending = 0
        self.pending_bytes = 0
        self._answers: list[tuple[Request, Result]] = []

    # ---- sessions -------------------------------------------------------------------------------

    def admit(self, session: Session) -> None:
        """Set rows aside for a new session, which fits into a batch. Raises LimitReached."""
        assert 1 <= session.batch_size <= self.limits.max_batch_size, (
            f"{session!r} of batch_size {session.batch_size} never fits into a batch"
        )
        if self.reserved_rows + session.batch_size > self.limits.max_rows:
            raise LimitReached(
                f"no room for a session of {session.batch_size} rows: {self.reserved_rows} of "
                f"{self.limits.max_rows} are taken; try again when others have closed"
            )
        self.reserved_rows += session.batch_size

    @property
    def short_of_rows(self) -> bool:
        """Whether sessions must make room before the next batch, all of which may need new rows, as
        those may that are under way.
        """
        if self._all_fit:
            return False
        return self.rows.free - self.limits.spare_rows < self.limits.max_batch_size

    def dismiss(self, session: Session) -> None:
        """The session is closed: its rows are free."""
        self.commit(session, (INITIAL_ROW,) * session.batch_size)
        self.reserved_rows -= session.batch_size

    def commit(self, session: Session, rows: tuple[int, ...]) -> None:
        """From now on the session's state stands in `rows`."""
        self.rows.give_back(session.rows)
        session.rows = rows
        session.kept = None

    def share(self, session: Session, target: Session, count_on: bool) -> None:
        """From now on `target` has the state of the session, too, and maybe its steps behind it."""
        self.rows.share(session.rows)
        self.commit(target, session.rows)
        target.kept, target.fresh = session.kept, session.fresh
        if count_on:
            target.step = session.step

    def move_out(self, session: Session, states: Arrays) -> None:
        """From now on the session's state is off the device."""
        self.commit(session, (ON_HOST,) * session.batch_size)
        session.kept = states

    # ---- steps ----------------------------------------------------------------------------------

    @property
    def working_room(self) -> int:
        """Working rows that nobody has."""
        return self.limits.max_working_rows - self.working_rows

    def begin(self, session: Session) -> None:
        """The session's first request, a step, is let in: working rows are its own from now on."""
        step = session.first
        assert isinstance(step, Step)
        step.working_rows = session.batch_size
        self.working_rows += session.batch_size

    def keep(self, step: Step, rows: tuple[int, ...]) -> None:
        """After a piece that was not the last, `step` goes on from `rows`."""
        self.rows.give_back(step.rows)
        step.rows = rows

    def abandon(self, request: Request) -> None:
        """Whatever `request` has computed does not count."""
        if isinstance(request, Step):
            self.keep(request, ())
            self.working_rows -= request.working_rows
            request.working_rows = 0

    # ---- answers --------------------------------------------------------------------------------

    def owe(self, session: Session, request: Request) -> None:
        """One more request has come in. Raises LimitReached."""
        if session.pending and len(session.pending) >= self.limits.max_pending_per_session:
            raise LimitReached(
                f"{len(session.pending)} requests of session {session.id!r} wait already; take "
                "their answers before sending more",
                retry_after_s=0.1,
            )
        self._owe(1, request.nbytes, self.limits.max_pending)

    def owe_frame(self, count: int, nbytes: int) -> None:
        """So many steps have come in by a frame. Raises LimitReached."""
        self._owe(count, nbytes, self.limits.max_pending_in_frames)

    def _owe(self, count: int, nbytes: int, most: int) -> None:
        if self.pending + count > most:
            raise LimitReached(f"{self.pending} requests wait already; try again later")
        if self.pending_bytes + nbytes > max(self.limits.max_pending_bytes, nbytes):
            raise LimitReached(
                f"the requests that wait already carry {self.pending_bytes} bytes; try again later"
            )
        self.pending += count
        self.pending_bytes += nbytes

    def answer(self, request: Request, result: Result, count: int = 1) -> None:
        """`request`, which counts as `count`, is over, one way or the other."""
        self.abandon(request)
        self.pending -= count
        self.pending_bytes -= request.nbytes
        self._answers.append((request, result))

    @property
    def has_answers(self) -> bool:
        return bool(self._answers)

    def take_answers(self) -> list[tuple[Request, Result]]:
        answers, self._answers = self._answers, []
        return answers

    def __repr__(self) -> str:
        return (
            f"<Ledger reserved={self.reserved_rows} working={self.working_rows} "
            f"pending={self.pending} {self.rows!r}>"
        )
