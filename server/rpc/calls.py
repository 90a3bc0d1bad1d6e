"""Requests to sessions, as unary calls and as streams make them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from server.core.requests import Step
from server.errors import RequestError
from server.rpc.handover import begin

if TYPE_CHECKING:
    from collections.abc import Callable

    from server.core.requests import Request, Result
    from server.core.session import Session
    from server.rpc.handover import Source

R = TypeVar("R")


async def ask(
    session: Session, request: Request, expected: type[R], source: Source | None = None
) -> R:
    """Submit the request and wait for its result, an `expected`.

    If the caller goes away meanwhile, the request is cancelled. Raises the request's error.
    """
    answered: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def answer(result: Result) -> None:
        if not answered.done():
            answered.set_result(result)

    request.answer = answer
    _submit(session, request, source)
    try:
        result = await answered
    except asyncio.CancelledError:
        _cancel(session, request)
        raise
    if isinstance(result, RequestError):
        raise result
    assert isinstance(result, expected), f"{result!r} is no {expected.__name__}"
    return result


class Outstanding:
    """The requests of one stream that have no answer yet."""

    def __init__(self) -> None:
        self._requests: dict[Request, Session] = {}

    def submit(
        self,
        session: Session,
        request: Request,
        deliver: Callable[[Result], None],
        source: Source | None = None,
    ) -> None:
        """Submit the request; its result goes to `deliver`. Raises as `submit` does."""

        def answer(result: Result) -> None:
            self._requests.pop(request, None)
            deliver(result)

        request.answer = answer
        self._requests[request] = session
        try:
            _submit(session, request, source)  # may answer at once
        except RequestError:
            del self._requests[request]
            raise

    def cancel(self) -> None:
        """The stream is over: what has not run will not."""
        for request, session in list(self._requests.items()):
            _cancel(session, request)


def _submit(session: Session, request: Request, source: Source | None) -> None:
    if request.start and (source is not None or session.constants):
        begin(session, request, source)
    else:
        session.home.submit(session, request)


def _cancel(session: Session, request: Request) -> None:
    """Nobody waits for `request` any more. A session that it was to open is closed if nobody can
    use it: its key is in the answer, unless the request is a first step, whose sender knows the id;
    but where something comes before that step, the session has not begun.
    """
    waiting = session.pending
    opening = request.start and (
        not isinstance(request, Step) or (waiting and not isinstance(waiting[0], Step))
    )
    session.home.cancel(session, request)
    if opening and not session.closed:
        session.home.close(session)
