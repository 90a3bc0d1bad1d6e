"""What a session's owner expects: the state after everything that counted, by nothing but the
equation, and the answer to everything that was asked.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from server.core.requests import Done, Framed, States, Stepped
from server.errors import (
    RequestError,
    SessionClosed,
    StepConflict,
    StepFailed,
    StepForgotten,
    StepGap,
    TimeoutExpired,
)
from tests.server.core.asked import Asked, Outcome
from tests.server.core.fake_engine import INITIAL, alone

if TYPE_CHECKING:
    from collections.abc import Iterable

    from server.core.frame import Frame
    from server.core.session import Session

    Core = Any  # of driven.py


class Client:
    """`lossy`: answers may be forgotten at any time."""

    def __init__(self, session: Session, *, lossy: bool) -> None:
        self.session = session
        self.lossy = lossy
        self.state = [INITIAL] * session.batch_size
        self.count = 0
        self.step = 0
        self.writes: tuple[int, list[int]] = (0, [])  # after so many steps, those known by id
        self.fresh = True
        self.asked: deque[Asked] = deque()
        self.steps: list[tuple[int, list[int]]] = []  # numbered ones that were sent
        self.history: dict[int, Outcome] = {}

    @property
    def next_step(self) -> int:
        """The number of the next new step, if nothing goes wrong."""
        new = {asked.index for asked in self.asked if asked.index > self.step}
        return self.step + 1 + len(new)

    def acknowledge(self, index: int) -> None:
        for number, outcome in self.history.items():
            if number <= index and not outcome.in_frame:
                outcome.acknowledged = True

    def follow(self, core: Core) -> None:
        """Take in what has been done since, in the order in which it was asked for."""
        while self.asked:
            asked = self.asked[0]
            if asked.ran:
                self._count(asked)
            if asked.waits(self.session):
                return
            self.asked.popleft()
            self._settle(asked, asked.result(core), core)

    def check(self, core: Core) -> None:
        if not self.session.closed:
            states = core.states(self.session)
            assert states["value"].tolist() == self.state
            assert states["count"].tolist() == self._counts()
            assert (self.session.step, self.session.fresh) == (self.step, self.fresh)

    # ---- what has counted -----------------------------------------------------------------------

    def _count(self, asked: Asked) -> None:
        if asked.outcome is not None or asked.kind not in ("step", "peek", "write"):
            return
        before = (self.state, self.count)
        if asked.kind == "write":
            return self._write(asked)
        y = [
            alone(value, [each + 100 * row for each in asked.values])
            for row, value in enumerate(self.state)
        ]
        self.state, self.count = [row[-1] for row in y], self.count + len(asked.values)
        states = {"value": self.state, "count": self._counts()}
        in_frame = asked.request is None
        step = self.step + 1
        asked.outcome = Outcome(asked.values, step, y, states, asked.return_state, in_frame)
        if asked.kind == "peek":
            self.state, self.count = before
            asked.outcome.step = self.step
        else:
            self.step, self.fresh = step, False

    def _write(self, asked: Asked) -> None:
        """To the initial state, or to given ones."""
        value, write = asked.value, asked.request
        rows = range(self.session.batch_size)
        self.state = [INITIAL if value is None else value + row for row in rows]
        self.count = 0
        self.fresh = value is None or write.initial
        if write.id:
            step, ids = self.writes
            self.writes = self.step, [*(ids if step == self.step else ()), write.id]
        if write.step is not None:
            self.step = write.step
            self.history.clear()
        asked.outcome = Outcome([], self.step, [], {}, with_states=False, in_frame=False)

    def _counts(self) -> list[int]:
        return [self.count] * self.session.batch_size

    # ---- what was answered ----------------------------------------------------------------------

    def _settle(self, asked: Asked, result: Any, core: Core) -> None:
        assert result is not None or asked.cancelled, "no answer"
        if asked.ran and asked.outcome is not None:
            self._check_own(asked, result)
        elif isinstance(result, RequestError):
            self._check_error(asked, result, core)
        elif isinstance(result, Stepped):
            known = next((each for each in self._known(asked) if isinstance(each, Outcome)), None)
            assert known is not None, "answered, but by nobody"
            self._compare(asked, result, known)
            asked.outcome = known
        elif result is not None:
            self._check_done(asked, result)
        self._check_closed(asked, result)

    def _check_own(self, asked: Asked, result: Any) -> None:
        """It has run."""
        if isinstance(result, RequestError):
            assert asked.unread or self.session.closed, result
        elif isinstance(result, Stepped):
            self._compare(asked, result, asked.outcome)
        elif result is not None:
            assert result == Done(self.step)
        if asked.index:
            asked.outcome.with_states &= not asked.unread
            self.history[asked.index] = asked.outcome

    def _check_error(self, asked: Asked, error: RequestError, core: Core) -> None:
        if isinstance(error, TimeoutExpired):
            return self._check_time(asked, core)
        over = self.session.closed or (asked.frame is not None and asked.frame.cancelled)
        if over and isinstance(error, SessionClosed | StepForgotten):
            return
        if asked.failed and isinstance(error, StepFailed):
            return
        known = self._known(asked)
        if known:
            assert type(error) in known, (error, known)
            assert not isinstance(error, StepGap) or error.expected_step == self.step + 1
        else:
            raise AssertionError(f"it failed for no reason: {error}")

    def _check_time(self, asked: Asked, core: Core) -> None:
        """It was refused because it has waited too long, and not begun."""
        queueing, step = core.limits.queueing, asked.request or asked.frame
        policy = queueing.policy_of(queueing.level_of(getattr(step, "priority", 0)))
        assert not policy.delays
        timeout_s = policy.timeout_of(getattr(step, "timeout_s", 0.0))
        assert core.now_s > step.arrived_s + timeout_s
        assert asked.request is None or asked.request.position == 0

    def _known(self, asked: Asked) -> Iterable[Any]:
        """What may come instead of running it: a remembered outcome or types of errors."""
        if asked.kind == "write":
            return () if self._is_next_write(asked) is not False else (StepGap,)
        index = asked.index
        if not index or index == self.step + 1:
            return ()
        if index > self.step + 1:
            return (StepGap,)
        outcome = self.history.get(index)
        if outcome is None or outcome.acknowledged:
            return (StepForgotten,)
        without = (StepForgotten,) if asked.return_state and not outcome.with_states else ()
        if outcome.values != asked.values:
            return (StepConflict, *without, *self._losses())
        return without or (outcome, *self._losses())

    def _losses(self) -> Iterable[Any]:
        return (StepForgotten,) if self.lossy else ()

    def _check_done(self, asked: Asked, result: Any) -> None:
        """What may need no engine."""
        if asked.kind == "write" and self._is_next_write(asked):
            self._write(asked)
        if asked.kind == "share":
            self._share(asked.target, asked.request.count_on)
        if isinstance(result, States):
            if asked.kind == "read":
                assert (result.step, result.fresh) == (self.step, self.fresh)
                self._compare_states(result.states, self.state, self._counts())
        else:
            assert result == Done(self.step)

    def _is_next_write(self, asked: Asked) -> bool | None:
        """None where it was done before, False where it comes after other steps."""
        write, (step, ids) = asked.request, self.writes
        if write.id and step == self.step and write.id in ids:
            return None
        return not write.id or write.after == self.step

    def _share(self, target: Client, count_on: bool) -> None:
        target.state, target.count, target.fresh = self.state, self.count, self.fresh
        if count_on:
            target.step = self.step

    def _check_closed(self, asked: Asked, result: Any) -> None:
        request = asked.request
        if request is None or asked.cancelled:
            return
        if isinstance(result, RequestError):
            comes_again = bool(asked.index and self.asked and self.asked[0].index == asked.index)
            assert not request.start or self.session.closed or comes_again
        elif request.end:
            assert self.session.closed

    def _compare(self, asked: Asked, result: Stepped, outcome: Outcome) -> None:
        assert result.step == outcome.step
        assert result.outputs["y"].tolist() == outcome.y
        assert result.outputs["last"].tolist() == [row[-1] for row in outcome.y]
        assert not asked.return_state or result.states is not None or self.session.closed
        if result.states is not None:
            self._compare_states(result.states, **outcome.states)

    @staticmethod
    def _compare_states(states: Any, value: list[int], count: list[int]) -> None:
        assert states["value"].tolist() == value
        assert states["count"].tolist() == count


class SentFrame:
    """A frame and what its positions are to give; None where the step was refused at once."""

    def __init__(self, frame: Frame, clients: list[Client], asked: list[Asked | None]) -> None:
        self.frame = frame
        self.clients = clients
        self.asked = asked
        self.over = False

    def check(self, core: Core) -> None:
        if self.over:
            return
        self.over = self.frame.cancelled or core.answered(self.frame)
        if self.frame in core.answers:
            (result,) = core.answers[self.frame]
            assert isinstance(result, Framed)
            for position, asked in enumerate(self.asked):
                self._check(result, position, asked)

    def _check(self, result: Framed, position: int, asked: Asked | None) -> None:
        row = {name: array[position].tolist() for name, array in result.outputs.items()}
        if position in result.errors:
            assert not any(np.any(each) for each in row.values())
            assert result.steps[position] == 0
            assert asked is None or asked.outcome is None or self.clients[position].session.closed
        else:
            assert asked is not None
            assert asked.outcome is not None
            y = asked.outcome.y[0]
            assert row == {"y": y, "last": y[-1]}
            assert result.steps[position] == asked.outcome.step
