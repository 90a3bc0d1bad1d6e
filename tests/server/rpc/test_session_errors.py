"""SessionService: every refusal has its code, its kind and its text, and changes nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb

Code = grpc.StatusCode
X = np.array([[[1, 2]]])
H = np.array([[3, 4]])

# what is wrong with the inputs of a step: tensors as (name, array, changes), the text
STEPS = {
    "wrong datatype": (
        [("x", X.astype(np.float32), {})],
        "inference input 'x' data-type is 'FP32', but model 'fold' expects 'INT64'",
    ),
    "unknown datatype": (
        [("x", X, {"datatype": "INT65"})],
        "inference input 'x' data-type is 'INT65', but model 'fold' expects 'INT64'",
    ),
    "too many features": (
        [("x", np.zeros((1, 1, 3), np.int64), {})],
        "unexpected shape for input 'x' for model 'fold'. Expected [-1,-1,2], got [1,1,3]",
    ),
    "no timesteps": (
        [("x", np.zeros((1, 0, 2), np.int64), {})],
        "unexpected shape for input 'x' for model 'fold'. Expected [-1,-1,2], got [1,0,2]",
    ),
    "negative shape": (
        [("x", X, {"shape": [-1, -1, 2]})],
        "unexpected shape for input 'x' for model 'fold'. Expected [-1,-1,2], got [-1,-1,2]",
    ),
    "huge shape": (
        [("x", X, {"shape": [2**62, 2**62, 2]})],
        "input byte size mismatch for input 'x' for model 'fold'. Expected ",
    ),
    "too few bytes": (
        [("x", X, {"contents": b"\0" * 15})],
        "input byte size mismatch for input 'x' for model 'fold'. Expected 16, got 15",
    ),
    "too many bytes": (
        [("x", X, {"contents": b"\0" * 17})],
        "input byte size mismatch for input 'x' for model 'fold'. Expected 16, got 17",
    ),
    "unknown name": (
        [("z", X, {})],
        "unexpected inference input 'z' for model 'fold'",
    ),
    "a state": (
        [("x", X, {}), ("h", H, {})],
        "unexpected inference input 'h' for model 'fold'",
    ),
    "nothing": (
        [],
        "expected 1 inputs but got 0 inputs for model 'fold'. Got input(s) [], but missing "
        "required input(s) ['x'].",
    ),
    "twice the same": (
        [("x", X, {}), ("x", X, {})],
        "input 'x' for model 'fold' is given twice",
    ),
    "another batch size": (
        [("x", np.zeros((2, 1, 2), np.int64), {})],
        "session 'mine' has batch size 1, but the inputs have 2",
    ),
}
STATES = {
    "wrong datatype": (
        [("h", H.astype(np.float32), {})],
        "inference state 'h' data-type is 'FP32', but model 'fold' expects 'INT64'",
    ),
    "wrong shape": (
        [("h", H[0], {})],
        "unexpected shape for state 'h' for model 'fold'. Expected [1,2], got [2]",
    ),
    "another batch size": (
        [("h", np.zeros((2, 2), np.int64), {})],
        "unexpected shape for state 'h' for model 'fold'. Expected [1,2], got [2,2]",
    ),
    "too few bytes": (
        [("h", H, {"contents": b""})],
        "state byte size mismatch for state 'h' for model 'fold'. Expected 16, got 0",
    ),
    "unknown name": (
        [("c", H, {})],
        "unexpected inference state 'c' for model 'fold'",
    ),
    "twice the same": (
        [("h", H, {}), ("h", H, {})],
        "state 'h' for model 'fold' is given twice",
    ),
}


@pytest.fixture
async def key(rig: Any) -> Any:
    """A session that has a state and a step count to lose."""
    key = await rig.open(session_id="mine", initial_state=[rig.tensor("h", H)])
    await rig.step(key, X)
    return key


def tensors(rig: Any, case: Any) -> list[pb.Tensor]:
    return [rig.tensor(name, array, **changes) for name, array, changes in case]


@pytest.mark.parametrize("case", STEPS)
async def test_a_step_that_is_refused(rig: Any, key: Any, case: str) -> None:
    inputs, text = STEPS[case]
    before = await rig.snapshot()
    call = rig.sessions.Step(pb.StepRequest(session=key, inputs=tensors(rig, inputs)))
    error = await rig.refused(call, Code.INVALID_ARGUMENT, "InvalidRequest")
    assert error.details().startswith(text)
    assert await rig.snapshot() == before


@pytest.mark.parametrize("case", STATES)
@pytest.mark.parametrize("method", ["SetStates", "ResetStates"])
async def test_states_that_are_refused(rig: Any, key: Any, method: str, case: str) -> None:
    states, text = STATES[case]
    before = await rig.snapshot()
    request = getattr(pb, f"{method}Request")(session=key, states=tensors(rig, states))
    call = getattr(rig.sessions, method)(request)
    error = await rig.refused(call, Code.INVALID_ARGUMENT, "InvalidRequest")
    assert error.details().startswith(text)
    assert await rig.snapshot() == before


@pytest.mark.parametrize("case", STATES)
async def test_initial_states_that_are_refused(rig: Any, case: str) -> None:
    states, text = STATES[case]
    error = await rig.refused(
        rig.open(initial_state=tensors(rig, states)), Code.INVALID_ARGUMENT, "InvalidRequest"
    )
    assert error.details().startswith(text)
    assert len(rig.serving.sessions) == 0


async def test_some_of_the_states_are_not_enough(rig: Any) -> None:
    key = await rig.open("mixed")
    before = await rig.snapshot()
    states = [rig.tensor("count", np.array([1]))]
    call = rig.sessions.SetStates(pb.SetStatesRequest(session=key, states=states))
    error = await rig.refused(call, Code.INVALID_ARGUMENT, "InvalidRequest")
    assert error.details().startswith("expected the states ['total', 'count'] of model 'mixed'")
    assert await rig.snapshot() == before


OPENS: dict[str, tuple[dict[str, Any], grpc.StatusCode, str, str]] = {
    "unknown model": (
        {"model_name": "other"}, Code.NOT_FOUND, "ModelNotFound",
        "Request for unknown model: 'other' is not found",
    ),
    "no model": (
        {"model_name": ""}, Code.NOT_FOUND, "ModelNotFound",
        "Request for unknown model: '' is not found",
    ),
    "unknown version": (
        {"model_version": "7"}, Code.NOT_FOUND, "ModelNotFound",
        "Request for unknown model: 'fold' version 7 is not found",
    ),
    "no version": (
        {"model_version": "v1"}, Code.INVALID_ARGUMENT, "InvalidRequest",
        "model version must be a whole number, got 'v1'",
    ),
    "too many rows": (
        {"batch_size": 9}, Code.INVALID_ARGUMENT, "InvalidRequest",
        "batch size must be 1 to 8 for model 'fold', got 9",
    ),
    "very many rows": (
        {"batch_size": 2**32 - 1}, Code.INVALID_ARGUMENT, "InvalidRequest",
        "batch size must be 1 to 8 for model 'fold', got 4294967295",
    ),
    "negative time": (
        {"idle_ttl_s": -1.0}, Code.INVALID_ARGUMENT, "InvalidRequest", "idle_ttl_s must be",
    ),
    "no time": (
        {"idle_ttl_s": float("nan")}, Code.INVALID_ARGUMENT, "InvalidRequest", "idle_ttl_s must be",
    ),
    "endless time": (
        {"idle_ttl_s": float("inf")}, Code.INVALID_ARGUMENT, "InvalidRequest", "idle_ttl_s must be",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OPENS)
async def test_a_session_that_is_refused(rig: Any, case: str) -> None:
    changes, code, kind, text = OPENS[case]
    request = pb.OpenSessionRequest(**({"model_name": "fold"} | changes))
    error = await rig.refused(rig.sessions.OpenSession(request), code, kind)
    assert error.details().startswith(text)
    assert len(rig.serving.sessions) == 0


CALLS = ["Step", "GetStates", "SetStates", "ResetStates", "CloseSession"]


@pytest.mark.parametrize("method", CALLS)
async def test_only_who_has_the_token_gets_in(rig: Any, key: Any, method: str) -> None:
    """Nor does the answer tell whether there is such a session."""
    before = await rig.snapshot()
    texts = set()
    for token in ("", "guess", key.token[:-1], key.token + "x", "ü"):
        wrong = pb.SessionKey(session_id="mine", token=token)
        call = getattr(rig.sessions, method)(getattr(pb, f"{method}Request")(session=wrong))
        texts.add((await rig.refused(call, Code.NOT_FOUND, "SessionNotFound")).details())
    missing = pb.SessionKey(session_id="nobody's", token=key.token)
    call = getattr(rig.sessions, method)(getattr(pb, f"{method}Request")(session=missing))
    error = await rig.refused(call, Code.NOT_FOUND, "SessionNotFound")
    assert texts == {error.details().replace('"nobody\'s"', "'mine'")}
    assert await rig.snapshot() == before


@pytest.mark.parametrize("method", CALLS)
async def test_no_key_at_all(rig: Any, key: Any, method: str) -> None:
    call = getattr(rig.sessions, method)(getattr(pb, f"{method}Request")())
    await rig.refused(call, Code.NOT_FOUND, "SessionNotFound")


async def test_sequences_of_the_other_protocol_cannot_be_taken_over(rig: Any) -> None:
    """They have no token, so nobody can hold it."""
    await rig.inference.ModelInfer(rig.infer("fold", {"x": X}, "seq", start=True))
    (info,) = (await rig.sessions.ListSessions(pb.ListSessionsRequest())).sessions
    for name in (info.session_id, "seq", "fold"):
        call = rig.states(pb.SessionKey(session_id=name, token=""))
        await rig.refused(call, Code.NOT_FOUND, "SessionNotFound")


async def test_a_step_that_the_model_cannot_take(rig: Any) -> None:
    """Part of the model has run, and "count" was written somewhere when the rest failed."""
    key = await rig.open("mixed")
    good = [rig.tensor("x", np.float32([[1, 2]])), rig.tensor("place", np.array([1]))]
    await rig.sessions.Step(pb.StepRequest(session=key, inputs=good))
    before = await rig.snapshot()
    bad = [good[0], rig.tensor("place", np.array([9]))]
    for flag in (False, True):
        request = pb.StepRequest(session=key, inputs=bad, return_state=flag)
        error = await rig.refused(rig.sessions.Step(request), Code.INVALID_ARGUMENT, "StepFailed")
        assert error.details().startswith("model 'mixed' failed: ")
        assert await rig.snapshot() == before
    answer = await rig.sessions.Step(pb.StepRequest(session=key, inputs=good))
    assert rig.arrays_of(answer.outputs)["y"].tolist() == [[22, 44]]


async def test_too_many_sessions(make_rig: Any) -> None:
    rig = await make_rig(max_sessions=4)
    keys = [await rig.open(batch_size=size) for size in (1, 2)]
    error = await rig.refused(rig.open(batch_size=2), Code.RESOURCE_EXHAUSTED, "LimitReached")
    assert float(dict(error.trailing_metadata())["retry-after-s"]) > 0
    keys.append(await rig.open())
    await rig.refused(rig.open(), Code.RESOURCE_EXHAUSTED, "LimitReached")
    await rig.sessions.CloseSession(pb.CloseSessionRequest(session=keys[1]))
    keys[1] = await rig.open(batch_size=2)
    for key in keys:
        await rig.states(key)


async def test_too_long_a_queue(make_rig: Any) -> None:
    rig = await make_rig(hold="fold", max_pending_per_session=3, max_pending=5)
    one, other = await rig.open(), await rig.open()
    calls = [await rig.arrived(rig.step(one, X)) for _ in range(3)]
    error = await rig.refused(rig.step(one, X), Code.RESOURCE_EXHAUSTED, "LimitReached")
    assert float(dict(error.trailing_metadata())["retry-after-s"]) > 0
    calls += [await rig.arrived(rig.step(other, X)) for _ in range(2)]
    await rig.refused(rig.step(other, X), Code.RESOURCE_EXHAUSTED, "LimitReached")
    rig.held["fold"].released.set()
    assert [answer.step for answer in await asyncio.gather(*calls)] == [1, 2, 3, 1, 2]
    assert (await rig.step(one, X)).step == 4


async def test_shutting_down(rig: Any, key: Any) -> None:
    rig.serving.draining = True
    await rig.refused(rig.open(), Code.UNAVAILABLE, "ShuttingDown")
    assert (await rig.step(key, X)).step == 2
    await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))
    assert rig.serving.empty.is_set()
