"""Which number the next step of a session has. By its number the server runs a step once, however
often it is sent.

A number is used up when its answer has come. One that was refused is used again; so is one whose
answer was lost, because the step may have been committed all the same: it is in *doubt* then.
Whatever takes such a number next finds out. The same inputs get the lost answer; others are
refused if the step was committed (`StepConflict`), and if it was not, they run in its place.

    1 … acknowledged    answers have come
      … next - 1        under way
    next … doubt        in doubt: sent once, without an answer
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from rnnserve.errors import RnnserveError, StepConflict, StepForgotten, StepGap

if TYPE_CHECKING:
    from rnnserve.v1 import session_pb2 as pb

_ASTRAY = (StepConflict, StepForgotten)


class Numbers:
    """The numbers of one session's steps. Threads may share it."""

    def __init__(self) -> None:
        self.committed = 0  # the highest step that is known to be committed
        self.astray = False  # the server counts otherwise: it must be asked, see `settle`
        self.streaming = False  # a stream has numbers under way
        self._next = 1
        self._acknowledged = 0
        self._done = 0  # the highest whose answer has come
        self._doubt = 0
        # Of one thread more than once: the garbage collector may end a stream that was left.
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return (
            f"<Numbers next {self._next}, acknowledged {self._acknowledged}, doubt {self._doubt}"
            f"{', astray' if self.astray else ''}>"
        )

    def take(self, request: pb.StepRequest) -> int:
        """Gives the request the next number."""
        with self._lock:
            number = self._next
            self._next = number + 1
        request.step = number
        request.acknowledged = self._acknowledged
        return number

    @property
    def cautious(self) -> bool:
        """The latest number taken is in doubt: what follows must wait until it is answered."""
        return self._next <= self._doubt + 1

    def answered(self, number: int, step: int, up_to: int | None = None) -> None:
        """The answer to `number` has come, in a stream with all before `up_to`. `step` is what it
        says of the session's count.
        """
        with self._lock:
            if step > self.committed:
                self.committed = step
            if number > self._done:
                self._done = number
            if up_to is not None:
                if up_to > self._acknowledged:
                    self._acknowledged = up_to
            elif number == self._acknowledged + 1:
                self._acknowledged = number
            if number >= self._next:  # a stream has been given up meanwhile
                self._next = number + 1
                self._acknowledged = number

    def failed(self, number: int, error: BaseException, streaming: bool) -> None:
        """A call with `number` has ended with `error`: the number is free again.

        `streaming`: it was sent while a stream had numbers under way.
        """
        with self._lock:
            if self._next == number + 1:
                self._next = number
            if isinstance(error, _ASTRAY) or (isinstance(error, StepGap) and not streaming):
                self.astray = True
            elif not (isinstance(error, RnnserveError) and error.kind):
                self._doubt = max(self._doubt, number)
            elif self._doubt == number:
                self._doubt = number - 1

    def rewind(self, number: int, doubtful: bool) -> None:
        """A stream has ended before its steps from `number` on were committed; `doubtful`: before
        it was known whether they were.
        """
        with self._lock:
            if doubtful:
                self._doubt = max(self._doubt, self._next - 1)
            self._next = max(number, self._done + 1)
            self._acknowledged = self._next - 1

    @property
    def settled(self) -> int | None:
        """The session's count, None where it is in doubt or steps are under way."""
        with self._lock:
            sure = self._quiet and self._doubt < self._next and not self.astray
            return self._next - 1 if sure else None

    def begin_stream(self) -> None:
        """RuntimeError if there is one: two would have to agree on whose step is next."""
        with self._lock:
            if self.streaming:
                raise RuntimeError(
                    "another stream of this session is under way: take it to its end, or close it"
                )
            self.streaming = True

    def end_stream(self) -> None:
        self.streaming = False

    def heard(self, step: int) -> None:
        """The server has said the session's count beside a step's answer. It is higher than what is
        known where somebody else steps the session, too.
        """
        with self._lock:
            self.committed = max(self.committed, step)
            if step >= self._next > self._doubt and self._quiet:
                self._count_from(step)

    def settle(self, step: int) -> None:
        """The count is `step`, whatever was in doubt."""
        with self._lock:
            self.committed = max(self.committed, step)
            if self._quiet:
                self._count_from(step)

    @property
    def _quiet(self) -> bool:
        return self._acknowledged == self._next - 1  # nothing is under way

    def _count_from(self, step: int) -> None:
        self._next = step + 1
        self._acknowledged = step
        self._doubt = 0
        self.astray = False
