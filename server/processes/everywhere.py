"""What is to be done in every process: here first, then in all others."""

from __future__ import annotations

import asyncio
from functools import wraps
from typing import TYPE_CHECKING, Any

from server.rpc.methods import for_caller

if TYPE_CHECKING:
    from server.rpc.caller import Caller
    from server.rpc.methods import Cancel, Respond


def everywhere(method: Any) -> Any:
    """A method of GRPCInferenceService; its answer is that of this process. Where one process
    refuses it, that is the answer.
    """

    @for_caller
    @wraps(method)
    def begin(service: Any, request: Any, respond: Respond, caller: Caller) -> Cancel:
        answer = _all(service, method, request, caller)
        cancel: Cancel = service.routes.in_task(answer, respond)
        return cancel

    return begin


async def _all(service: Any, method: Any, request: Any, caller: Caller) -> Any:
    """Raises RequestError."""
    answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    method.begin(service, request, answered.set_result, caller)
    own = await answered
    if isinstance(own, Exception):
        raise own
    peers = await service.routes.present()
    await service.routes.ask([getattr(peer.inference, method.__name__) for peer in peers], request)
    return own
