"""Everything of a session but the input and output: shared by both clients.

A method of a session builds a `Call`; the clients only differ in how they make it.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from rnnserve._calls import Call, choose_key, idle_ttl
from rnnserve._codec import Asked, Codec, States
from rnnserve._facts import Facts, Opened, Phase
from rnnserve._steps import Steps, stream_error
from rnnserve.errors import RnnserveError, SessionClosed, SessionExpired, SessionNotFound
from rnnserve.specs import SessionInfo, session_info, signature
from rnnserve.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnnserve._start import Beginning

__all__ = ["ALREADY_GONE", "Phase", "SessionBase"]

# What closing a session may meet and be content with.
ALREADY_GONE = (SessionNotFound, SessionExpired, SessionClosed)


class SessionBase(Facts):
    """What both clients' sessions do alike.

    One session holds one state: its steps run one after the other. Threads and tasks may share
    it; each step waits until the one before is over. Where several clients share a session (by
    `resume`), each must be told by `get_states` or `describe` that the others have stepped it.
    """

    def __init__(self, start: Beginning, timeout_s: float | None) -> None:
        super().__init__()
        self._start = start
        self._timeout_s = timeout_s
        self._closing: pb.CloseSessionRequest | None = None  # what ends it, once it is there
        self._made_codec: Codec | None = None

    # Beginning

    def _resume_request(self, key: pb.SessionKey) -> pb.StreamRequest:
        return pb.StreamRequest(session=1, resume=key)

    def _read_resumed(self, answers: list[pb.StreamResponse]) -> None:
        if not answers:
            raise RnnserveError("the server ended the stream without an answer")
        if answers[0].HasField("error"):
            raise stream_error(answers[0])
        self._read_opened(answers[0].open)

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
        self._numbers.settle(answer.step)

    # Steps

    def _step_request(
        self,
        x: object,
        named: Mapping[str, object],
        return_sequences: bool,
        return_state: bool,
    ) -> tuple[pb.StepRequest, Asked]:
        request = pb.StepRequest(session=self._key)
        return request, self._codec.put_step(request, x, named, return_sequences, return_state)

    def _steps(self, return_sequences: bool) -> Steps:
        return Steps(self._key, self._codec, return_sequences, self._numbers)

    # Calls

    def _reset_call(self, states: Mapping[str, object] | None) -> Call[None]:
        tensors = None if states is None else self._codec.tensors_of_states(states)
        request = pb.ResetStatesRequest(session=self._key, states=tensors, order=self._order)
        return Call("ResetStates", request, self._read_settled)

    def _set_call(self, states: Mapping[str, object]) -> Call[None]:
        tensors = self._codec.tensors_of_states(states)
        request = pb.SetStatesRequest(session=self._key, states=tensors, order=self._order)
        return Call("SetStates", request, self._read_settled)

    @property
    def _order(self) -> pb.Order | None:
        """What keeps a copy of the request that is late from being done after later steps; None
        while it is not known how many steps come before it.
        """
        if self._numbers.settled is None:
            return None
        return pb.Order(id=secrets.randbits(64) or 1, after_step=self._numbers.settled)

    def _get_call(self) -> Call[States]:
        def read(answer: pb.GetStatesResponse) -> States:
            self._numbers.heard(answer.step)
            return self._codec.read_states(answer.states)

        return Call("GetStates", pb.GetStatesRequest(session=self._key), read)

    def _count_call(self) -> Call[None]:
        """Asks for the session's count after all that was sent before, and goes by it."""
        request = pb.GetStatesRequest(session=self._key)
        return Call("GetStates", request, self._read_settled)

    def _fork_call(self, idle_ttl_s: float | None) -> Call[pb.OpenSessionResponse]:
        request = pb.ForkRequest(session=self._key, idle_ttl_s=idle_ttl(idle_ttl_s))
        choose_key(request)
        return Call("Fork", request, lambda answer: answer)

    def _snapshot_call(self) -> Call[bytes]:
        def read(answer: pb.SnapshotResponse) -> bytes:
            self._numbers.heard(answer.step)
            return answer.snapshot

        return Call("Snapshot", pb.SnapshotRequest(session=self._key), read)

    def _keep_alive_call(self) -> Call[None]:
        request = pb.KeepAliveRequest(session=self._key)
        return Call("KeepAlive", request, lambda answer: self._numbers.heard(answer.step))

    def _describe_call(self) -> Call[SessionInfo]:
        def read(answer: pb.SessionInfo) -> SessionInfo:
            self._numbers.heard(answer.step)
            return session_info(answer)

        return Call("DescribeSession", pb.DescribeSessionRequest(session=self._key), read)

    def _close_call(self) -> Call[None]:
        return Call("CloseSession", self._closing, lambda answer: None)

    def _read_settled(self, answer: Any) -> None:
        self._numbers.settle(answer.step)

    # Phases

    def _must_be_new(self) -> None:
        if self._phase is not Phase.NEW:
            raise RuntimeError(f"{self!r} can be opened only once")

    @property
    def _is_open(self) -> bool:
        return self._phase is Phase.OPEN

    def _mark_closed(self) -> None:
        self._phase = Phase.CLOSED

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
