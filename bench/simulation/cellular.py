"""The real scheduler, as the driver uses it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from bench.simulation.clock import Run
from bench.simulation.workload import NOBODY
from server.core.batch import Batch, Layout
from server.core.ledger import Limits
from server.core.requests import Step
from server.core.scheduler import Scheduler
from server.core.session import Session
from server.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.simulation.workload import Workload
    from server.core.requests import Request
    from server.core.session import Home


class Cellular:
    """Every session is opened with its first request and closed with its last."""

    wakes_s = math.inf

    def __init__(self, workload: Workload, max_batch_size: int, max_chunk: int) -> None:
        self._workload = workload
        limits = Limits(
            max_batch_size, max_rows=len(workload), max_chunk=max_chunk, max_pending=len(workload)
        )
        self._scheduler = Scheduler(Layout({}, {}), limits)
        self._sessions: dict[int, Session] = {}
        self._numbers: dict[Request, int] = {}

    def arrive(self, request: int, now_s: float) -> None:
        number = self._workload.session[request]
        session = self._sessions.get(number)
        if session is None:
            home = cast("Home", self._scheduler)  # which nobody asks for anything here
            session = self._sessions[number] = Session(number, home, now_s=now_s)
            self._scheduler.admit(session)
        last = self._workload.following[request] == NOBODY
        step = Step(inputs={}, timesteps=self._workload.timesteps[request], end=last)
        self._numbers[step] = request
        self._scheduler.submit(session, step, now_s)

    def next_run(self, now_s: float) -> Run | None:
        job = self._scheduler.next_job()
        if job is None:
            return None
        assert isinstance(job, Batch)
        assert job.timesteps is not None
        return Run([(job.size, job.timesteps)], job)

    def finish(self, run: Run, now_s: float) -> Iterable[int]:
        self._scheduler.complete(run.what, {}, now_s)
        for step, result in self._scheduler.take_answers():
            if isinstance(result, RequestError):
                raise result
            request = self._numbers.pop(step)
            if self._workload.following[request] == NOBODY:
                del self._sessions[self._workload.session[request]]
            yield request

    def __repr__(self) -> str:
        return f"Cellular({self._scheduler!r})"
