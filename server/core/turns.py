"""Whose turn it is: what each session was asked, in the order in which it was asked.

A session does one thing at a time. When its next request comes up, that either needs the engine,
and the session waits in a lane for it, or is done on the spot. Here, too, a numbered step is looked
at: it runs only if it is the session's next one.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from server.core.phases import Event, Phase
from server.core.requests import Close, Done, Read, Share, States, Step, Stepped, Touch, Write
from server.core.rows import INITIAL_ROW
from server.core.table import WAITING
from server.errors import RequestError, SessionClosed, StepGap

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from server.core.lanes import Lanes
    from server.core.ledger import Ledger
    from server.core.remembered import Remembered
    from server.core.requests import Request, Result
    from server.core.session import Session
    from server.core.table import Table

EXCHANGE = "exchange"  # the lane of those who want states read or written
MAX_WRITES = 32  # of a session between two steps that are known when they come again
_NO_WRITES: tuple[int, tuple[int, ...]] = (0, ())


class Turns:
    def __init__(
        self,
        table: Table,
        ledger: Ledger,
        remembered: Remembered,
        lanes: Lanes,
        on_closed: Callable[[Session], None] | None,
    ) -> None:
        self._table = table
        self._ledger = ledger
        self._remembered = remembered
        self._lanes = lanes
        self._on_closed = on_closed
        # Of sessions whose states were replaced: after how many steps, and by which requests.
        self._writes: dict[Session, tuple[int, tuple[int, ...]]] = {}

    def submit(self, session: Session, request: Request, now_s: float) -> None:
        """Queue a request. Raises SessionClosed or LimitReached, and then nothing has changed.

        A `Close` may follow a request that ends the session, in case that one fails; and so may a
        numbered step, which may be that very one once more.
        """
        may_follow_end = isinstance(request, Close) or (isinstance(request, Step) and request.index)
        if session.closed if may_follow_end else session.ending:
            raise SessionClosed(f"session {session.id!r} is closed")
        request.arrived_s = now_s
        self._ledger.owe(session, request)
        session.last_used_s = now_s
        if session.pending is None:
            session.pending = deque()
        session.pending.append(request)
        if isinstance(request, Step) and request.acknowledged:
            self._remembered.acknowledge(session, request.acknowledged)
        if session.phase is Phase.IDLE:
            self.wait(session)
        elif session.phase is Phase.FRAMED:
            self._table.aside_[session.slot] |= WAITING

    def cancel(self, session: Session, request: Request) -> None:
        """Nobody waits for `request` any more; it gets no answer. If it is running and this run
        finishes it, it counts; otherwise it will not run, and the session is as it was.
        """
        request.cancelled = True
        if not session.pending or request not in session.pending:
            return
        is_first = session.pending[0] is request
        stepped = request.stepped if isinstance(request, Step) else None
        if is_first and session.phase is Phase.QUEUED:
            if stepped is not None and may_be_asked_again(request):
                return  # committed: its answer is going to be remembered
            session.apply(Event.WITHDRAW)
            self._end_first(session, stepped or SessionClosed("cancelled"))
        elif not is_first or session.phase is Phase.FRAMED:
            session.pending.remove(request)
            self._ledger.answer(request, SessionClosed("cancelled"))

    def refuse(self, session: Session, step: Step, error: RequestError) -> None:
        """`step`, which has not begun, is answered with the error, and the session is as it was."""
        assert session.pending
        if session.pending[0] is step and session.phase is Phase.QUEUED:
            session.apply(Event.WITHDRAW)
            return self._end_first(session, error)
        session.pending.remove(step)
        self._ledger.answer(step, error)
        if step.start:
            self.close(session)

    def put_behind(self, session: Session, step: Step) -> None:
        """`step`, which has not begun, has got a new rank."""
        if session.first is step and session.phase is Phase.QUEUED:
            session.apply(Event.WITHDRAW)
            self.wait(session)

    def close(self, session: Session) -> None:
        """End the session now. What waits is answered with SessionClosed; what runs is finished."""
        self._remembered.forget(session)
        self._close(session)

    def _close(self, session: Session) -> None:
        was_running, was_framed = session.phase is Phase.RUNNING, session.phase is Phase.FRAMED
        session.apply(Event.CLOSE)
        waiting = session.pending or deque()
        session.pending = deque([waiting.popleft()]) if was_running else None
        for request in waiting:
            self._ledger.answer(request, self._last_word(session, request))
        if not was_running and not was_framed:
            self.dismiss(session)

    def _last_word(self, session: Session, request: Request) -> Result:
        """What somebody hears who waited when the session was closed."""
        if isinstance(request, Step) and 0 < request.index <= session.step:
            known = self._remembered.find(session, request)
            assert known is not None
            return known
        return SessionClosed(f"session {session.id!r} was closed")

    def again(self, session: Session, now_s: float) -> None:
        """The session's first request wants the engine once more, unless nobody wants it."""
        first = session.first
        if session.closed or (first.cancelled and not may_be_asked_again(first)):
            return self.done(session, SessionClosed(f"session {session.id!r} was closed"), now_s)
        session.apply(Event.COMPLETE)
        self.wait(session)

    def done(self, session: Session, result: Result, now_s: float) -> None:
        """The engine has done with the session's first request."""
        session.apply(Event.COMPLETE)
        session.last_used_s = now_s
        self._end_first(session, result)

    def _end_first(self, session: Session, result: Result) -> None:
        assert session.pending
        request = session.pending.popleft()
        if isinstance(request, Step) and request.index and isinstance(result, Stepped):
            self._remembered.keep(session, request, result)
        self._ledger.answer(request, result)
        failed = isinstance(result, RequestError)
        if session.phase is Phase.CLOSED:
            self.dismiss(session)
        elif failed and request.start and not _comes_again(session, request):
            self.close(session)
        elif not failed and request.end:
            self._close(session)  # its last answers may be asked for again
        else:
            self.wait(session)

    def dismiss(self, session: Session) -> None:
        self._ledger.dismiss(session)
        self._writes.pop(session, None)
        if self._on_closed is not None:
            self._on_closed(session)
        session.leave_table()

    def wait(self, session: Session) -> None:
        """Queue an idle session for its first request; what needs no engine is done on the way."""
        while session.pending:
            request = session.pending[0]
            if (known := self._known(session, request)) is not None:
                self._ledger.answer(session.pending.popleft(), known)
                failed = isinstance(known, RequestError)
                if request.start and failed:
                    return self.close(session)
                if request.end and not failed:
                    return self._close(session)
                continue
            match request:
                case Step(stepped=None) as step:
                    return self._join(step if step.alone else step.shapes, session)
                case Read() if session.kept is not None:
                    states = States(session.kept, session.step, session.fresh)
                    self._ledger.answer(session.pending.popleft(), states)
                case Touch() | Write(keep=True):
                    self._ledger.answer(session.pending.popleft(), Done(session.step))
                case Step() | Read() | Write(states={}):
                    return self._join(EXCHANGE, session)
                case Write() as write:
                    self._ledger.commit(session, (INITIAL_ROW,) * session.batch_size)
                    self.written(session, write, initial=True)
                    self._ledger.answer(session.pending.popleft(), Done(session.step))
                case Share(target=target, count_on=count_on):
                    if not target.closed:
                        self._ledger.share(session, target, count_on)
                    self._ledger.answer(session.pending.popleft(), Done(session.step))
                case other:
                    assert isinstance(other, Close)
                    self._ledger.answer(session.pending.popleft(), Done(session.step))
                    return self.close(session)
        session.pending = None

    def _known(self, session: Session, request: Request) -> Result | None:
        """What to answer to a numbered request that is not the session's next one; None for all
        others.
        """
        if isinstance(request, Step):
            if not request.index or request.stepped is not None:
                return None
            return self._remembered.find(session, request)
        if not isinstance(request, Write) or not request.id:
            return None
        step, ids = self._writes.get(session, _NO_WRITES)
        if step == session.step and request.id in ids:
            return Done(session.step)
        if request.after != session.step:
            return StepGap(
                f"the states were to be replaced after step {request.after}, but the session has "
                f"made {session.step}",
                session.step + 1,
            )
        return None

    def written(self, session: Session, write: Write, initial: bool = False) -> None:
        session.fresh = write.initial or initial
        if write.id:
            step, ids = self._writes.get(session, _NO_WRITES)
            known = ids if step == session.step else ()
            self._writes[session] = session.step, (*known[1 - MAX_WRITES :], write.id)
        if write.step is not None:
            session.step = write.step
            self._writes.pop(session, None)
            self._remembered.forget(session)

    def _join(self, lane: Hashable, session: Session) -> None:
        session.apply(Event.SUBMIT)
        self._lanes.join(lane, session)


def _comes_again(session: Session, request: Request) -> bool:
    """Whether the same first step waits once more: then that one begins the session."""
    again = session.pending[0] if session.pending else None
    if not (isinstance(request, Step) and isinstance(again, Step) and request.index):
        return False
    again.start = again.index == request.index
    return again.start


def may_be_asked_again(request: Request) -> bool:
    """Whether the answer is worth having although nobody waits: the step is committed."""
    return isinstance(request, Step) and request.index > 0 and request.stepped is not None
