"""The models that are served and the sessions that are open: what both protocols stand on."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Any, cast

from server.catalogue import Catalogue
from server.core.batch import Layout
from server.core.controls import Control
from server.core.ledger import Limits
from server.core.requests import Close, Step
from server.core.scheduler import Scheduler
from server.core.session import Session
from server.core.sessions import Sessions
from server.driver import Driver
from server.errors import InvalidRequest, LimitReached, RequestError, ShuttingDown
from server.queueing import queueing_of
from server.shared_memory import Regions
from server.statistics import Statistics
from server.trace_settings import TraceSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from server.config import LimitsConfig
    from server.core.frame import Frame
    from server.core.requests import Read, Request
    from server.driver import Engine
    from server.repository.spec import ModelSpec


USUAL_CHUNK = 32  # timesteps, until the model has been measured


def limits_of(spec: ModelSpec, config: LimitsConfig) -> Limits:
    """What the scheduler of a model may do."""
    return Limits(
        max_batch_size=max(1, spec.max_batch_size),  # 0: no batch axis, requests run one by one
        max_rows=config.max_sessions,
        max_resident_rows=config.max_resident or None,
        max_chunk=(spec.piece or config.max_chunk or USUAL_CHUNK) if spec.may_be_cut else None,
        max_pending_per_session=config.max_pending_per_session,
        max_pending=config.max_pending,
        max_pending_bytes=config.max_pending_bytes,
        max_remembered_bytes=config.max_remembered_bytes,
        instances=spec.instances,
        queueing=queueing_of(spec),
    )


class ServedModel:
    """One version of a model with its engine, and the home of its sessions."""

    def __init__(
        self,
        spec: ModelSpec,
        engine: Engine,
        limits: Limits,
        on_closed: Callable[[Session], None],
        *,
        own_thread: bool | None = None,
    ) -> None:
        self.spec = spec
        self.inputs = {tensor.name: tensor for tensor in spec.inputs}
        self.only_input = spec.inputs[0].name if len(spec.inputs) == 1 else ""
        self.outputs = {tensor.name: tensor for tensor in spec.outputs}
        self.accepted: dict[Any, Any] = {}  # see `server.rpc.tensors.accept`
        self.may_be_cut = limits.max_chunk is not None
        self.states = {state.name: state for state in spec.states}
        self.constants = {constant.name: constant for constant in spec.constants}
        # from a request to the next, or is told which request is a sequence's first and last, or is
        # to be asked in sequences all the same
        self.keeps_something = bool(
            spec.states
            or spec.constants
            or spec.controls
            or spec.config.HasField("sequence_batching")
        )
        self.batched = spec.max_batch_size > 0  # whether tensors have a batch axis
        self.layout = Layout(
            {tensor.name: tensor.time_axis for tensor in spec.inputs},
            {tensor.name: tensor.time_axis for tensor in spec.outputs},
            tuple(
                Control(
                    control.tensor.name,
                    control.signal,
                    control.tensor.dtype,
                    control.tensor.shape,
                    control.false,
                    control.true,
                )
                for control in spec.controls
            ),
        )
        self.scheduler = Scheduler(self.layout, limits, on_closed)
        self.table = self.scheduler.table
        self.statistics = Statistics()
        self.driver = Driver(self.scheduler, engine, self.statistics, own_thread=own_thread)

    def check_batch_size(self, batch_size: int) -> None:
        """Raises InvalidRequest where no session can have so many rows."""
        largest = self.scheduler.limits.max_batch_size
        if not 1 <= batch_size <= largest:
            raise InvalidRequest(
                f"batch size must be 1{f' to {largest}' if largest > 1 else ''} for model "
                f"'{self.spec.name}', got {batch_size}"
            )

    def admit(self, session: Session) -> None:
        self.scheduler.admit(session)

    def submit_frame(self, frame: Frame) -> None:
        """Raises InvalidRequest or LimitReached; then nothing has changed."""
        try:
            self.scheduler.submit_frame(frame, time.monotonic())
        finally:
            self.driver.wake()

    def cancel_frame(self, frame: Frame) -> None:
        self.scheduler.cancel_frame(frame)
        self.driver.wake()

    def submit(self, session: Session, request: Request) -> None:
        try:
            self.scheduler.submit(session, request, time.monotonic())
        except LimitReached as error:
            self._submit_again(session, request, error)
        except RequestError:
            self._turn_away(session, request)
            raise
        finally:
            self.driver.wake()

    def _submit_again(self, session: Session, request: Request, error: LimitReached) -> None:
        """A model's queue is not full as long as the engine has time for some of it."""
        try:
            if not self.scheduler.minds_the_clock:
                raise error
            self.driver.look()
            self.scheduler.submit(session, request, time.monotonic())
        except RequestError:
            self._turn_away(session, request)
            if isinstance(request, Step):
                self.statistics.failed(0)
            raise

    def _turn_away(self, session: Session, request: Request) -> None:
        if request.start and not session.closed:
            self.scheduler.close(session)

    def hold(self, session: Session, request: Read) -> None:
        """Queue a request that is not for this engine: whatever the session is asked afterwards
        waits behind it until `release`. The session is idle and new, and closed if this fails.
        Raises LimitReached.
        """
        try:
            self.scheduler.hold(session, request, time.monotonic())
        except RequestError:
            self.scheduler.close(session)
            raise

    def release(self, session: Session, error: RequestError | None) -> None:
        """The request that held the session is done, or has failed."""
        self.scheduler.release(session, error, time.monotonic())
        self.driver.wake()

    def cancel(self, session: Session, request: Request) -> None:
        self.scheduler.cancel(session, request)
        self.driver.wake()

    def close(self, session: Session) -> None:
        self.scheduler.close(session)
        self.driver.wake()

    def stop(self) -> None:
        """Free what it takes on its device. It has no sessions any more, and gets none."""
        self.driver.stop()


