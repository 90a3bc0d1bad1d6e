"""Unary methods, whichever transport they come by.

A method is written once, in the form `begin(service, request, respond, caller)`: it begins what the
request asks for and calls `respond` once, at once or later, with the answering message or with what
went wrong; it returns a function that tells that nobody waits any more. Exceptions that it raises
are answers, too. So a transport can hand in calls by the hundred and needs no task or future for
each. Most methods do not ask who calls, and are written without `caller`.

The decorators here make of that a method of a grpc.aio servicer, with the original beside it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from google.protobuf.message import DecodeError

from server.errors import InvalidRequest
from server.rpc.caller import Caller, of_context
from server.rpc.status import abort

if TYPE_CHECKING:
    from google.protobuf.message import Message

Answer: TypeAlias = "Message | Exception"
Respond: TypeAlias = Callable[[Any], None]
Cancel: TypeAlias = Callable[[], None]
Begin: TypeAlias = Callable[[Any, Respond, Caller], Cancel]


class Method(NamedTuple):
    """A unary method as transports know it."""

    path: str  # "/package.Service/Name"
    request_type: type[Message]
    begin: Begin


def for_caller(begin: Callable[[Any, Any, Respond, Caller], Cancel]) -> Any:
    """A method whose answer may have to wait, and that asks who calls."""

    @functools.wraps(begin)
    async def method(service: Any, request: Any, context: Any) -> Any:
        waiting = _Waiting()
        try:
            if isinstance(request, Exception):  # there is no message: server.rpc.registration
                raise request
            cancel = begin(service, request, waiting.respond, of_context(context))
            answer = waiting.answer
            if answer is None:
                answer = await waiting.wait(cancel)
        except Exception as error:
            answer = error
        if isinstance(answer, Exception):
            await abort(context, answer)
        return answer

    method.begin = begin  # type: ignore[attr-defined]
    return method


def later(begin: Callable[[Any, Any, Respond], Cancel]) -> Any:
    """A method whose answer may have to wait."""

    @functools.wraps(begin)
    def for_anybody(service: Any, request: Any, respond: Respond, caller: Caller) -> Cancel:
        return begin(service, request, respond)

    return for_caller(for_anybody)


def at_once(answer: Callable[[Any, Any], Message]) -> Any:
    """A method that answers without waiting for anybody."""

    @functools.wraps(answer)
    def begin(service: Any, request: Any, respond: Respond, caller: Caller) -> Cancel:
        respond(answer(service, request))
        return nothing_to_cancel

    return for_caller(begin)


def methods_of(service: Any, descriptor: Any, messages: Any) -> list[Method]:
    """The unary methods of a service, whose messages are in that module."""
    return [
        Method(
            f"/{descriptor.full_name}/{method.name}",
            getattr(messages, method.input_type.name),
            functools.partial(getattr(type(service), method.name).begin, service),
        )
        for method in descriptor.methods
        if not (method.client_streaming or method.server_streaming)
    ]


class AnyMethod(Protocol):
    @property
    def path(self) -> str: ...
    @property
    def request_type(self) -> type[Message]: ...


class AnyStream(Protocol):
    """One stream of a client's."""

    def handle(self, message: Any, slot: Any) -> None:
        """Begin what the message asks for; its answer, or an error, goes to `slot`."""

    def cancel(self) -> None:
        """The stream is over: what has not run will not."""


def decoded(method: AnyMethod, message: bytes) -> Message:
    """Raises InvalidRequest."""
    try:
        return method.request_type.FromString(message)
    except DecodeError:
        raise InvalidRequest(
            f"the request of {method.path} is no message of type "
            f"{method.request_type.DESCRIPTOR.full_name}"
        ) from None


def nothing_to_cancel() -> None:
    """What was to be done is done."""


class _Waiting:
    """One call that waits for its answer, in a future only if it has to."""

    __slots__ = ("_future", "answer")

    def __init__(self) -> None:
        self.answer: Any = None
        self._future: asyncio.Future[None] | None = None

    def respond(self, answer: Answer) -> None:
        self.answer = answer
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def wait(self, cancel: Cancel) -> Any:
        self._future = asyncio.get_running_loop().create_future()
        try:
            await self._future
        except asyncio.CancelledError:
            cancel()
            raise
        return self.answer
