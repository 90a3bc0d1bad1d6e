"""SessionService, one call after the other."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb

Code = grpc.StatusCode
X = np.arange(1, 23).reshape(1, 11, 2)  # eleven timesteps: two pieces of four, and one of three


async def test_open_says_all_there_is_to_know(rig: Any) -> None:
    opened = await rig.sessions.OpenSession(pb.OpenSessionRequest(model_name="fold"))
    assert len(opened.session.session_id) >= 16
    assert len(opened.session.token) >= 24
    assert (opened.model_name, opened.model_version) == ("fold", "2")
    assert opened.model_digest == rig.serving.model("fold").spec.digest
    assert (opened.batch_size, opened.idle_ttl_s, opened.step) == (1, 60.0, 0)
    specs = [
        (s.name, s.datatype, list(s.shape), s.time_axis if s.HasField("time_axis") else None)
        for s in (*opened.inputs, *opened.outputs, *opened.states)
    ]
    assert specs == [
        ("x", "INT64", [-1, -1, 2], 1),
        ("y", "INT64", [-1, -1, 2], 1),
        ("h", "INT64", [-1, 2], None),
    ]


async def test_ids_and_tokens_are_all_different(rig: Any) -> None:
    keys = [await rig.open() for _ in range(20)]
    assert len({key.session_id for key in keys}) == len({key.token for key in keys}) == 20


async def test_versions_and_other_models(rig: Any) -> None:
    request = pb.OpenSessionRequest(model_name="fold", model_version="1")
    assert (await rig.sessions.OpenSession(request)).model_version == "1"
    opened = await rig.sessions.OpenSession(pb.OpenSessionRequest(model_name="mixed"))
    assert [spec.name for spec in opened.inputs] == ["x", "place"]
    assert [list(spec.shape) for spec in opened.states] == [[-1, 2], [-1]]


async def test_steps_in_any_portions_give_the_same(rig: Any) -> None:
    key = await rig.open()
    got, start = [], 0
    for number, length in enumerate((1, 4, 1, 5), start=1):
        answer = await rig.step(key, X[:, start : start + length], return_sequences=True)
        got.append(rig.array_of(answer.outputs[0]))
        assert (answer.step, len(answer.states)) == (number, 0)
        start += length
    assert (np.concatenate(got, axis=1) == rig.fold(X)).all()


async def test_without_return_sequences_only_the_last_timestep(rig: Any) -> None:
    key = await rig.open()
    (output,) = (await rig.step(key, X)).outputs
    assert (output.name, output.datatype, list(output.shape)) == ("y", "INT64", [1, 2])
    assert (rig.array_of(output) == rig.fold(X)[:, -1]).all()


async def test_outputs_without_time_are_returned_as_they_are(rig: Any) -> None:
    key = await rig.open("mixed")
    inputs = [rig.tensor("x", np.float32([[1, 2]])), rig.tensor("place", np.array([1]))]
    for flag in (False, True):
        request = pb.StepRequest(session=key, inputs=inputs, return_sequences=flag)
        outputs = rig.arrays_of((await rig.sessions.Step(request)).outputs)
        assert [outputs["y"].shape, outputs["count_next"].shape] == [(1, 2), (1,)]
    assert outputs["y"].tolist() == [[22, 44]]


async def test_return_state(rig: Any) -> None:
    key = await rig.open()
    answer = await rig.step(key, X, return_state=True)
    (state,) = answer.states
    assert (state.name, state.datatype, list(state.shape)) == ("h", "INT64", [1, 2])
    assert (rig.array_of(state) == rig.fold(X)[:, -1]).all()
    assert answer.step == 1
    assert list((await rig.states(key)).states) == [state]


async def test_a_name_may_be_left_out_where_there_is_only_one(rig: Any) -> None:
    key = await rig.open(initial_state=[rig.tensor("", np.array([[1, 1]]))])
    request = pb.StepRequest(session=key, inputs=[rig.tensor("", X[:, :1])])
    outputs = (await rig.sessions.Step(request)).outputs
    assert rig.array_of(outputs[0]).tolist() == [[4, 5]]
    key = await rig.open("mixed")
    request = pb.StepRequest(session=key, inputs=[rig.tensor("", np.float32([[1, 2]]))])
    await rig.refused(rig.sessions.Step(request), Code.INVALID_ARGUMENT)


async def test_rows(rig: Any) -> None:
    x = np.arange(3 * 7 * 2).reshape(3, 7, 2)
    h = np.arange(6).reshape(3, 2)
    key = await rig.open(batch_size=3, initial_state=[rig.tensor("h", h)])
    answer = await rig.step(key, x, return_sequences=True, return_state=True)
    expected = rig.fold(x, h)
    assert (rig.array_of(answer.outputs[0]) == expected).all()
    assert (rig.array_of(answer.states[0]) == expected[:, -1]).all()


async def test_initial_state_is_there_before_the_first_step(rig: Any) -> None:
    h = np.array([[2**62, -(2**62)]])
    key = await rig.open(initial_state=[rig.tensor("h", h)])
    answer = await rig.states(key)
    assert (rig.array_of(answer.states[0]) == h).all()
    assert answer.step == 0
    fresh = await rig.states(await rig.open())
    assert rig.array_of(fresh.states[0]).tolist() == [[0, 0]]


async def test_reset(rig: Any) -> None:
    key = await rig.open(initial_state=[rig.tensor("h", np.array([[9, 9]]))])
    await rig.step(key, X)
    answer = await rig.sessions.ResetStates(pb.ResetStatesRequest(session=key))
    assert answer.step == 1
    states = await rig.states(key)
    assert rig.array_of(states.states[0]).tolist() == [[0, 0]], "the model's initial state"
    h = np.array([[4, 5]])
    request = pb.ResetStatesRequest(session=key, states=[rig.tensor("h", h)])
    await rig.sessions.ResetStates(request)
    outputs = (await rig.step(key, X, return_sequences=True)).outputs
    assert (rig.array_of(outputs[0]) == rig.fold(X, h)).all()


async def test_set_and_get_are_inverse(rig: Any) -> None:
    one, other = await rig.open("mixed"), await rig.open("mixed")
    inputs = [rig.tensor("x", np.float32([[0.1, -0.0]])), rig.tensor("place", np.array([1]))]
    await rig.sessions.Step(pb.StepRequest(session=one, inputs=inputs))
    states = (await rig.states(one)).states
    answer = await rig.sessions.SetStates(pb.SetStatesRequest(session=other, states=states))
    assert answer.step == 0
    assert list((await rig.states(other)).states) == list(states)
    for key in (one, other):
        await rig.sessions.Step(pb.StepRequest(session=key, inputs=inputs))
    assert (await rig.states(other)).states == (await rig.states(one)).states


async def test_close(rig: Any) -> None:
    key = await rig.open()
    await rig.step(key, X)
    assert (await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))).step == 1
    for call in (rig.step(key, X), rig.states(key)):
        await rig.refused(call, Code.NOT_FOUND, "SessionNotFound")
    close = rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))
    await rig.refused(close, Code.NOT_FOUND, "SessionNotFound")
    assert len(rig.serving.sessions) == 0


async def test_close_runs_after_what_came_before_it(make_rig: Any) -> None:
    rig = await make_rig(hold="fold")
    key = await rig.open()
    steps = [await rig.arrived(rig.step(key, X[:, t : t + 1])) for t in range(3)]
    close = await rig.arrived(rig.sessions.CloseSession(pb.CloseSessionRequest(session=key)))
    late = rig.step(key, X)
    await rig.refused(late, Code.FAILED_PRECONDITION, "SessionClosed")
    rig.held["fold"].released.set()
    assert [answer.step for answer in await asyncio.gather(*steps)] == [1, 2, 3]
    assert (await close).step == 3


async def test_a_chosen_id(rig: Any) -> None:
    key = await rig.open(session_id="robot 7 ☃")
    assert key.session_id == "robot 7 ☃"
    assert len(key.token) >= 24, "knowing a name is not enough"
    before = await rig.states(key)
    again = rig.open(session_id="robot 7 ☃")
    await rig.refused(again, Code.ALREADY_EXISTS, "SessionExists")
    assert await rig.states(key) == before
    await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))
    new = await rig.open(session_id="robot 7 ☃")
    assert new.token != key.token
    await rig.refused(rig.states(key), Code.NOT_FOUND, "SessionNotFound")


async def test_steps_of_one_session_run_one_after_the_other(make_rig: Any) -> None:
    rig = await make_rig(hold="fold")
    key = await rig.open()
    calls = [await rig.arrived(rig.step(key, X[:, t : t + 1])) for t in range(11)]
    rig.held["fold"].released.set()
    answers = await asyncio.gather(*calls)
    assert [answer.step for answer in answers] == list(range(1, 12))
    outputs = [rig.array_of(answer.outputs[0])[0] for answer in answers]
    assert (np.stack(outputs) == rig.fold(X)[0]).all()


async def test_a_cancelled_step_has_not_happened(make_rig: Any) -> None:
    rig = await make_rig(hold="fold")
    key = await rig.open()
    first = await rig.arrived(rig.step(key, X[:, :1]))
    cancelled = await rig.arrived(rig.step(key, X))
    third = await rig.arrived(rig.step(key, X[:, 1:2]))
    cancelled.cancel()
    scheduler = rig.serving.model("fold").scheduler
    await rig.until(lambda: scheduler.pending == 2)
    rig.held["fold"].released.set()
    assert (await first).step == 1
    answer = await third
    assert answer.step == 2
    assert (rig.array_of(answer.outputs[0]) == rig.fold(X[:, :2])[:, -1]).all()


async def test_a_cancelled_opening_leaves_no_session(make_rig: Any) -> None:
    """Although it is done: only its answer waits for the engine, which others keep busy."""
    rig = await make_rig(hold="fold")
    key = await rig.open()
    step = await rig.arrived(rig.step(key, X[:, :1]))
    opening = asyncio.ensure_future(rig.open())
    await rig.until(lambda: len(rig.serving.sessions) == 2)
    opening.cancel()
    await rig.until(lambda: len(rig.serving.sessions) == 1)
    rig.held["fold"].released.set()
    assert (await step).step == 1
    assert rig.serving.model("fold").scheduler.ledger.reserved_rows == 1


async def test_idle_sessions_expire_and_say_so(rig: Any) -> None:
    key = await rig.open(idle_ttl_s=5.0, session_id="mine")
    other = await rig.open(idle_ttl_s=60.0)
    last_used_s = rig.serving.sessions.find("mine").last_used_s
    assert not rig.serving.sessions.expire(last_used_s + 4.9)
    await rig.states(key)  # any request counts as use
    used_s = rig.serving.sessions.find("mine").last_used_s
    assert not rig.serving.sessions.expire(last_used_s + 5.0)
    assert len(rig.serving.sessions.expire(used_s + 5.1)) == 1
    for call in (rig.states(key), rig.step(key, X)):
        error = await rig.refused(call, Code.FAILED_PRECONDITION, "SessionExpired")
        assert error.details().startswith("session 'mine' has expired after 5 s")
    stranger = pb.SessionKey(session_id="mine", token="guess")
    await rig.refused(rig.states(stranger), Code.NOT_FOUND, "SessionNotFound")
    await rig.states(other)
    assert (await rig.open(session_id="mine")).session_id == "mine"


async def test_a_model_without_states_in_a_session(rig: Any) -> None:
    key = await rig.open("affine")
    request = pb.StepRequest(session=key, inputs=[rig.tensor("x", np.float32([[1, 2]]))])
    for number in (1, 2):
        answer = await rig.sessions.Step(request)
        assert rig.array_of(answer.outputs[0]).tolist() == [[3, 5]]
        assert answer.step == number
    assert not (await rig.states(key)).states
    assert (await rig.sessions.ResetStates(pb.ResetStatesRequest(session=key))).step == 2


@pytest.mark.parametrize("model", ["fold", "mixed"])
async def test_set_states_without_states_is_no_reset(rig: Any, model: str) -> None:
    key = await rig.open(model)
    call = rig.sessions.SetStates(pb.SetStatesRequest(session=key))
    await rig.refused(call, Code.INVALID_ARGUMENT, "InvalidRequest")


async def list_pages(rig: Any, **request: Any) -> list[list[Any]]:
    pages: list[list[Any]] = []
    token = ""
    while token or not pages:
        message = pb.ListSessionsRequest(page_token=token, **request)
        answer = await rig.sessions.ListSessions(message)
        pages.append(list(answer.sessions))
        token = answer.next_page_token
    return pages


async def test_list_what_there_is(rig: Any) -> None:
    assert await list_pages(rig) == [[]]
    key = await rig.open(session_id="b", batch_size=2, idle_ttl_s=7.0)
    await rig.step(key, np.zeros((2, 1, 2)))
    await rig.open("mixed", session_id="a")
    ((a, b),) = await list_pages(rig)
    assert (a.session_id, a.model_name, a.step) == ("a", "mixed", 0)
    assert (b.session_id, b.model_name, b.model_version, b.batch_size) == ("b", "fold", "2", 2)
    assert (b.step, b.idle_ttl_s) == (1, 7.0)
    assert 0 <= b.idle_s < 5
    assert key.token not in str(b)
    assert [info.session_id for info in (await list_pages(rig, model_name="fold"))[0]] == ["b"]


async def test_pages(rig: Any) -> None:
    names = {f"s{number}" for number in range(7)}
    for name in names:
        await rig.open(session_id=name)
    await rig.open("mixed", session_id="s3½")
    pages = await list_pages(rig, page_size=3, model_name="fold")
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [info.session_id for page in pages for info in page] == sorted(names)
    assert [len(page) for page in await list_pages(rig, page_size=4)] == [4, 4]
    assert [len(page) for page in await list_pages(rig, page_size=2**32 - 1)] == [8]


async def test_sequences_of_the_other_protocol_are_listed_each_once(rig: Any) -> None:
    """Ids there count within a model's version, so equal ones may stand for different sequences."""
    for version in ("1", "2"):
        for sequence in (1, "1"):
            request = rig.infer("fold", {"x": X}, sequence, start=True, model_version=version)
            await rig.inference.ModelInfer(request)
    await rig.open(session_id="1")
    rows = [info for page in await list_pages(rig, page_size=1) for info in page]
    assert len(rows) == len({info.session_id for info in rows}) == 5


async def test_requests_without_a_session_are_not_listed(make_rig: Any) -> None:
    rig = await make_rig(hold="affine")
    request = rig.infer("affine", {"x": np.zeros((1, 2), np.float32)})
    call = await rig.arrived(rig.inference.ModelInfer(request), "affine")
    assert await list_pages(rig) == [[]]
    rig.held["affine"].released.set()
    await call
