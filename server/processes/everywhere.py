"""What is to be done in every process: here first, then in all others."""

from __future__ import annotations

import asyncio
from functools import wraps
from typing import TYPE_CHECKING, Any

from server.rpc.methods import for_caller

if TYPE_CHECKING:
    from server.processes.routes import Routes
    from server.rpc.caller import Caller
    from server.rpc.methods import Cancel, Respond


def everywhere(method: Any) -> Any:
    """A method of GRPCInferenceService; its answer is that of this process. Where one process
    refuses it, that is the answer.
    """

    @for_caller
    @wraps(method)
    def begin(service: Any, request: Any, respond: Respond, caller: Caller) -> Cancel:
        own: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        method.begin(service, request, own.set_result, caller)
        rest = _others(service.routes, method.__name__, request, own)
        cancel: Cancel = service.routes.in_task(rest, respond)
        return cancel

    return begin


async def _others(routes: Routes, name: str, request: Any, own: asyncio.Future[Any]) -> Any:
    """Raises RequestError."""
    answer = await own
    if isinstance(answer, Exception):
        raise answer
    await routes.tell(name, request)
    return answer
