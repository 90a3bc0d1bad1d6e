"""The asyncio client's stream, as its user holds it, and the items that go into it.

`async for` does not close its iterator on `break`; so the iterator is a thin object whose
disappearance is noticed, and the session waits for what its streams still have under way before it
makes another call.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
    from typing import Self

    from rnnserve._aio_flow import Flow
    from rnnserve._codec import Output


class Stream:
    """The outputs of `Session.stream`, in order; an asynchronous iterator."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Coroutine[Any, Any, Output]:
        # No coroutine of this object's own: the traceback of an exception would keep it alive.
        return self._flow.next()

    async def aclose(self) -> None:
        """Takes no further item and waits for the answers to the steps that were sent."""
        self._flow.leave()
        await self._flow.finished()

    def __del__(self) -> None:
        self._flow.leave_from_anywhere()


class FromIterable:
    """A synchronous iterable as an asynchronous iterator."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items: Iterator[Any] = iter(items)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self._items)
        except StopIteration:
            raise StopAsyncIteration from None


def iterate(items: AsyncIterable[Any] | Iterable[Any]) -> AsyncIterator[Any]:
    return aiter(items) if isinstance(items, AsyncIterable) else FromIterable(items)
