"""One session: a client's state, and what the client still wants done with it.

A session is idle, or waits in a queue, or is being worked on, and does one thing at a time, in the
order in which it was asked. Everything that may happen to it is in `TRANSITIONS`; anything else is
a bug and raises `IllegalTransition`.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

from server.core.rows import INITIAL_ROW

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Hashable

    from server.core.requests import Arrays, Request


class Home(Protocol):
    """Whoever runs a session's model: all that is done to the session is done through it."""

    def admit(self, session: Session) -> None:
        """Make room for a new session. Raises LimitReached."""

    def submit(self, session: Session, request: Request) -> None:
        """Queue a request. Raises SessionClosed or LimitReached, and then nothing has changed."""

    def cancel(self, session: Session, request: Request) -> None:
        """Nobody waits for `request` any more."""

    def close(self, session: Session) -> None:
        """End the session now."""


class _Fast(Enum):
    """Hashed on every transition, which Enum does in Python."""

    __hash__ = object.__hash__


class Phase(_Fast):
    IDLE = auto()  # nothing to do
    QUEUED = auto()  # its first request waits for the engine
    RUNNING = auto()  # the engine works on its first request
    CLOSING = auto()  # closed while running: its rows are freed when the engine is done
    CLOSED = auto()


class Event(_Fast):
    SUBMIT = auto()  # a request arrives at an idle session
    WITHDRAW = auto()  # its last waiting request is cancelled
    DISPATCH = auto()  # the engine takes its first request
    COMPLETE = auto()  # the engine is done with it
    CLOSE = auto()


TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.IDLE, Event.SUBMIT): Phase.QUEUED,
    (Phase.IDLE, Event.CLOSE): Phase.CLOSED,
    (Phase.QUEUED, Event.WITHDRAW): Phase.IDLE,
    (Phase.QUEUED, Event.DISPATCH): Phase.RUNNING,
    (Phase.QUEUED, Event.CLOSE): Phase.CLOSED,
    (Phase.RUNNING, Event.COMPLETE): Phase.IDLE,
    (Phase.RUNNING, Event.CLOSE): Phase.CLOSING,
    (Phase.CLOSING, Event.COMPLETE): Phase.CLOSED,
}


class IllegalTransition(AssertionError):
    """An event that the session's phase does not allow: a bug in this package."""


class Session:
    """State and queue of one session.

    `rows` are the arena's rows of its committed state, one for each of its `batch_size` rows;
    `step` counts the committed steps, and it is `fresh` while there was none since it was opened or
    reset to the initial state. While it waits, a smaller `ticket` means that it has waited
    longer. `constants` are what a client gave once and for all, `(batch_size, …)` each: whoever
    writes the session's states writes them along.
    """

    __slots__ = (
        "batch_size",
        "constants",
        "fresh",
        "home",
        "id",
        "idle_ttl_s",
        "last_used_s",
        "look_at_s",
        "pending",
        "phase",
        "rows",
        "step",
        "ticket",
        "token",
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
        self.constants: Arrays | None = None
        self.idle_ttl_s = idle_ttl_s
        self.last_used_s = now_s
        self.look_at_s = 0.0  # kept by `Sessions`: when to see whether it has expired
        self.token = token
        self.phase = Phase.IDLE
        self.step = 0
        self.fresh = True
        self.rows: tuple[int, ...] = (INITIAL_ROW,) * batch_size
        self.ticket = 0
        self.pending: deque[Request] | None = None  # an empty deque is 600 bytes: made when needed

    def apply(self, event: Event) -> None:
        """Move to the next phase, or raise `IllegalTransition`."""
        try:
            self.phase = TRANSITIONS[self.phase, event]
        except KeyError:
            raise IllegalTransition(f"{event.name} in {self!r}") from None

    @property
    def first(self) -> Request:
        """The request whose turn it is."""
        assert self.pending, f"nothing pending in {self!r}"
        return self.pending[0]

    @property
    def closed(self) -> bool:
        return self.phase is Phase.CLOSED or self.phase is Phase.CLOSING

    @property
    def ending(self) -> bool:
        """Closed, or to be closed by the last request that waits."""
        return self.closed or (self.pending is not None and self.pending[-1].end)

    @property
    def expires_s(self) -> float:
        """The time at which it ends if nobody uses it before."""
        return self.last_used_s + self.idle_ttl_s

    def __lt__(self, other: Session) -> bool:
        """Whether it is looked at earlier: a heap of sessions takes less memory than of tuples."""
        return self.look_at_s < other.look_at_s

    def __repr__(self) -> str:
        waiting = len(self.pending) if self.pending else 0
        return (
            f"<Session {self.id!r} {self.phase.name} step={self.step} rows={self.rows} "
            f"pending={waiting}>"
        )
