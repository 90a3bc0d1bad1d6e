"""How a session begins, as its maker wants it: with what the server must be told, and what can only
be said once the model's signature is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from rnnserve._calls import Call, choose_key, idle_ttl
from rnnserve._codec import put_constants
from rnnserve._session import SessionBase
from rnnserve.specs import Signature, signature
from rnnserve.v1 import session_pb2 as pb

# A session, or with it a dict from the new session's states to that one's.
StatesOf: TypeAlias = "SessionBase | tuple[SessionBase, Mapping[str, str]]"


@dataclass(frozen=True, slots=True)
class Start:
    """`source` is the session whose states the new one begins with, `states` says which of those
    becomes which. Constants wait here for their dtypes.
    """

    request: pb.OpenSessionRequest
    initial_state: Mapping[str, object] | None
    constants: object  # a dict from names to arrays, or the array of the only one
    source: SessionBase | None
    states: Mapping[str, str]

    @property
    def describe_call(self) -> Call[None] | None:
        """What must be asked first: constants must have the model's dtypes and shapes."""
        if self.constants is None:
            return None
        request = pb.DescribeModelRequest(
            model_name=self.request.model_name, model_version=self.request.model_version
        )
        return Call("DescribeModel", request, lambda answer: self._put_constants(signature(answer)))

    def complete(self) -> pb.OpenSessionRequest:
        """The request; RuntimeError or SessionClosed if the source is not open."""
        if self.source is not None:
            self.request.states_of.CopyFrom(
                pb.StatesOf(session=self.source._key, states=self.states)
            )
        return self.request

    def _put_constants(self, model: Signature) -> None:
        batch_size = self.request.batch_size if model.batched else None
        put_constants(self.request.constants, model.constants, batch_size, self.constants)
        self.request.model_version = model.version  # that one and no later one


# A new session, one to take up, one to make of a snapshot.
Beginning: TypeAlias = "Start | pb.SessionKey | pb.RestoreRequest"


def start(
    model: str,
    version: str,
    batch_size: int,
    session_id: str,
    idle_ttl_s: float | None,
    initial_state: Mapping[str, object] | None,
    constants: object,
    states_of: StatesOf | None,
) -> Start:
    """Raises ValueError or TypeError for what cannot be right."""
    if batch_size < 1:
        raise ValueError(f"batch_size: expected 1 or more, given {batch_size}")
    if initial_state is not None and states_of is not None:
        raise ValueError("expected initial_state or states_of, given both")
    request = pb.OpenSessionRequest(
        model_name=model,
        model_version=str(version),
        batch_size=batch_size,
        idle_ttl_s=idle_ttl(idle_ttl_s),
    )
    choose_key(request, session_id)
    return Start(request, initial_state, constants, *_source(states_of))


def _source(states_of: StatesOf | None) -> tuple[SessionBase | None, Mapping[str, str]]:
    if states_of is None:
        return None, {}
    pair = states_of if isinstance(states_of, tuple) else (states_of, {})
    if len(pair) != 2 or not isinstance(pair[0], SessionBase) or not isinstance(pair[1], Mapping):
        raise TypeError(
            "states_of: expected a session, or a session and a dict from this model's states to "
            f"that session's, given {states_of!r}"
        )
    return pair