def home_of(session: Session) -> ServedModel:
    """The model that a session runs on."""
    return cast("ServedModel", session.home)


class Serving:
    """Finds models and sessions for the two protocols, opens sessions, and lets them expire."""

    def __init__(self, max_sessions: int) -> None:
        self.sessions = Sessions(max_sessions)
        self.catalogue = Catalogue()
        self.regions = Regions()
        self.started = False
        self.draining = False
        self.empty = asyncio.Event()  # set while no session is open
        self.expired = 0  # sessions, so far
        self.traces = TraceSettings()
        self.empty.set()

    def add(self, model: ServedModel) -> None:
        self.catalogue.add(model)

    def models(self) -> Iterable[ServedModel]:
        """Those that take new sessions. May be asked from another thread while models are added."""
        return iter(self.catalogue)

    def model(self, name: str, version: str = "") -> ServedModel:
        """The given version of a model, or its latest. Raises ModelNotFound, ModelNotReady,
        InvalidRequest.
        """
        return self.catalogue.model(name, version)

    def open(
        self,
        model: ServedModel,
        *,
        id: Hashable = None,
        batch_size: int = 1,
        idle_ttl_s: float | None = None,
        token: str = "",
        replaces: Session | None = None,
    ) -> Session:
        """A new session, by an id that cannot be guessed unless one is given. The session that it
        `replaces` is closed once what was asked of it before is done.

        Raises InvalidRequest, ShuttingDown, SessionExists, LimitReached.
        """
        if self.draining:
            raise ShuttingDown("the server is shutting down and takes no new sessions")
        model.check_batch_size(batch_size)
        session = Session(
            secrets.token_urlsafe(16) if id is None else id,
            model,
            batch_size=batch_size,
            idle_ttl_s=model.spec.idle_s if idle_ttl_s is None else idle_ttl_s,
            now_s=time.monotonic(),
            token=token,
        )
        if replaces is not None and not replaces.closed:  # an END that waits may yet fail
            self._replace(replaces, session)
        else:
            self.sessions.add(session)
        self.empty.clear()
        return session

    def _replace(self, old: Session, new: Session) -> None:
        """Raises LimitReached; then `old` goes on, if it had work, as if nothing had been said."""
        close = Close()
        old.home.submit(old, close)
        try:
            self.sessions.add(new)
        except RequestError:
            old.home.cancel(old, close)
            raise

    def closed(self, session: Session) -> None:
        """A session has come to its end."""
        self.sessions.forget(session)
        if not len(self.sessions):
            self.empty.set()

    def end_all(self, model: ServedModel) -> int:
        """Close the sessions of a model that goes; how many those were."""
        left = [session for session in model.table.sessions if session is not None]
        version = f"version {model.spec.version} of model '{model.spec.name}'"
        for session in left:
            if not session.closed:
                self.sessions.end(session, f"was closed when {version} was unloaded")
        return len(left)

    def expire(self, at_most: int | None = None) -> int:
        """Close sessions that were idle too long; how many those were."""
        count = len(self.sessions.expire(time.monotonic(), at_most))
        self.expired += count
        return count

    async def idle(self) -> None:
        """Wait until every request has its answer."""
        for model in self.catalogue.everything():
            await model.driver.idle()

    def stop(self) -> None:
        """Let the engines' threads end."""
        for model in self.catalogue.everything():
            model.stop()
