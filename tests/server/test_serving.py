"""Which model and which session a request finds, and how sessions come and go."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from server.config import LimitsConfig
from server.core.requests import Read, Step, Stepped
from server.errors import (
    InvalidRequest,
    LimitReached,
    ModelNotFound,
    RequestError,
    SessionClosed,
    SessionExists,
    SessionExpired,
    ShuttingDown,
    StepFailed,
)
from server.repository.spec import ModelSpec, TensorSpec
from server.serving import ServedModel, Serving, home_of, limits_of
from server.stubs.inference.model_config_pb2 import ModelConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from numpy.typing import NDArray

    from server.core.session import Session

    MakeModel = Callable[..., ServedModel]


class EchoEngine:
    """`y = x`, without any state; an input of 13 fails."""

    def run(
        self, inputs: Mapping[str, NDArray[Any]], read: NDArray[Any], write: NDArray[Any]
    ) -> dict[str, NDArray[Any]]:
        if 13 in inputs["x"]:
            raise StepFailed("13 is no good")
        return {"y": inputs["x"]}

    def read(self, rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return {}

    def write(self, rows: NDArray[Any], states: Mapping[str, NDArray[Any]]) -> None:
        pass


def spec(name: str = "echo", version: int = 1, **changes: Any) -> ModelSpec:
    tensor = {"datatype": "FP32", "dtype": np.dtype(np.float32), "shape": (-1, -1), "time_axis": 1}
    fields: dict[str, Any] = {
        "onnx_path": Path("model.onnx"),
        "digest": "0",
        "max_batch_size": 4,
        "inputs": (TensorSpec(name="x", **tensor),),
        "outputs": (TensorSpec(name="y", **tensor),),
        "states": (),
        "constants": (),
        "idle_s": 20.0,
        "may_be_cut": True,
        "config": ModelConfig(),
    }
    return ModelSpec(name=name, version=version, **{**fields, **changes})


@pytest.fixture
async def serving() -> AsyncIterator[Serving]:
    serving = Serving(max_sessions=3)
    yield serving
    serving.stop()


@pytest.fixture
def add(serving: Serving) -> MakeModel:
    def add(name: str = "echo", version: int = 1, limits: Any = None, **changes: Any) -> Any:
        what = spec(name, version, **changes)
        bounds = limits_of(what, limits or LimitsConfig())
        model = ServedModel(what, EchoEngine(), bounds, serving.closed, own_thread=False)
        serving.add(model)
        return model

    return add


def ask(session: Session, value: float, **kwargs: Any) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    inputs = {"x": np.full((session.batch_size, 1), value, np.float32)}
    session.home.submit(session, Step(inputs=inputs, answer=future.set_result, **kwargs))
    return future


def hold(session: Session) -> Step:
    """Leave a step waiting, as if the engine were at another job."""
    step = Step(inputs={"x": np.zeros((session.batch_size, 1), np.float32)})
    home_of(session).scheduler.submit(session, step, 0.0)
    return step


def test_a_model_that_may_be_cut_has_chunks_and_others_have_not() -> None:
    config = LimitsConfig(max_chunk=7, max_sessions=9, max_pending=5, max_pending_per_session=2)
    limits = limits_of(spec(), config)
    assert (limits.max_batch_size, limits.max_rows, limits.max_chunk) == (4, 9, 7)
    assert (limits.max_pending, limits.max_pending_per_session) == (5, 2)
    assert limits_of(spec(may_be_cut=False), config).max_chunk is None
    assert limits_of(spec(max_batch_size=0), config).max_batch_size == 1


def test_a_models_instances_are_jobs_at_a_time() -> None:
    assert limits_of(spec(instances=3), LimitsConfig()).instances == 3


async def test_models_are_found_by_name_and_version(serving: Serving, add: MakeModel) -> None:
    two, ten, other = add("m", 2), add("m", 10), add("other", 1)
    assert serving.catalogue.versions("m") == [2, 10]
    assert serving.model("m") is ten  # the latest: by number, not by spelling
    assert serving.model("m", "2") is two
    assert serving.model("other", "1") is other
    assert list(serving.models()) == [two, ten, other]


async def test_models_may_be_added_while_metrics_are_read(serving: Serving, add: MakeModel) -> None:
    first = add("m", 1)
    seen = iter(serving.models())
    assert next(seen) is first
    add("m", 2)
    add("other", 1)
    assert list(seen) == []  # those from before


@pytest.mark.parametrize(
    ("name", "version", "error", "text"),
    [
        ("x", "", ModelNotFound, "Request for unknown model: 'x' is not found"),
        ("m", "3", ModelNotFound, "Request for unknown model: 'm' version 3 is not found"),
        ("m", "9" * 5000, ModelNotFound, "is not found"),
        ("m", "latest", InvalidRequest, "must be a whole number, got 'latest'"),
        ("m", "-1", InvalidRequest, "got '-1'"),
        ("m", "1.0", InvalidRequest, "got '1.0'"),
    ],
)
async def test_unknown_models_and_versions_are_said(
    serving: Serving, add: MakeModel, name: str, version: str, error: type, text: str
) -> None:
    add("m", 2)
    with pytest.raises(error, match=text):
        serving.model(name, version)


async def test_a_session_gets_an_id_that_cannot_be_guessed(
    serving: Serving, add: MakeModel
) -> None:
    model = add()
    one, two = serving.open(model), serving.open(model)
    assert one.id != two.id
    assert len(str(one.id)) >= 20
    assert one.idle_ttl_s == 20.0
    assert home_of(one) is model
    assert serving.open(model, id="ada", idle_ttl_s=5.0).idle_ttl_s == 5.0


@pytest.mark.parametrize("batch_size", [0, -1, 5])
async def test_a_batch_size_that_the_model_has_not_is_refused(
    serving: Serving, add: MakeModel, batch_size: int
) -> None:
    with pytest.raises(InvalidRequest, match=f"1 to 4 for model 'echo', got {batch_size}"):
        serving.open(add(), batch_size=batch_size)
    assert len(serving.sessions) == 0


async def test_no_new_sessions_while_draining(serving: Serving, add: MakeModel) -> None:
    model = add()
    old = serving.open(model, id="old")
    serving.draining = True
    with pytest.raises(ShuttingDown):
        serving.open(model)
    assert isinstance(await ask(old, 1), Stepped)
    with pytest.raises(ShuttingDown):
        serving.open(model, id="old", replaces=old)
    assert not old.ending


async def test_limits_hold_for_all_models_together(serving: Serving, add: MakeModel) -> None:
    a, b = add("a"), add("b")
    for model in (a, b, a):
        serving.open(model)
    with pytest.raises(LimitReached, match="3 sessions are open"):
        serving.open(b)
    for session in serving.sessions:
        session.home.close(session)
    assert serving.empty.is_set()
    serving.open(b)
    assert not serving.empty.is_set()


async def test_an_id_that_is_taken_is_refused(serving: Serving, add: MakeModel) -> None:
    model = add()
    serving.open(model, id="ada")
    with pytest.raises(SessionExists):
        serving.open(model, id="ada")


async def test_a_new_session_may_replace_an_idle_one(serving: Serving, add: MakeModel) -> None:
    model = add(limits=LimitsConfig(max_sessions=1))
    old = serving.open(model, id=1)
    new = serving.open(model, id=1, replaces=old)  # although there is room for one only
    assert old.closed
    assert list(serving.sessions) == [new]
    assert not serving.empty.is_set()


async def test_a_session_that_is_replaced_finishes_what_it_was_asked(
    serving: Serving, add: MakeModel
) -> None:
    model = add()
    old = serving.open(model, id=1)
    held = hold(old)
    new = serving.open(model, id=1, replaces=old)
    assert serving.sessions.find(1) is new
    assert isinstance(await ask(new, 1), Stepped)
    await serving.idle()
    assert (held.position, old.closed, new.closed) == (1, True, False)
    assert list(serving.sessions) == [new]


async def test_a_session_whose_end_fails_is_gone_once_it_is_replaced(
    serving: Serving, add: MakeModel
) -> None:
    model = add()
    old = serving.open(model, id=1)
    inputs = {"x": np.full((1, 1), 13, np.float32)}
    model.scheduler.submit(old, Step(inputs=inputs, end=True), 0.0)
    new = serving.open(model, id=1, replaces=old)
    await ask(new, 1)
    await serving.idle()
    assert old.closed
    assert model.scheduler.ledger.reserved_rows == 1


async def test_a_session_whose_replacement_is_refused_goes_on(
    serving: Serving, add: MakeModel
) -> None:
    model = add(limits=LimitsConfig(max_sessions=1))
    old = serving.open(model, id=1)
    hold(old)
    job = model.scheduler.next_job()  # the engine is at it
    with pytest.raises(LimitReached):
        serving.open(model, id=1, batch_size=2, replaces=old)
    assert job is not None
    model.scheduler.complete(job, {"y": np.zeros((1, 1))}, 0.0)
    assert not old.ending
    assert list(serving.sessions) == [old]
    assert (await ask(old, 1)).step == 2


async def test_what_closes_already_need_not_be_asked_to(serving: Serving, add: MakeModel) -> None:
    model = add()
    old = serving.open(model, id=1)
    hold(old)
    model.scheduler.next_job()
    model.close(old)
    assert serving.open(model, id=1, replaces=old) is serving.sessions.find(1)
    model.scheduler.ledger.pending = 0  # the job that was taken never ends


async def test_a_start_that_is_refused_leaves_no_session(serving: Serving, add: MakeModel) -> None:
    model = add(limits=LimitsConfig(max_pending=1))
    hold(serving.open(model))
    session = serving.open(model)
    with pytest.raises(LimitReached):
        ask(session, 1, start=True)
    assert session.closed
    assert len(serving.sessions) == 1
    await serving.idle()


async def test_a_queue_is_not_full_while_the_engine_is_idle(
    serving: Serving, add: MakeModel
) -> None:
    """However many come in one turn of the event loop: it is those whom the engine has no time for
    that wait.
    """
    config = ModelConfig()
    config.dynamic_batching.default_queue_policy.max_queue_size = 1
    model = add(config=config)
    sessions = [serving.open(model) for _ in range(3)]
    answers = [ask(sessions[place % 3], place) for place in range(9)]
    assert [(await answer).outputs["y"].item() for answer in answers] == list(range(9))


async def test_a_step_that_a_full_queue_refuses_counts_as_failed(
    serving: Serving, add: MakeModel
) -> None:
    config = ModelConfig()
    config.dynamic_batching.default_queue_policy.max_queue_size = 1
    config.dynamic_batching.max_queue_delay_microseconds = 60_000_000
    model = add(config=config)
    first, second = serving.open(model), serving.open(model)
    waiting = ask(first, 1)
    with pytest.raises(LimitReached, match="Exceeds maximum queue size"):
        ask(second, 2, start=True)
    assert second.closed
    assert model.statistics.fail.count == 1
    model.close(first)
    assert isinstance(await waiting, SessionClosed)


async def test_a_later_step_that_is_refused_leaves_the_session(
    serving: Serving, add: MakeModel
) -> None:
    model = add(limits=LimitsConfig(max_pending=1))
    session = serving.open(model)
    hold(session)
    with pytest.raises(LimitReached):
        ask(session, 1)
    assert not session.closed
    await serving.idle()


async def test_cancel_and_close_reach_the_callers(serving: Serving, add: MakeModel) -> None:
    session = serving.open(add())
    step = hold(session)
    session.home.cancel(session, step)
    await serving.idle()
    assert session.step == 0
    waiting: list[Any] = []
    step = hold(session)
    step.answer = waiting.append
    session.home.close(session)
    await asyncio.sleep(0)
    assert [type(result) for result in waiting] == [SessionClosed]
    assert serving.empty.is_set()


async def test_failures_stay_with_their_session(serving: Serving, add: MakeModel) -> None:
    model = add()
    good, bad = serving.open(model), serving.open(model)
    answers = await asyncio.gather(ask(good, 1), ask(bad, 13))
    assert [isinstance(answer, RequestError) for answer in answers] == [False, True]


async def test_expiry_counts_and_frees(serving: Serving, add: MakeModel) -> None:
    model = add()
    serving.open(model, id="short", idle_ttl_s=0.01)
    serving.open(model, id="long")
    await asyncio.sleep(0.03)
    assert serving.expire() == 1
    assert serving.expire() == 0
    assert serving.expired == 1
    assert len(serving.sessions) == 1
    with pytest.raises(SessionExpired):
        serving.sessions.get("short")


async def test_stop_ends_the_engines_threads(add: MakeModel, serving: Serving) -> None:
    model = add()
    serving.stop()
    assert not any(thread.is_alive() for thread in model.driver._threads)


def held(session: Session) -> list[Any]:
    """Where the result of a request will be that holds the session."""
    results: list[Any] = []
    wait = Read(answer=results.append, start=True)
    home_of(session).hold(session, wait)
    return results


async def test_a_session_that_is_held_answers_when_it_is_released(
    serving: Serving, add: MakeModel
) -> None:
    session, other = serving.open(add()), serving.open(serving.model("echo"))
    results = held(session)
    asked = [ask(session, value) for value in (1, 2)]
    assert (await ask(other, 3)).outputs["y"].tolist() == [[3]]  # nobody else is
    assert not results
    assert not any(future.done() for future in asked)
    home_of(session).release(session, None)
    assert [(await future).outputs["y"].tolist() for future in asked] == [[[1]], [[2]]]
    assert len(results) == 1


async def test_a_session_that_is_released_with_an_error_is_closed(
    serving: Serving, add: MakeModel
) -> None:
    session = serving.open(add())
    results = held(session)
    asked = ask(session, 1)
    error = StepFailed("on purpose")
    home_of(session).release(session, error)
    assert isinstance(await asked, SessionClosed)
    assert results == [error]
    assert len(serving.sessions) == 0


async def test_a_session_may_be_closed_while_it_is_held(serving: Serving, add: MakeModel) -> None:
    session = serving.open(add(), idle_ttl_s=0.001)
    held(session)
    await asyncio.sleep(0.01)
    assert serving.expire() == 0  # it is not idle
    asked = ask(session, 1)
    home_of(session).close(session)
    assert isinstance(await asked, SessionClosed)
    assert len(serving.sessions) == 1  # until then
    home_of(session).release(session, None)
    assert len(serving.sessions) == 0
    assert home_of(session).scheduler.pending == 0


async def test_a_session_that_cannot_be_held_is_closed(serving: Serving, add: MakeModel) -> None:
    session = serving.open(add(limits=LimitsConfig(max_pending=1)))
    hold(serving.open(serving.model("echo")))
    with pytest.raises(LimitReached):
        held(session)
    assert session.closed
