"""Everything of a group but the input and output: shared by both clients.

Frames are numbered twice: on the stream, which tells whose answer one is, and session by session,
so that the server runs a step once however often it is sent. A stream that breaks is replaced: its
sessions are taken up again, and what had no answer is sent anew as it was.

Numbers of steps are given out when a frame is sent (`_sent`) and count when its answer has come
(`_counts`). With nothing under way both are alike; so a step that was given up has its number back,
and the same input sent again is the same step. Where the server turns out to count otherwise
(`_astray`), its counts hold from the next stream on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from rnnserve._facts import Phase
from rnnserve._frames import NUMBER, STEP, FrameCodec, positions, read_steps
from rnnserve._group_start import GroupStart
from rnnserve._steps import stream_error
from rnnserve.errors import DeadlineExceeded, RnnserveError, SessionClosed
from rnnserve.specs import Signature, signature
from rnnserve.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rnnserve._calls import Call
    from rnnserve._codec import Asked, Output
    from rnnserve._frames import Positions, Steps
    from rnnserve.specs import TensorSpec

# The request that opens or takes up the sessions; frames are numbered from 1.
_GREETING = 0
# The number of the first session on the stream; the others follow it.
_FIRST = 1

# Errors that say of a step's number that it has been used; and with these, that the server counts
# otherwise.
_TAKEN = ("StepConflict", "StepForgotten")
_ASTRAY = (*_TAKEN, "StepGap")


class GroupStepFailed(RnnserveError):
    """A step failed for some sessions of a group. The others have moved on.

    `outputs` is what the step would have returned, zeros in the rows of those that failed.
    `errors` holds the error of each of these by its position in the group.
    """

    def __init__(self, outputs: Output, errors: dict[int, RnnserveError], count: int) -> None:
        position, first = next(iter(errors.items()))
        super().__init__(
            f"{len(errors)} of {count} sessions failed; the first, at position {position}: "
            f"{type(first).__name__}: {first}",
            first.code,
            first.details,
            first.kind,
        )
        self.outputs = outputs
        self.errors = errors


@dataclass(slots=True, eq=False)
class UnderWay:
    """A request that was sent, and what became of it."""

    request: pb.StreamRequest
    sessions: Positions | None = None  # None: all
    asked: Asked | None = None  # of a frame
    answer: pb.StreamResponse | None = None
    failure: RnnserveError | None = None  # there will be no answer

    @property
    def done(self) -> bool:
        return self.answer is not None or self.failure is not None


class GroupBase:
    """What both clients' groups know and say."""

    def __init__(
        self, start: GroupStart | tuple[pb.SessionKey, ...], timeout_s: float | None
    ) -> None:
        self._start = start
        self._timeout_s = timeout_s
        self._phase = Phase.NEW
        self._keys: tuple[pb.SessionKey, ...] = () if isinstance(start, GroupStart) else start
        self._count = start.count if isinstance(start, GroupStart) else len(start)
        self._signature: Signature | None = None
        self._idle_ttl_s = 0.0
        self._requests = 0
        self._under_way: dict[int, UnderWay] = {}
        self._lost: dict[int, RnnserveError] = {}  # could not be taken up again
        self._astray = False
        self._numbers = np.arange(_FIRST, _FIRST + self._count).astype(NUMBER)
        self._counts: Steps = np.zeros(self._count, STEP)
        self._sent: Steps = np.zeros(self._count, STEP)

    # What the server said

    def __len__(self) -> int:
        return self._count

    @property
    def keys(self) -> list[tuple[str, str]]:
        """Id and token of every session, by which others can take them up: keep them secret."""
        self._must_be_known()
        return [(key.session_id, key.token) for key in self._keys]

    @property
    def ids(self) -> list[str]:
        self._must_be_known()
        return [key.session_id for key in self._keys]

    @property
    def step_counts(self) -> Steps:
        """Requests of each session committed, `(count,)` uint64, as of the last answers."""
        self._must_be_known()
        return self._counts.copy()

    @property
    def model(self) -> str:
        return self._must_be_known().model

    @property
    def version(self) -> str:
        return self._must_be_known().version

    @property
    def digest(self) -> str:
        """SHA-256 over the model's files, in hexadecimal."""
        return self._must_be_known().digest

    @property
    def idle_ttl_s(self) -> float:
        """Seconds without a request after which the server ends a session."""
        self._must_be_known()
        return self._idle_ttl_s

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._must_be_known().inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._must_be_known().outputs

    @property
    def states_spec(self) -> tuple[TensorSpec, ...]:
        return self._must_be_known().states

    @property
    def constants_spec(self) -> tuple[TensorSpec, ...]:
        """What was given once, when the sessions were opened."""
        return self._must_be_known().constants

    @property
    def closed(self) -> bool:
        """Whether this object has closed the sessions."""
        return self._phase is Phase.CLOSED

    def __repr__(self) -> str:
        name = type(self).__name__
        if self._signature is None:
            return f"<{name} of {self._count} sessions, {self._phase.value}>"
        return (
            f"<{name} of {self._count} sessions of {self.model!r} version {self.version}, "
            f"steps {self._counts.min()} to {self._counts.max()}, {self._phase.value}>"
        )

    # The beginning of a stream

    @property
    def _describe_call(self) -> Call[None] | None:
        """What must be asked before all else."""
        return self._start.begins.describe_call if isinstance(self._start, GroupStart) else None

    def _greeting(self) -> pb.StreamRequest:
        """The first message of every stream."""
        message = pb.StreamRequest(request_id=_GREETING, session=_FIRST)
        if self._keys:
            message.resume_many.sessions.extend(self._keys)
        else:
            assert isinstance(self._start, GroupStart)
            message.open_many.CopyFrom(self._start.request())
        return message

    def _greeted(self, answer: pb.StreamResponse) -> None:
        if answer.HasField("error"):
            raise stream_error(answer)
        if answer.HasField("open_many"):
            self._keys = tuple(answer.open_many.sessions)
            self._opened = answer.open_many.opened
        else:
            self._resumed(answer.resume_many)
        self._phase = Phase.OPEN

    def _resumed(self, answer: pb.ResumeManyResponse) -> None:
        self._lost = {}
        errors = self._errors(answer.errors, None)
        if self._phase is Phase.NEW:
            if errors:
                raise self._not_resumed(errors)
            self._opened = answer.opened
        if self._phase is Phase.NEW or self._must_ask:
            steps = read_steps(answer.steps, self._count)
            known = np.ones(self._count, np.bool_)
            known[list(errors)] = False
            self._counts[known] = steps[known]
            self._settle()
            self._astray = False
        self._lost = errors

    def _not_resumed(self, errors: dict[int, RnnserveError]) -> RnnserveError:
        position, first = next(iter(errors.items()))
        return type(first)(
            f"{len(errors)} of {self._count} sessions cannot be resumed; the first, at position "
            f"{position}: {first}",
            first.code,
            first.details,
            first.kind,
        )

    def _read_opened(self) -> None:
        """What the sessions have in common; once, after the first greeting."""
        self._signature = signature(self._opened)
        self._codec = FrameCodec(self._signature)
        self._idle_ttl_s = self._opened.idle_ttl_s

    # Requests and answers

    def _frame(
        self, x: object, named: Mapping[str, object], sessions: object, return_sequences: bool
    ) -> UnderWay:
        """The next frame, now under way; ValueError or TypeError leave all as it was."""
        self._must_be_open()
        chosen = None if sessions is None else positions(sessions, self._count)
        where = slice(None) if chosen is None else chosen
        numbers, steps = self._numbers[where], self._sent[where] + STEP.type(1)
        message = self._next_request()
        asked = self._codec.put(message.frame, len(numbers), x, named, return_sequences)
        message.frame.sessions = numbers.tobytes()
        message.frame.steps = steps.tobytes()
        self._sent[where] = steps
        return self._put_under_way(UnderWay(message, chosen, asked))

    @property
    def _must_ask(self) -> bool:
        """Whether a new stream must say how far the sessions are before the next frame is sent."""
        return self._astray and not self._under_way

    def _closing(self) -> UnderWay:
        message = self._next_request()
        message.close_many.sessions = self._numbers.tobytes()
        return self._put_under_way(UnderWay(message))

    def _next_request(self) -> pb.StreamRequest:
        self._requests += 1
        return pb.StreamRequest(request_id=self._requests)

    def _put_under_way(self, sent: UnderWay) -> UnderWay:
        self._under_way[sent.request.request_id] = sent
        return sent

    def _receive(self, answer: pb.StreamResponse) -> None:
        sent = self._under_way.pop(answer.request_id, None)
        if sent is None:
            raise RnnserveError(f"the server answered request {answer.request_id}, which is none")
        sent.answer = answer
        if answer.HasField("frame"):
            self._count_steps(sent, answer.frame)
        self._settle()

    def _count_steps(self, sent: UnderWay, answer: pb.FrameResponse) -> None:
        where = slice(None) if sent.sessions is None else sent.sessions
        steps = read_steps(answer.steps, len(self._counts[where]))
        if answer.errors:
            steps = steps.copy()
            asked = np.frombuffer(sent.request.frame.steps, STEP)
            for error in answer.errors:
                taken = error.error.kind in _TAKEN
                self._astray |= error.error.kind in _ASTRAY
                steps[error.position] = asked[error.position] if taken else 0
        self._counts[where] = np.maximum(self._counts[where], steps)

    def _fail(self, failure: RnnserveError) -> None:
        """Nothing that is under way will be answered."""
        for sent in self._under_way.values():
            sent.failure = failure
        self._under_way.clear()
        self._settle()

    def _settle(self) -> None:
        if not self._under_way:
            self._sent[:] = self._counts

    def _output(self, sent: UnderWay) -> Output:
        """What a frame's answer holds; raises its errors."""
        if sent.failure is not None:
            raise sent.failure
        assert sent.answer is not None
        assert sent.asked is not None
        if sent.answer.HasField("error"):
            raise stream_error(sent.answer)
        answer = sent.answer.frame
        count = self._count if sent.sessions is None else len(sent.sessions)
        outputs = self._codec.read(answer, count, sent.asked)
        if answer.errors:
            raise GroupStepFailed(outputs, self._errors(answer.errors, sent.sessions), count)
        return outputs

    def _errors(
        self, messages: Iterable[pb.FrameError], sessions: Positions | None
    ) -> dict[int, RnnserveError]:
        """By position in the group. Of a session that could not be taken up again: why not."""
        errors = {}
        for message in messages:
            within = message.position
            position = within if sessions is None else int(sessions[within])
            errors[position] = self._lost.get(position) or stream_error(
                cast("pb.StreamResponse", message)
            )
        return errors

    # Phases

    @property
    def _must_close(self) -> bool:
        return self._phase is Phase.OPEN

    def _mark_closed(self) -> None:
        self._phase = Phase.CLOSED

    def _must_be_new(self) -> None:
        if self._phase is not Phase.NEW:
            raise RuntimeError(f"{self!r} can be opened only once")

    def _must_be_open(self) -> None:
        if self._phase is Phase.CLOSED:
            raise SessionClosed(f"this client has closed {self!r}")
        self._must_be_known()

    def _must_be_known(self) -> Signature:
        if self._signature is None:
            raise RuntimeError("the group is not open: enter it with `with`, or call open()")
        return self._signature


def late(target: str, timeout_s: float | None) -> DeadlineExceeded:
    within = "" if timeout_s is None else f" within {timeout_s:g} s"
    return DeadlineExceeded(f"no answer from {target}{within}")


def given_up(reason: BaseException) -> RnnserveError:
    """What is under way when a call fails for `reason` fails with this."""
    if isinstance(reason, RnnserveError):
        return reason
    return RnnserveError(f"another call of the group was interrupted: {type(reason).__name__}")
