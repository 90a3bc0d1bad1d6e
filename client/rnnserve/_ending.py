"""How a streamed asyncio call ended, in the server's words.

When the server ends a call while the client is still writing, grpc.aio overwrites the status with
an error of its own, before or after the server's has arrived. What the server said matters more.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import Coroutine

_WRITE_FAILED = (grpc.StatusCode.INTERNAL, "Internal error from Core")
_PATIENCE_S = 0.5
_PAUSE_S = 0.005


@dataclass(frozen=True, slots=True)
class Ended:
    """A status, readable like a grpc error."""

    status_code: grpc.StatusCode
    text: str
    metadata: Any

    def code(self) -> grpc.StatusCode:
        return self.status_code

    def details(self) -> str:
        return self.text

    def trailing_metadata(self) -> Any:
        return self.metadata

    @property
    def is_server_s(self) -> bool:
        return (self.status_code, self.text) != _WRITE_FAILED


class Ending:
    """Watches a call from its start."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._first: Ended | None = None
        call.add_done_callback(self._remember)

    async def status(self) -> Ended:
        """The server's status, or after some patience whatever there is. The call has ended."""
        if self._first is not None and self._first.is_server_s:
            return self._first
        for _ in range(int(_PATIENCE_S / _PAUSE_S)):
            if (ended := await _read(self._call)).is_server_s:
                return ended
            await asyncio.sleep(_PAUSE_S)
        return ended

    def _remember(self, call: Any) -> None:
        # Within the callback the status is set, so this does not wait; later it may be another.
        self._first = _at_once(_read(call))


async def _read(call: Any) -> Ended:
    return Ended(
        await call.code(), await call.details() or "", await call.trailing_metadata() or ()
    )


def _at_once(coroutine: Coroutine[Any, Any, Ended]) -> Ended | None:
    """The result of a coroutine that need not wait; None if it would have to."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: Ended = done.value
        return result
    coroutine.close()
    return None
