"""What random clients ask for, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from server.core.requests import Stepped

if TYPE_CHECKING:
    from server.core.frame import Frame
    from server.core.requests import Request
    from server.core.session import Session
    from tests.server.core.reference import Client

    Core = Any  # of driven.py


@dataclass(eq=False)
class Outcome:
    """What a step gives, and what is remembered of it."""

    values: list[int]
    step: int
    y: list[list[int]]
    states: dict[str, list[int]]
    with_states: bool
    in_frame: bool
    acknowledged: bool = False


@dataclass(eq=False)
class Asked:
    """One thing that a session was asked for: a `request` of its own, or a step at `position` of a
    `frame`, which is a request of its own as well where the session was busy.
    """

    kind: str
    request: Request | None = None
    frame: Frame | None = None
    position: int = 0
    values: list[int] = field(default_factory=list)
    value: int | None = None  # to write; None: reset
    target: Client | None = None

    # what the engine did
    ran: bool = False  # the run that finishes it has succeeded
    failed: bool = False  # its own run has failed
    unread: bool = False  # its states could not be read

    outcome: Outcome | None = None

    @property
    def index(self) -> int:
        """Of a numbered step."""
        if self.frame is not None:
            return int(self.frame.indices[self.position])
        return self.request.index if self.kind == "step" else 0

    @property
    def return_state(self) -> bool:
        return getattr(self.request, "return_state", False)

    @property
    def cancelled(self) -> bool:
        requests = (self.request, self.frame)
        return any(request is not None and request.cancelled for request in requests)

    def waits(self, session: Session) -> bool:
        if self.request is not None:
            return self.request in (session.pending or ())
        assert self.frame is not None
        return self.position not in self.frame.errors and not self.frame.steps[self.position]

    def result(self, core: Core) -> Any:
        """None where nobody waits for it."""
        if self.request is not None:
            (result,) = core.answers.get(self.request) or [None]
            return result
        frame, place = self.frame, slice(self.position, self.position + 1)
        assert frame is not None
        outputs = {name: array[place] for name, array in frame.outputs.items()}
        return frame.errors.get(self.position) or Stepped(outputs, int(frame.steps[self.position]))
