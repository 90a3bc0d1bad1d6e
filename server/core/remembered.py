"""Answers that are kept for whoever asks for a step again because the answer was lost.

Only steps that say which one they are can be asked for again. Of each session the last few answers
are kept until the client says that it has them; all together they take a bounded number of bytes,
the oldest are forgotten first. (The answers to a frame are one record for all of its sessions:
`server.core.records`.)
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from server.core.requests import Stepped
from server.errors import RequestError, StepConflict, StepForgotten, StepGap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from server.core.records import Records
    from server.core.requests import Arrays, Step
    from server.core.session import Session

MAX_PER_SESSION = 64  # more than a client has under way
OVERHEAD = 600  # bytes of an answer beside its arrays, roughly


class Kept(Protocol):
    nbytes: int

    def drop(self) -> None:
        """Let go of what takes the bytes."""


class Shelf:
    """Everything that is remembered for the sessions of one model, in at most `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._oldest_first: deque[Kept] = deque()
        self._dropped = 0  # of those in the queue

    def put(self, kept: Kept) -> None:
        self._oldest_first.append(kept)
        self.nbytes += kept.nbytes
        while self.nbytes > self.max_bytes:
            oldest = self._oldest_first.popleft()
            if oldest.nbytes:
                self._let_go(oldest)
            else:
                self._dropped -= 1
        if self._dropped > 1000 + len(self._oldest_first) // 2:
            self._oldest_first = deque(each for each in self._oldest_first if each.nbytes)
            self._dropped = 0

    def drop(self, kept: Kept) -> None:
        """Before its time comes."""
        if kept.nbytes:
            self._let_go(kept)
            self._dropped += 1

    def _let_go(self, kept: Kept) -> None:
        self.nbytes -= kept.nbytes
        kept.drop()
        kept.nbytes = 0


class Answer:
    """The answer to one step of one session; None once it is forgotten."""

    __slots__ = ("fingerprint", "index", "nbytes", "session", "stepped")

    def __init__(self, session: Session, step: Step, stepped: Stepped) -> None:
        self.session: Session | None = session
        self.index = step.index
        self.fingerprint = fingerprint(step)
        outputs, states = _own(stepped.outputs), stepped.states and _own(stepped.states)
        self.stepped: Stepped | None = Stepped(outputs, stepped.step, states)
        self.nbytes = OVERHEAD + _nbytes(outputs) + _nbytes(states or {})

    def drop(self) -> None:
        session, self.session, self.stepped = self.session, None, None
        assert session is not None
        assert session.answers is not None, "dropped twice"
        session.answers.remove(self)

    def again(self, step: Step) -> Stepped | RequestError:
        """The answer for somebody who asks for the step again."""
        if self.stepped is None:
            return forgotten(step.index)
        if self.fingerprint != fingerprint(step):
            return conflict(step.index)
        if step.return_state and self.stepped.states is None:
            return forgotten(step.index)
        return self.stepped


class Remembered:
    """The answers to numbered steps of the sessions of one model."""

    def __init__(self, shelf: Shelf, records: Records) -> None:
        self._shelf = shelf
        self._records = records

    def keep(self, session: Session, step: Step, stepped: Stepped) -> None:
        answer = Answer(session, step, stepped)
        if session.answers is None:
            session.answers = []
        elif len(session.answers) >= MAX_PER_SESSION:
            self._shelf.drop(session.answers[0])
        session.answers.append(answer)
        self._shelf.put(answer)

    def acknowledge(self, session: Session, index: int) -> None:
        """The client has the answers up to that step's."""
        while session.answers and session.answers[0].index <= index:
            self._shelf.drop(session.answers[0])
        if not session.answers:
            session.answers = None

    def forget(self, session: Session) -> None:
        """Nobody will ask for the session's steps again."""
        while session.answers:
            self._shelf.drop(session.answers[0])
        session.answers = None
        if session.table.record_[session.slot]:
            session.table.record_[session.slot] = 0

    def oldest(self, session: Session) -> int:
        """The first step of the session whose answer is remembered; 0 if there is none."""
        single = [answer.index for answer in session.answers or ()]
        framed = self._records.oldest(session.slot)
        return min(single + [framed] * (framed > 0), default=0)

    def find(self, session: Session, step: Step) -> Stepped | RequestError | None:
        """What to answer to a numbered step: what was answered before, or why it cannot run; None
        if it is the next one, and has to.
        """
        next_index = session.step + 1
        if step.index == next_index:
            return None
        if step.index > next_index:
            return gap(step.index, next_index)
        return (
            self.find_single(session, step)
            or self._records.find_one(session.slot, step)
            or forgotten(step.index)
        )

    def find_single(self, session: Session, step: Step) -> Stepped | RequestError | None:
        """The same, of a step that was answered outside of frames; None if it is not known."""
        for answer in session.answers or ():
            if answer.index == step.index:
                return answer.again(step)
        return None


def fingerprint(step: Step) -> int:
    """Tells two steps of one number apart, unless by a chance of one in 2⁶⁴."""
    inputs = [(array.shape, array.tobytes()) for _, array in sorted(step.inputs.items())]
    return hash((step.begins_with, *inputs))


def gap(index: int, expected: int) -> StepGap:
    return StepGap(
        f"step {index} is not the next one: expected step {expected}; send those before it first",
        expected,
    )


def forgotten(index: int) -> StepForgotten:
    return StepForgotten(
        f"step {index} was committed before, and its answer is not remembered any more; go on with "
        "the next step"
    )


def conflict(index: int) -> StepConflict:
    return StepConflict(
        f"step {index} was committed before with other inputs: two clients seem to use one session"
    )


def _own(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Copies: what comes from a batch is a view of everybody's."""
    return {name: np.array(array) for name, array in arrays.items()}


def _nbytes(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays.values())
