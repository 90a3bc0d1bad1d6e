"""Everything of a session but the input and output: shared by both clients.

A method of a session builds a `Call`; the clients only differ in how they make it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from rnnserve._calls import Call
from rnnserve._codec import Codec, Output, States
from rnnserve._steps import Steps, stream_error
from rnnserve.errors import RnnserveError, SessionClosed, SessionExpired, SessionNotFound
from rnnserve.specs import Signature, TensorSpec, signature
from rnnserve.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnnserve._start import Start

# What closing a session may meet and be content with.
ALREADY_GONE = (SessionNotFound, SessionExpired, SessionClosed)


class Phase(Enum):
    NEW = "not open"
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Opened:
    """What is known of a session once the server has answered."""

    key: pb.SessionKey = field(repr=False)  # a secret
    signature: Signature
    batch_size: int
    idle_ttl_s: float


class SessionBase:
    """What both clients' sessions know and say.

    One session holds one state: its steps run one after the other. Threads and tasks may share
    it, but then nobody but the server knows in which order their steps run.
    """

    def __init__(self, start: Start | pb.SessionKey, timeout_s: float | None) -> None:
        self._start = start
        self._timeout_s = timeout_s
        self._phase = Phase.NEW
        self._closing: pb.CloseSessionRequest | None = None  # what ends it, once it is there
        self._opened: Opened | None = None
        self._made_codec: Codec | None = None
        self._step_count = 0

    # What the server said

    @property
    def id(self) -> str:
        """Names the session; with `token` it can be resumed from elsewhere."""
        return self._known.key.session_id

    @property
    def token(self) -> str:
        """Proves that the session is yours: keep it secret."""
        return self._known.key.token

    @property
    def model(self) -> str:
        return self._known.signature.model

    @property
    def version(self) -> str:
        return self._known.signature.version

    @property
    def digest(self) -> str:
        """SHA-256 over the model's files, in hexadecimal."""
        return self._known.signature.digest

    @property
    def batch_size(self) -> int:
        """Rows of the session, fixed for its life."""
        return self._known.batch_size

    @property
    def idle_ttl_s(self) -> float:
        """Seconds without a request after which the server ends the session."""
        return self._known.idle_ttl_s

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._known.signature.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._known.signature.outputs

    @property
    def states_spec(self) -> tuple[TensorSpec, ...]:
        return self._known.signature.states

    @property
    def constants_spec(self) -> tuple[TensorSpec, ...]:
        """What was given once, when the session was opened."""
        return self._known.signature.constants

    @property
    def step_count(self) -> int:
        """Requests committed, as of the last answer."""
        return self._step_count

    @property
    def closed(self) -> bool:
        """Whether this object has closed the session."""
        return self._phase is Phase.CLOSED

    def __repr__(self) -> str:
        name = type(self).__name__
        if self._opened is None:
            return f"<{name} {self._phase.value}>"
        return (
            f"<{name} {self.id!r} of {self.model!r} version {self.version}, "
            f"batch_size {self.batch_size}, step {self._step_count}, {self._phase.value}>"
        )

    # Calls

    def _open_call(self) -> Call[None]:
        assert not isinstance(self._start, pb.SessionKey)
        return Call("OpenSession", self._start.complete(), self._read_opened)

    def _resume_request(self) -> pb.StreamRequest:
        assert isinstance(self._start, pb.SessionKey)
        return pb.StreamRequest(session=1, resume=self._start)

    def _read_resumed(self, answers: list[pb.StreamResponse]) -> None:
        if not answers:
            raise RnnserveError("the server ended the stream without an answer")
        if answers[0].HasField("error"):
            raise stream_error(answers[0])
        self._read_opened(answers[0].open)

    def _steps(self, return_sequences: bool) -> Steps:
        return Steps(self._key, self._codec, return_sequences, self._read_step_count)

    def _step_call(
        self,
        x: object,
        named: Mapping[str, object],
        return_sequences: bool,
        return_state: bool,
    ) -> Call[Output]:
        request = pb.StepRequest(session=self._key)
        codec = self._codec
        asked = codec.put_step(request, x, named, return_sequences, return_state)

        def read(answer: pb.StepResponse) -> Output:
            self._step_count = answer.step
            return codec.read_step(answer, asked)

        return Call("Step", request, read)

    def _reset_call(self, states: Mapping[str, object] | None) -> Call[None]:
        tensors = None if states is None else self._codec.tensors_of_states(states)
        request = pb.ResetStatesRequest(session=self._key, states=tensors)
        return Call("ResetStates", request, self._read_step_count)

    def _set_call(self, states: Mapping[str, object]) -> Call[None]:
        tensors = self._codec.tensors_of_states(states)
        request = pb.SetStatesRequest(session=self._key, states=tensors)
        return Call("SetStates", request, self._read_step_count)

    def _get_call(self) -> Call[States]:
        def read(answer: pb.GetStatesResponse) -> States:
            self._read_step_count(answer)
            return self._codec.read_states(answer.states)

        return Call("GetStates", pb.GetStatesRequest(session=self._key), read)

    def _close_call(self) -> Call[None]:
        return Call("CloseSession", self._closing, lambda answer: None)

    # Phases

    def _must_be_new(self) -> None:
        if self._phase is not Phase.NEW:
            raise RuntimeError(f"{self!r} can be opened only once")

    @property
    def _must_close(self) -> bool:
        return self._phase is Phase.OPEN

    def _mark_closed(self) -> None:
        self._phase = Phase.CLOSED

    def _read_opened(self, answer: pb.OpenSessionResponse) -> None:
        # First of all: where the rest cannot be read, the session must be closed all the same.
        self._closing = pb.CloseSessionRequest(session=answer.session)
        self._phase = Phase.OPEN
        opened = Opened(
            key=answer.session,
            signature=signature(answer),
            batch_size=answer.batch_size,
            idle_ttl_s=answer.idle_ttl_s,
        )
        self._made_codec = Codec(opened.signature, opened.batch_size)
        self._opened = opened
        self._step_count = answer.step

    def _read_step_count(self, answer: Any) -> None:
        self._step_count = answer.step

    @property
    def _known(self) -> Opened:
        if self._opened is None:
            raise RuntimeError("the session is not open: enter it with `with`, or call open()")
        return self._opened

    @property
    def _key(self) -> pb.SessionKey:
        """The key, if requests can be made with it now."""
        if self._phase is Phase.CLOSED:
            raise SessionClosed(f"this client has closed {self!r}")
        return self._known.key

    @property
    def _codec(self) -> Codec:
        if self._made_codec is None:
            raise RuntimeError("the session is not open: enter it with `with`, or call open()")
        return self._made_codec
