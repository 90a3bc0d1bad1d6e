"""Calls before they are made: which request goes where, and how to read the answer."""

from __future__ import annotations

from dataclasses import dataclass
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from rnnserve.specs import ModelInfo, SessionInfo, model_info, session_info
from rnnserve.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One unary call: `read(answer)` is its result."""

    method: str  # of the stub
    request: Any
    read: Callable[[Any], T]


def resume_key(session_id: str, token: str) -> pb.SessionKey:
    if not session_id or not token:
        raise ValueError("resuming needs the session's id and its token")
    return pb.SessionKey(session_id=session_id, token=token)


def choose_key(
    request: pb.OpenSessionRequest | pb.ForkRequest | pb.RestoreRequest, session_id: str = ""
) -> None:
    """Id and token of the session to be made: chosen here, so that the request can be repeated when
    its answer is lost.
    """
    request.session_id = session_id or token_urlsafe(16)
    request.token = token_urlsafe(16)


def idle_ttl(given: float | None) -> float:
    """Seconds as a request has them; ValueError for what cannot be right."""
    if given is not None and given <= 0:
        raise ValueError(f"idle_ttl_s: expected more than 0 seconds, given {given}")
    return given or 0.0


def check_window(window: int) -> None:
    if window < 1:
        raise ValueError(f"window: expected 1 or more, given {window}")


def describe_call(model: str, version: str) -> Call[ModelInfo]:
    request = pb.DescribeModelRequest(model_name=model, model_version=str(version))
    return Call("DescribeModel", request, model_info)


def restore_request(
    snapshot: bytes, model: str, version: str, session_id: str, idle_ttl_s: float | None
) -> pb.RestoreRequest:
    request = pb.RestoreRequest(
        snapshot=snapshot,
        model_name=model,
        model_version=str(version),
        idle_ttl_s=idle_ttl(idle_ttl_s),
    )
    choose_key(request, session_id)
    return request


class Page(NamedTuple):
    """Some of the sessions; an empty token stands on the last page."""

    sessions: list[SessionInfo]
    next_page_token: str


def list_call(model: str | None, page_token: str) -> Call[Page]:
    def read(answer: pb.ListSessionsResponse) -> Page:
        return Page([session_info(message) for message in answer.sessions], answer.next_page_token)

    request = pb.ListSessionsRequest(model_name=model or "", page_token=page_token)
    return Call("ListSessions", request, read)
