"""The steps of one session on one stream: numbers them, keeps them until they are answered, puts
the answers in order.

No input or output: the clients carry the messages. A stream that breaks is started again: the
session is resumed, what has no answer is sent once more under the same numbers.

A step that the server refuses may be answered before earlier ones have run, so answers can
overtake each other. Those behind a refused one lie ahead of the session's count, and are refused
for that (`StepGap`): that is no answer of their own, and they are sent again if the stream is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnserve._statuses import from_status, hint
from rnnserve.errors import RnnserveError
from rnnserve.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from rnnserve._codec import Asked, Codec, Output
    from rnnserve._numbers import Numbers

# The session's number on its stream, of which it is the only one.
_SESSION = 1
_ASTRAY = ("StepConflict", "StepForgotten", "StepGap")


class Steps:
    """Requests out, answers in, outputs in the order of the requests. Positions count from 1.

    One thread may write (`resume`, `put`, `after`) while another reads (`receive`, `ready`, `pop`).
    """

    def __init__(
        self, key: pb.SessionKey, codec: Codec, return_sequences: bool, numbers: Numbers
    ) -> None:
        self._key = key
        self._codec = codec
        self._return_sequences = return_sequences
        self._numbers = numbers
        self._asked: dict[int, Asked] = {}
        # What has no answer of its own, with its number.
        self._kept: dict[int, tuple[int, pb.StreamRequest]] = {}
        self._answers: dict[int, pb.StreamResponse] = {}
        self._gaps = 0  # how many of the answers are StepGap
        self._sent = 0
        self._in_a_row = 0  # the last position up to which all are answered
        self._popped = 0
        # Number and kind of the first that was refused for its own sake.
        self._failed: tuple[int, str] | None = None
        self._resumed = False
        self._complete = False
        self._refusal: RnnserveError | None = None
        self.received = 0  # messages, those to `resume` included

    @property
    def unanswered(self) -> int:
        """Steps whose answer has not come."""
        return len(self._kept) - self._gaps

    @property
    def answered(self) -> int:
        """Steps whose own answer has come."""
        return self._sent - len(self._kept)

    @property
    def awaited(self) -> bool:
        """Whether there is anything that the server must answer."""
        return self.unanswered > 0 or not self._resumed

    @property
    def failed(self) -> bool:
        """A step was refused: those behind it do not run."""
        return self._failed is not None

    @property
    def cautious(self) -> bool:
        """The next step must wait until those before are answered."""
        return self._numbers.cautious and self.unanswered > 0

    def restart(self) -> None:
        """A stream begins: `resume` comes first, then what `after` has."""
        self._resumed = False
        self._gaps = 0
        for position in self._kept:
            self._answers.pop(position, None)

    def resume(self) -> pb.StreamRequest:
        """The stream's first message."""
        return pb.StreamRequest(request_id=0, session=_SESSION, resume=self._key)

    def put(self, x: object) -> tuple[int, pb.StreamRequest]:
        """The next step and its position; ValueError or TypeError leave everything as it was."""
        position = self._sent + 1
        message = pb.StreamRequest(request_id=position, session=_SESSION)
        request = message.step
        asked = self._codec.put_step(request, x, {}, self._return_sequences, False)
        self._asked[position] = asked
        self._kept[position] = self._numbers.take(request), message
        self._sent = position
        return position, message

    def after(self, position: int) -> tuple[int, pb.StreamRequest] | None:
        """What is kept behind `position`, the first of it."""
        for later in range(position + 1, self._sent + 1):
            if (kept := self._kept.get(later)) is not None:
                return later, kept[1]
        return None

    def end(self) -> None:
        """There are no more items."""
        self._complete = True

    @property
    def ended(self) -> bool:
        return self._complete

    def receive(self, answer: pb.StreamResponse) -> None:
        self.received += 1
        position = answer.request_id
        kept = self._kept.get(position)
        if kept is None:
            if position == 0:
                self._receive_resumed(answer)
            return
        self._answers[position] = answer
        number = kept[0]
        if answer.HasField("step"):
            del self._kept[position]
            self._count(position, number, answer.step.step)
        elif answer.error.kind == "StepGap":
            self._gaps += 1
        else:
            del self._kept[position]
            if self._failed is None or number < self._failed[0]:
                self._failed = number, answer.error.kind

    def _receive_resumed(self, answer: pb.StreamResponse) -> None:
        self._resumed = True
        if answer.HasField("error"):
            self._refusal = stream_error(answer)
        else:
            self._numbers.heard(answer.open.step)

    def _count(self, position: int, number: int, step: int) -> None:
        row = self._in_a_row
        if position != row + 1:
            self._numbers.answered(number, step, up_to=0)
            return
        while row < self._sent and row + 1 not in self._kept:
            row += 1
        self._in_a_row = row
        self._numbers.answered(number, step, up_to=number)

    @property
    def ready(self) -> bool:
        """Whether `pop` has something."""
        return self._refusal is not None or self._popped + 1 in self._answers

    def pop(self) -> Output:
        """The output of the oldest step that was not popped yet, or its error."""
        if self._refusal is not None:
            raise self._refusal
        self._popped += 1
        answer = self._answers.pop(self._popped)
        asked = self._asked.pop(self._popped)
        if answer.HasField("error"):
            raise stream_error(answer)
        return self._codec.read_step(answer.step, asked)

    def check_complete(self) -> None:
        """Raises where the server has ended the stream before its time."""
        if self.unanswered or not self._complete:
            raise RnnserveError(
                f"the server ended the stream, with {self.unanswered} steps unanswered"
            )

    def settle(self) -> None:
        """The stream is over: numbers that were not used up go back."""
        open_ends = [(number, "") for number, _ in self._kept.values()]
        if self._failed is not None:
            open_ends.append(self._failed)
        if not open_ends:
            return
        number, kind = min(open_ends)
        self._numbers.rewind(number, doubtful=self.unanswered > 0)
        refused_first = kind in _ASTRAY or (not kind and self._gaps == len(self._kept))
        self._numbers.astray |= refused_first


def stream_error(answer: pb.StreamResponse) -> RnnserveError:
    """What a unary call would have raised."""
    said = answer.error
    error = from_status(said.code, said.kind, said.message)
    hint(error, said.retry_after_s, said.expected_step)
    return error
