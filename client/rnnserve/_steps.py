"""The steps of one session on one stream: numbers them, puts the answers in order.

No input or output: the clients carry the messages. A step that the server refuses may be answered
before earlier ones have run, so answers can overtake each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnserve.errors import LimitReached, RnnserveError, from_status
from rnnserve.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from rnnserve._codec import Asked, Codec, Output

# The session's number on its stream, of which it is the only one.
_SESSION = 1


class Steps:
    """Requests out, answers in, outputs in the order of the requests.

    One thread may write (`resume`, `request`) while another reads (`receive`, `ready`, `pop`).
    """

    def __init__(
        self,
        key: pb.SessionKey,
        codec: Codec,
        return_sequences: bool,
        on_step: Callable[[pb.StepResponse], None],
    ) -> None:
        self._key = key
        self._codec = codec
        self._return_sequences = return_sequences
        self._on_step = on_step
        self._asked: dict[int, Asked] = {}
        self._answers: dict[int, pb.StreamResponse] = {}
        self._sent = 0
        self._received = 0
        self._popped = 0
        self._complete = False
        self._refusal: RnnserveError | None = None

    @property
    def unanswered(self) -> int:
        """Steps sent whose answer has not come."""
        return self._sent - self._received

    def resume(self) -> pb.StreamRequest:
        """The stream's first message."""
        return pb.StreamRequest(request_id=0, session=_SESSION, resume=self._key)

    def request(self, x: object) -> pb.StreamRequest:
        """The next step; ValueError or TypeError leave everything as it was."""
        number = self._sent + 1
        message = pb.StreamRequest(request_id=number, session=_SESSION)
        asked = self._codec.put_step(message.step, x, {}, self._return_sequences, False)
        self._asked[number] = asked
        self._sent = number
        return message

    def end(self) -> None:
        """There are no more items."""
        self._complete = True

    def receive(self, answer: pb.StreamResponse) -> None:
        if answer.request_id == 0:
            if answer.HasField("error"):
                self._refusal = stream_error(answer)
            return
        self._received += 1
        if answer.HasField("step"):
            self._on_step(answer.step)
        self._answers[answer.request_id] = answer

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


def stream_error(answer: pb.StreamResponse) -> RnnserveError:
    """What a unary call would have raised."""
    message = answer.error
    error = from_status(message.code, message.kind, message.message)
    if isinstance(error, LimitReached) and message.retry_after_s > 0:
        error.retry_after_s = message.retry_after_s
    return error
