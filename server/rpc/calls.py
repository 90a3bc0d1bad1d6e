"""Requests to sessions, as unary calls and as streams make them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from server.core.requests import Step
from server.errors import RequestError
from server.rpc.handover import begin as hand_over

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from server.core.frame import Frame
    from server.core.requests import Request, Result
    from server.core.session import Session
    from server.rpc.handover import Source
    from server.rpc.methods import Cancel
    from server.serving import ServedModel

T = TypeVar("T")


def begin(
    session: Session,
    request: Request,
    answer: Callable[[Result], None],
    source: Source | None = None,
) -> Cancel:
    """Submit the request; its result goes to `answer`, at once or later. Raises as `submit` does.

    The function that comes back tells that nobody waits for the result any more.
    """
    request.answer = answer
    if request.start and (source is not None or session.constants):
        hand_over(session, request, source)
    else:
        session.home.submit(session, request)
    return partial(_cancel, session, request)


class Outstanding:
    """The requests of one stream that have no answer yet."""

    def __init__(self) -> None:
        self._requests: dict[Request, Session] = {}
        self._frames: dict[Frame, ServedModel] = {}
        self._works: set[Generator[None, None, Any]] = set()

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

        self._requests[request] = session
        try:
            begin(session, request, answer, source)  # may answer at once
        except RequestError:
            del self._requests[request]
            raise

    def submit_frame(
        self, model: ServedModel, frame: Frame, deliver: Callable[[Result], None]
    ) -> None:
        """Submit the frame; its result goes to `deliver`. Raises as `submit_frame` does."""

        def answer(result: Result) -> None:
            self._frames.pop(frame, None)
            deliver(result)

        frame.answer = answer
        self._frames[frame] = model
        try:
            model.submit_frame(frame)
        except RequestError:
            del self._frames[frame]
            raise

    @property
    def busy(self) -> bool:
        """Whether something that is done by and by is not done yet."""
        return bool(self._works)

    def do_by_and_by(
        self, work: Generator[None, None, T], deliver: Callable[[T | Exception], None]
    ) -> None:
        """Do `work` up to its next `yield` at a time, others in between; its return value, or what
        it raises, goes to `deliver`. Raises what comes out of its first piece.
        """

        def go_on() -> None:
            if work not in self._works:
                return
            try:
                next(work)
            except StopIteration as done:
                self._works.remove(work)
                deliver(done.value)
            except Exception as error:
                self._works.remove(work)
                deliver(error)
            else:
                loop.call_soon(go_on)

        try:
            next(work)
        except StopIteration as done:
            return deliver(done.value)
        loop = asyncio.get_running_loop()
        self._works.add(work)
        loop.call_soon(go_on)

    def cancel(self) -> None:
        """The stream is over: what has not run will not."""
        works, self._works = self._works, set()
        for work in works:
            work.close()
        for request, session in reversed(list(self._requests.items())):  # who opens it, last
            _cancel(session, request)
        for frame, model in list(self._frames.items()):
            model.cancel_frame(frame)


def _cancel(session: Session, request: Request) -> None:
    """Nobody waits for `request` any more. A session that it was to open is closed if nobody can
    use it: its key is in the answer, unless the request is a first step, whose sender knows the id;
    but where something comes before that step, the session has not begun. If others wait behind,
    somebody knows the key, and the session is opened for them.
    """
    waiting = session.pending or [request]
    others_wait, is_step = waiting[-1] is not request, isinstance(request, Step)
    opening = request.start and not (is_step and isinstance(waiting[0], Step))
    if opening and others_wait and not is_step:
        request.cancelled = True
        return
    session.home.cancel(session, request)
    if opening and not others_wait and not session.closed:
        session.home.close(session)
