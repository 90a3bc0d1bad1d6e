"""The sessions that one stream speaks of, by the client's numbers for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from server.errors import InvalidRequest
from server.serving import home_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from server.core.session import Session
    from server.serving import ServedModel, Serving

MAX_IN_FRAMES = 2**22  # numbers below this can stand in frames: their columns are arrays
NO_MODEL = 0


class Found(NamedTuple):
    """Sessions of one model: their slots in its table; `gone` is true where there is none."""

    model: ServedModel
    slots: NDArray[np.int64]
    gone: NDArray[np.bool_]


class Handles:
    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._sessions: dict[int, Session] = {}
        self._models: list[ServedModel] = []
        # By number: the place in `_models`, from 1, the slot, and its generation at that time. The
        # system commits pages of zeros when they are first written.
        self._columns = np.zeros((3, 0), np.int64)

    def put(self, number: int, session: Session) -> None:
        self._sessions[number] = session
        if number < MAX_IN_FRAMES and not session.closed:
            if number >= self._columns.shape[1]:
                size = min(MAX_IN_FRAMES, max(number + 1, 2 * self._columns.shape[1], 64))
                wider = np.zeros((3, size), np.int64)
                wider[:, : self._columns.shape[1]] = self._columns
                self._columns = wider
            slot = session.slot
            generation = int(session.table.generation[slot])
            self._columns[:, number] = self._place(home_of(session)), slot, generation

    def __contains__(self, number: int) -> bool:
        """Whether the number was given, to a session that may have ended."""
        return number in self._sessions

    def get(self, number: int) -> Session:
        """Raises InvalidRequest for a number that was not given, and what finding a session by its
        key raises where it has ended without this stream's doing.
        """
        try:
            session = self._sessions[number]
        except KeyError:
            raise InvalidRequest(
                f"this stream has no session {number}; open or resume one first"
            ) from None
        if session.closed:  # not by this stream: by expiry, or by another call
            self._serving.sessions.get(session.id, session.token)
        return session

    def must_be_free(self, number: int) -> None:
        """Raises InvalidRequest."""
        known = self._sessions.get(number)
        if known is not None and not known.ending:
            raise InvalidRequest(
                f"this stream has a session {number} already; close it or choose another number"
            )

    def drop(self, number: int, session: Session) -> None:
        """The session has ended: its number may be given again."""
        if self._sessions.get(number) is session:
            del self._sessions[number]
            if number < MAX_IN_FRAMES:
                self._columns[:, number] = NO_MODEL

    def find(self, numbers: NDArray[Any]) -> Found:
        """All of them, without a look at any. Raises InvalidRequest where there is none at all, or
        they are of different models.
        """
        columns = np.zeros((3, len(numbers)), np.int64)
        known = numbers < self._columns.shape[1]
        columns[:, known] = self._columns[:, numbers[known]]
        places, slots, generations = columns
        there = places != NO_MODEL
        if not there.any():
            raise InvalidRequest("this stream has none of the frame's sessions; open them first")
        place = places[there][0]
        if (places[there] != place).any():
            raise InvalidRequest("all sessions of a frame must be of one model")
        model = self._models[place - 1]
        current = model.table.generation[np.where(there, slots, 0)]
        return Found(model, slots, ~there | (current != generations))

    def _place(self, model: ServedModel) -> int:
        if model not in self._models:
            self._models.append(model)
        return self._models.index(model) + 1
