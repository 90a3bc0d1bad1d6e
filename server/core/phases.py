"""The life of a session, as one table: everything that may happen to it, and where that leads.

A session is idle, or waits in a queue, or is being worked on, and does one thing at a time, in the
order in which it was asked. Anything that is not in `TRANSITIONS` is a bug and raises
`IllegalTransition`. The same table serves one session at a time and a column of them.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Phase(IntEnum):
    CLOSED = 0
    IDLE = 1  # nothing to do
    QUEUED = 2  # its first request waits for the engine
    RUNNING = 3  # the engine works on its first request
    FRAMED = 4  # a step of it stands in a frame that waits or runs; its own requests wait
    CLOSING = 5  # closed while running or framed: its rows are freed when the engine is done


class Event(IntEnum):
    SUBMIT = 0  # a request arrives at an idle session
    WITHDRAW = 1  # its last waiting request is cancelled
    DISPATCH = 2  # the engine takes its first request
    COMPLETE = 3  # the engine is done with it
    FRAME = 4  # a frame arrives with a step of an idle session
    UNFRAME = 5  # the last frame that it stands in is done
    CLOSE = 6


TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.IDLE, Event.SUBMIT): Phase.QUEUED,
    (Phase.IDLE, Event.FRAME): Phase.FRAMED,
    (Phase.IDLE, Event.CLOSE): Phase.CLOSED,
    (Phase.QUEUED, Event.WITHDRAW): Phase.IDLE,
    (Phase.QUEUED, Event.DISPATCH): Phase.RUNNING,
    (Phase.QUEUED, Event.CLOSE): Phase.CLOSED,
    (Phase.RUNNING, Event.COMPLETE): Phase.IDLE,
    (Phase.RUNNING, Event.CLOSE): Phase.CLOSING,
    (Phase.FRAMED, Event.UNFRAME): Phase.IDLE,
    (Phase.FRAMED, Event.CLOSE): Phase.CLOSING,
    (Phase.CLOSING, Event.COMPLETE): Phase.CLOSED,
    (Phase.CLOSING, Event.UNFRAME): Phase.CLOSED,
}

PHASES = list(Phase)
_ILLEGAL = 255
_AFTER = [[TRANSITIONS.get((phase, event), _ILLEGAL) for event in Event] for phase in Phase]
_COLUMNS = np.array(_AFTER, np.uint8)


class IllegalTransition(AssertionError):
    """An event that the session's phase does not allow: a bug in this package."""


def after(phase: int, event: Event) -> int:
    """The next phase. Raises IllegalTransition."""
    next = _AFTER[phase][event]
    if next == _ILLEGAL:
        raise IllegalTransition(f"{event.name} while {PHASES[phase].name}")
    return next


def after_each(phases: NDArray[np.uint8], event: Event) -> NDArray[np.uint8]:
    """The next phases of many sessions. Raises IllegalTransition."""
    next: NDArray[Any] = _COLUMNS[phases, event]
    if (next == _ILLEGAL).any():
        phase = PHASES[phases[next == _ILLEGAL][0]]
        raise IllegalTransition(f"{event.name} while {phase.name}")
    return next
