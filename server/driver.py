"""The only loop: while there is work, reserve the engine, take the next job, run it, deliver.

The scheduler lives on the event loop's thread and is touched nowhere else. The engine works on
threads of its own (ONNX Runtime releases the GIL), as many as there are instances of the model, so
that many jobs are under way at a time, which end in any order. While its runs are shorter than
handing them over and back would take, it works on the event loop's thread, one job at a time.

There is no timer, but for a model that says how its requests queue: one, for the next moment at
which somebody has waited too long, or an idle engine long enough for others. Whatever arrives while
a job runs shares the next batch, and so does whatever arrives in one turn of the event loop; only a
request that comes alone, as the one before it did, is run on the spot, because nobody would join
it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import structlog

from server.core.batch import Batch, MoveOut, ReadRows
from server.core.frame import Frame, FrameRun
from server.core.queue_ledger import NEVER
from server.core.requests import Step, Stepped, tell_nobody
from server.errors import InternalError, RequestError
from server.statistics import RunTimes, Statistics

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from numpy.typing import NDArray

    from server.core.requests import Arrays, Request, Result
    from server.core.scheduler import Job, Scheduler

log = structlog.get_logger()

HANDOVER_S = 0.0003  # runs longer than this are worth a thread of their own
TICK_S = 0.001  # event loops' timers are no finer
SMOOTHING = 0.2  # weight of the latest run in the average


class Engine(Protocol):
    """Runs the model on rows of its arena: see `server.engine`. As many calls may be made at a time
    as the model has instances.
    """

    def run(
        self,
        inputs: Mapping[str, NDArray[Any]],
        read: NDArray[np.int64],
        write: NDArray[np.int64],
    ) -> dict[str, NDArray[Any]]:
        """From the states in rows `read` to the outputs, and to new states in rows `write`."""

    def read(self, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The states in `rows`."""

    def write(self, rows: NDArray[np.int64], states: Mapping[str, NDArray[Any]]) -> None:
        """Store states in `rows`."""


class Outcome(NamedTuple):
    """What became of a job: arrays, or an error."""

    arrays: Arrays
    error: RequestError | None
    started_s: float
    input_ns: int  # laying the inputs side by side
    infer_ns: int


