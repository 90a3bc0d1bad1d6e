"""What there is to call, beside the unary methods of `server.rpc.methods`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from google.protobuf.message import Message

    from server.rpc.caller import Caller
    from server.rpc.methods import Cancel

    Handle: TypeAlias = Callable[[Any, Any], None]


class StreamMethod(NamedTuple):
    """`start` begins a caller's stream: it gives what each message is handed to, with the slot for
    its answer, and what is told when the stream is over, however it ends. Answers leave in the
    order of the messages if `ordered`, else as they come.
    """

    path: str
    request_type: type[Message]
    start: Callable[[Caller], tuple[Handle, Cancel]]
    max_open: int
    ordered: bool


class TaskMethod(NamedTuple):
    """`run(request, context)` answers by its return value or by `context.write`, and may say
    `context.abort(code, text)`.
    """

    path: str
    request_type: type[Message]
    run: Callable[[Any, Any], Awaitable[Any]]
