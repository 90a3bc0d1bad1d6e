"""One session: a client's state, and what the client still wants done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from server.core.phases import PHASES, Event, IllegalTransition, Phase, after
from server.core.rows import INITIAL_ROW
from server.core.table import CLOSED_SLOT

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Hashable

    from server.core.remembered import Answer
    from server.core.requests import Arrays, Request
    from server.core.table import Table


class Home(Protocol):
    """Whoever runs a session's model: all that is done to the session is done through it."""

    @property
    def table(self) -> Table:
        """Where its sessions stand."""

    def admit(self, session: Session) -> None:
        """Make room for a new session. Raises LimitReached."""

    def submit(self, session: Session, request: Request) -> None:
        """Queue a request. Raises SessionClosed or LimitReached, and then nothing has changed."""

    def cancel(self, session: Session, request: Request) -> None:
        """Nobody waits for `request` any more."""

    def close(self, session: Session) -> None:
        """End the session now."""


class Session:
    """State and queue of one session; what changes with each step stands in its home's table.

    `rows` are the arena's rows of its committed state, one for each of its `batch_size` rows, or
    `kept` holds that state, `(batch_size, …)` each, while it is off the device. `step` counts the
    committed steps, and it is `fresh` while there was none since it was opened or reset to the
    initial state. While it waits, a smaller `ticket` means that it has waited longer. `constants`
    are what a client gave once and for all, `(batch_size, …)` each: whoever writes the session's
    states writes them along. `answers` are those of its last numbered steps, oldest first.

    Raises LimitReached where the table is full.
    """

    __slots__ = (
        "answers",
        "batch_size",
        "constants",
        "home",
        "id",
        "kept",
        "pending",
        "secret",
        "slot",
        "table",
        "ticket",
        "wide_rows",
    )

    def __init__(
        self,
        id: Hashable,
        home: Home,
        *,
        batch_size: int = 1,
        idle_ttl_s: float = float("inf"),
        now_s: float = 0.0,
        token: str = "",
    ) -> None:
        self.id = id
        self.home = home
        self.batch_size = batch_size
        self.secret = token.encode()  # smaller than a str
        self.ticket = 0
        self.constants: Arrays | None = None
        self.kept: Arrays | None = None
        self.answers: list[Answer] | None = None
        self.pending: deque[Request] | None = None  # an empty deque is 600 bytes: made when needed
        self.wide_rows = (INITIAL_ROW,) * batch_size if batch_size > 1 else None
        self.table = home.table
        self.slot = self.table.take(self, idle_ttl_s, now_s, wide=batch_size > 1)

    # ---- what stands in the table ---------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        phase: int = self.table.phase_[self.slot]
        return PHASES[phase]

    def apply(self, event: Event) -> None:
        """Move to the next phase, or raise `IllegalTransition`."""
        try:
            self.table.phase_[self.slot] = after(self.table.phase_[self.slot], event)
        except IllegalTransition:
            raise IllegalTransition(f"{event.name} in {self!r}") from None

    @property
    def rows(self) -> tuple[int, ...]:
        if self.wide_rows is not None:
            return self.wide_rows
        return (self.table.row_[self.slot],)

    @rows.setter
    def rows(self, rows: tuple[int, ...]) -> None:
        if self.wide_rows is not None:
            self.wide_rows = rows
        self.table.row_[self.slot] = rows[0]

    @property
    def on_host(self) -> bool:
        return self.kept is not None

    @property
    def step(self) -> int:
        step: int = self.table.step_[self.slot]
        return step

    @step.setter
    def step(self, step: int) -> None:
        self.table.step_[self.slot] = step

    @property
    def fresh(self) -> bool:
        fresh: bool = self.table.fresh_[self.slot]
        return fresh

    @fresh.setter
    def fresh(self, fresh: bool) -> None:
        self.table.fresh_[self.slot] = fresh

    @property
    def last_used_s(self) -> float:
        used_s: float = self.table.used_s_[self.slot]
        return used_s

    @last_used_s.setter
    def last_used_s(self, now_s: float) -> None:
        self.table.used_s_[self.slot] = now_s

    @property
    def idle_ttl_s(self) -> float:
        ttl_s: float = self.table.ttl_s_[self.slot]
        return ttl_s

    @property
    def token(self) -> str:
        """Whoever knows it owns the session."""
        return self.secret.decode()

    # ---- its queue ------------------------------------------------------------------------------

    @property
    def first(self) -> Request:
        """The request whose turn it is."""
        assert self.pending, f"nothing pending in {self!r}"
        return self.pending[0]

    @property
    def closed(self) -> bool:
        return self.phase in (Phase.CLOSED, Phase.CLOSING)

    @property
    def ending(self) -> bool:
        """Closed, or to be closed by the last request that waits."""
        return self.closed or bool(self.pending and self.pending[-1].end)

    def leave_table(self) -> None:
        """It has come to its end, and is closed wherever it is still known."""
        if self.slot != CLOSED_SLOT:
            self.table.release(self.slot)
            self.slot = CLOSED_SLOT

    def __repr__(self) -> str:
        waiting = len(self.pending) if self.pending else 0
        return (
            f"<Session {self.id!r} {self.phase.name} step={self.step} rows={self.rows} "
            f"pending={waiting}>"
        )