class Driver:
    """Drives one engine. Everything but `_work` runs on the event loop's thread.

    `own_thread`: whether the engine works on threads of its own; None measures and chooses.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        engine: Engine,
        statistics: Statistics,
        *,
        own_thread: bool | None = None,
    ) -> None:
        self.scheduler = scheduler
        self.engine = engine
        self.statistics = statistics
        self._loop = asyncio.get_running_loop()
        self._instances = scheduler.limits.instances
        self._busy = 0  # instances; all of them during a job on the event loop's thread
        self._look_is_due = False
        self._arrivals = 0  # since the last look
        self._alone = True  # whether at most one arrived before that
        self._uncounted: list[tuple[Job, Outcome, int]] = []
        self._answered: list[tuple[Request, Result]] = []
        self._idle_waiters: list[asyncio.Future[None]] = []
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._minds_the_clock = scheduler.minds_the_clock
        self._timer: asyncio.TimerHandle | None = None
        self._look_at_s = NEVER  # when the timer rings
        self._own_thread = own_thread
        self._run_s = HANDOVER_S  # a moving average
        self._threads = [
            threading.Thread(target=self._work, name="engine", daemon=True)
            for _ in range(self._instances)
        ]
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """A request has arrived, or one was withdrawn."""
        self._arrivals += 1
        self._look_soon()
        if self._alone and self._arrivals == 1:
            self._turn()

    async def idle(self) -> None:
        """Wait until every request has its answer."""
        while self.scheduler.pending or self._busy:
            waiter = self._loop.create_future()
            self._idle_waiters.append(waiter)
            await waiter

    def look(self) -> None:
        """Look now, and not at the end of this turn of the event loop."""
        self._turn()

    def stop(self) -> None:
        """Let the threads end after the jobs they are at, and the engine go. May be said twice."""
        if self._timer is not None:
            self._timer.cancel()
        self._busy += self._instances  # none is free any more, whatever is still to come
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        # Whoever holds the driver may be in a cycle, and an arena is large.
        vars(self).pop("engine", None)

    # ---- the loop -------------------------------------------------------------------------------

    def _look_soon(self) -> None:
        if not self._look_is_due:
            self._look_is_due = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        """Everything that arrived in this turn of the event loop is in."""
        self._look_is_due = False
        if self._arrivals:
            self._alone = self._arrivals == 1
        self._arrivals = 0
        self._turn()

    def _turn(self) -> None:
        if self._busy >= self._instances:
            if self._minds_the_clock:
                self._look_at_the_clock()
                self._deliver()
            return
        if self._uncounted or self._answered:
            self._count()
        self._deliver()
        if not self._begin() or self._minds_the_clock:
            self._deliver()  # looking for jobs may have answered some

    def _begin(self) -> bool:
        """Let every instance that is free do a job, as far as there are some; or, on the event
        loop's thread, one, which then is done and answered: whether that was so.
        """
        if self._minds_the_clock:
            self._look_at_the_clock()
        if not self.scheduler.pending or (job := self.scheduler.next_job()) is None:
            return False
        if not self._hands_over:
            self._busy += self._instances
            self._done(job, execute(self.engine, job), self._instances)
            return True
        while job is not None:
            self._busy += 1
            self._jobs.put(job)
            job = self.scheduler.next_job() if self._busy < self._instances else None
        return False

    def _look_at_the_clock(self) -> None:
        """Let the scheduler see to those who have waited too long, and look again when it says."""
        now_s = time.monotonic()
        at_s = self.scheduler.look(now_s)
        if at_s == self._look_at_s:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._look_at_s, self._timer = at_s, None
        if at_s < NEVER:
            self._timer = self._loop.call_later(max(at_s - now_s, TICK_S), self._ring)

    def _ring(self) -> None:
        self._look_at_s, self._timer = NEVER, None
        self._turn()

    @property
    def _hands_over(self) -> bool:
        """Whether the engine works on its own threads."""
        return self._run_s > HANDOVER_S if self._own_thread is None else self._own_thread

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._loop.call_soon_threadsafe(self._done, job, execute(self.engine, job), 1)

    def _done(self, job: Job, outcome: Outcome, instances: int) -> None:
        """The job has kept so many instances busy."""
        self._run_s += SMOOTHING * (outcome.infer_ns / 1e9 - self._run_s)
        if self._uncounted or self._answered:
            self._count()
        self._look_soon()
        now_s, start_ns = time.monotonic(), time.perf_counter_ns()
        hands_over = self._hands_over
        try:
            if outcome.error is None:
                self.scheduler.complete(job, outcome.arrays, now_s)
            else:
                self.scheduler.fail(job, outcome.error, now_s)
            self._uncounted.append((job, outcome, time.perf_counter_ns() - start_ns))
            if not hands_over:
                self._deliver()
        finally:
            self._busy -= instances
        if hands_over:
            self._begin()  # the engine goes on while answers are written
            self._deliver()

    def _deliver(self) -> None:
        while self.scheduler.has_answers:  # answers may complete others
            answers = self.scheduler.take_answers()
            for request, result in answers:
                answer, request.answer = request.answer, tell_nobody  # no cycle for the collector
                try:
                    if not request.cancelled:
                        answer(result)
                except Exception:  # one caller's trouble is nobody else's
                    log.exception("could not deliver an answer")
            self._answered.extend(answers)
        if self._idle_waiters and not self.scheduler.pending:
            waiters, self._idle_waiters = self._idle_waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    # ---- counting, after those who wait have been served -----------------------------------------

    def _count(self) -> None:
        """Count what has happened since the last turn, before any request takes another step."""
        runs, self._uncounted = self._uncounted, []
        answers, self._answered = self._answered, []
        for job, outcome, output_ns in runs:
            if outcome.error is None:
                times = RunTimes(outcome.input_ns, outcome.infer_ns, output_ns)
                if isinstance(job, Batch):
                    self._count_run(job, outcome.started_s, times)
                elif isinstance(job, FrameRun):
                    self._count_frames(job, outcome.started_s, times)
        for request, result in answers:
            seconds = time.monotonic() - request.arrived_s
            if isinstance(request, Frame):  # those that ran by themselves count as steps
                self.statistics.answered(seconds, time.time_ns() // 1_000_000, request.made)
                self.statistics.failed(seconds, request.failed)
            elif isinstance(result, Stepped):
                if isinstance(request, Step) and request.position:  # else it was made before
                    self.statistics.answered(seconds, time.time_ns() // 1_000_000)
            elif isinstance(request, Step):
                self.statistics.failed(seconds)

    def _count_run(self, batch: Batch, started_s: float, times: RunTimes) -> None:
        finished = rows = 0
        for entry in batch.entries:
            step = entry.step
            ran = step.timesteps if batch.timesteps is None else batch.timesteps
            if step.position == ran:  # this was its first piece
                step.waited_s = started_s - step.arrived_s
            if step.position >= step.timesteps:
                self.statistics.queued(step.waited_s)
                finished += 1
                rows += entry.session.batch_size
        self.statistics.ran(batch.size, len(batch.entries), finished, times)
        self.statistics.inference_count += rows

    def _count_frames(self, run: FrameRun, started_s: float, times: RunTimes) -> None:
        if run.position == 0:
            for part in run.parts:
                seconds = started_s - part.frame.arrived_s
                self.statistics.queued(seconds, len(part.positions))
        finished = run.size if run.is_last else 0
        self.statistics.ran(run.size, run.size, finished, times)
        self.statistics.inference_count += finished


def execute(engine: Engine, job: Job) -> Outcome:
    """Do `job`. Never raises: what goes wrong is in the outcome."""
    started_s = time.monotonic()
    start = laid_out = time.perf_counter_ns()
    arrays: Arrays = {}
    error: RequestError | None = None
    try:
        if isinstance(job, Batch | FrameRun):
            inputs, read, write = job.inputs(), job.read_rows(), job.write_rows()
            if (back := job.back()) is not None:
                engine.write(back.rows, back.states)
            laid_out = time.perf_counter_ns()
            arrays = engine.run(inputs, read, write)
            job.check(arrays)
        elif isinstance(job, ReadRows | MoveOut):
            arrays = engine.read(np.array(job.rows, np.int64))
        else:
            engine.write(np.array(job.rows, np.int64), job.states)
    except RequestError as known:
        error = known
    except Exception:
        log.exception("the engine failed")
        error = InternalError("internal error; the session is as it was; see the server's log")
    ran = time.perf_counter_ns()
    return Outcome(arrays, error, started_s, laid_out - start, ran - laid_out)
