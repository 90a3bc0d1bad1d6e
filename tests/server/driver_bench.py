"""A driver with an engine whose runs the test holds in its hand."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from server.core.batch import Layout
from server.core.ledger import Limits
from server.core.requests import Step
from server.core.scheduler import Scheduler
from server.core.session import Session
from server.driver import Driver
from server.errors import StepFailed
from server.statistics import Statistics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from server.core.queueing import Queueing
    from server.core.requests import Request, Result

LIMITS = Limits(max_batch_size=8, max_rows=32, max_chunk=4)
OWN, LOOPS = "engine", "MainThread"  # threads


class SumEngine:
    """Adds up: `s' = s + x`. Runs wait for `gate`; an input of 13 is bad luck, 666 is a bug."""

    def __init__(self, limits: Limits) -> None:
        self.rows = np.zeros(limits.arena_rows, np.int64)
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.seconds = 0.0
        self.runs: list[tuple[int, str]] = []

    def run(
        self, inputs: Mapping[str, NDArray[Any]], read: NDArray[Any], write: NDArray[Any]
    ) -> dict[str, NDArray[Any]]:
        self.runs.append((len(read), threading.current_thread().name))
        self.entered.set()
        assert self.gate.wait(10)
        if self.seconds:
            threading.Event().wait(self.seconds)
        x = inputs["x"]
        if 13 in x:
            raise StepFailed("13 is no good")
        if 666 in x:
            raise ZeroDivisionError("secret detail")
        sums = self.rows[read][:, None] + np.cumsum(x, 1)
        self.rows[write] = sums[:, -1]
        return {"y": sums}

    def read(self, rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return {"s": self.rows[rows]}

    def write(self, rows: NDArray[Any], states: Mapping[str, NDArray[Any]]) -> None:
        self.rows[rows] = states["s"]


class Bench:
    """A driver at work and sessions to try it with; the sessions' home."""

    def __init__(
        self,
        own_thread: bool | None = True,
        instances: int = 1,
        make_engine: type[SumEngine] = SumEngine,
        queueing: Queueing | None = None,
    ) -> None:
        limits = replace(LIMITS, instances=instances, queueing=queueing)
        self.engine = make_engine(limits)
        self.statistics = Statistics()
        self.scheduler = Scheduler(Layout({"x": 1}, {"y": 1}), limits)
        self.driver = Driver(self.scheduler, self.engine, self.statistics, own_thread=own_thread)
        self.table = self.scheduler.table

    def session(self, batch_size: int = 1) -> Session:
        session = Session(object(), self, batch_size=batch_size)
        self.scheduler.admit(session)
        return session

    def admit(self, session: Session) -> None:
        self.scheduler.admit(session)

    def submit(self, session: Session, request: Request) -> None:
        self.scheduler.submit(session, request, asyncio.get_running_loop().time())
        self.driver.wake()

    def cancel(self, session: Session, request: Request) -> None:
        self.scheduler.cancel(session, request)
        self.driver.wake()

    def close(self, session: Session) -> None:
        self.scheduler.close(session)
        self.driver.wake()

    def ask(self, session: Session, request: Request) -> asyncio.Future[Any]:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        request.answer = future.set_result
        self.submit(session, request)
        return future

    def step(self, session: Session, *values: int, **kwargs: Any) -> asyncio.Future[Any]:
        x = np.array([values] * session.batch_size, np.int64)
        return self.ask(session, Step(inputs={"x": x}, timesteps=len(values), **kwargs))

    async def entered(self) -> None:
        """Wait until the engine is at a run."""
        await asyncio.to_thread(self.engine.entered.wait, 10)
        self.engine.entered.clear()

    async def settle(self) -> None:
        """Wait until everything is answered and counted."""
        await self.driver.idle()
        await asyncio.sleep(0.01)
