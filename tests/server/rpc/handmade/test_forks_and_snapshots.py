"""Whatever a session has, a fork of it has, too, and so has what is restored: constants, states of
every type, no batch axis, and that it has not begun.
"""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb
from tests.server.rpc.wire import all_rows_are_free

X = np.array([[[1, 2], [3, 4], [5, 6]]])
GAIN = np.array([[2, 3]])
WAYS = ["Fork", "Restore"]


async def another(rig: Any, key: pb.SessionKey, way: str) -> pb.SessionKey:
    """A session that goes on from there."""
    if way == "Fork":
        return (await rig.sessions.Fork(pb.ForkRequest(session=key))).session
    stored = await rig.sessions.Snapshot(pb.SnapshotRequest(session=key))
    restored = await rig.sessions.Restore(pb.RestoreRequest(snapshot=stored.snapshot))
    assert (restored.step, restored.model_name) == (stored.step, stored_model(stored))
    return restored.session


def stored_model(stored: pb.SnapshotResponse) -> str:
    return pb.SnapshotContents.FromString(stored.snapshot[24:]).model_name


def decoded(d: Any, x: Any = X, gain: Any = GAIN) -> Any:
    for time in range(x.shape[1]):
        d = 3 * d + x[:, time] * gain
    return d


async def last(rig: Any, key: pb.SessionKey, x: Any = X, **flags: Any) -> Any:
    return rig.arrays_of((await rig.step(key, x, **flags)).outputs)["y"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("begun", [False, True])
async def test_constants(rig: Any, way: str, begun: bool) -> None:
    """They survive the session that gave them, and a reset."""
    key = await rig.open("decoder", constants=[rig.tensor("gain", GAIN)])
    d: Any = 1
    if begun:
        d = await last(rig, key)
    other = await another(rig, key, way)
    third = await another(rig, other, way)
    await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))
    for each in (other, third):
        assert (await last(rig, each) == decoded(d)).all()
        await rig.sessions.ResetStates(pb.ResetStatesRequest(session=each))
        assert (await last(rig, each) == decoded(1)).all()
        await rig.sessions.CloseSession(pb.CloseSessionRequest(session=each))
    assert all_rows_are_free(rig, "decoder")


@pytest.mark.parametrize("way", WAYS)
async def test_several_rows_with_constants_of_their_own(rig: Any, way: str) -> None:
    gain, x = np.array([[2, 3], [-1, 5], [7, 0]]), np.concatenate([X, -X, X + 1])
    key = await rig.open("decoder", batch_size=3, constants=[rig.tensor("gain", gain)])
    d = await last(rig, key, x)
    other = await another(rig, key, way)
    for each in (other, key):
        assert (await last(rig, each, x) == decoded(d, x, gain)).all()


@pytest.mark.parametrize("way", WAYS)
async def test_no_batch_axis(rig: Any, way: str) -> None:
    key = await rig.open("alone", constants=[rig.tensor("key", np.array(2))])
    inputs = [rig.tensor("x", X[0])]
    request = pb.StepRequest(session=key, inputs=inputs, return_state=True)
    before = await rig.sessions.Step(request)
    other = await another(rig, key, way)
    assert (await rig.states(other)).states == before.states
    here = await rig.sessions.Step(request)
    request.session.CopyFrom(other)
    assert await rig.sessions.Step(request) == here


@pytest.mark.parametrize("way", WAYS)
async def test_states_of_several_types(rig: Any, way: str) -> None:
    constants = [
        rig.tensor("bias", np.float16([[0.25, 2]])),
        rig.tensor("flags", np.array([[True, False, True]])),
    ]
    key = await rig.open("mixed", constants=constants)
    request = pb.StepRequest(session=key, return_state=True)
    await rig.sessions.Step(request)
    other = await another(rig, key, way)
    assert (await rig.states(other)) == (await rig.states(key))
    here = await rig.sessions.Step(request)
    request.session.CopyFrom(other)
    assert await rig.sessions.Step(request) == here


# ---- whether it has begun: "starts" begins with 1000 then ---------------------------------------


def started(x: Any = X) -> Any:
    return decoded(1000, x, 1)


@pytest.mark.parametrize("way", WAYS)
async def test_of_a_session_that_has_not_begun(rig: Any, way: str) -> None:
    key = await rig.open("starts")
    other = await another(rig, key, way)
    for each in (key, other):
        assert (await last(rig, each) == started()).all()
        assert (await last(rig, each) == decoded(started(), X, 1)).all()


@pytest.mark.parametrize("way", WAYS)
async def test_of_a_session_that_has_begun(rig: Any, way: str) -> None:
    key = await rig.open("starts")
    await last(rig, key)
    other = await another(rig, key, way)
    for each in (key, other):
        assert (await last(rig, each) == decoded(started(), X, 1)).all()


@pytest.mark.parametrize("way", WAYS)
async def test_of_a_session_that_was_given_states(rig: Any, way: str) -> None:
    key = await rig.open("starts", initial_state=[rig.tensor("h", GAIN)])
    other = await another(rig, key, way)
    assert (await last(rig, other) == decoded(GAIN, X, 1)).all()


@pytest.mark.parametrize("way", WAYS)
async def test_of_a_session_that_was_reset(rig: Any, way: str) -> None:
    key = await rig.open("starts")
    await last(rig, key)
    await rig.sessions.ResetStates(pb.ResetStatesRequest(session=key))
    other = await another(rig, key, way)
    assert (await last(rig, other, step=2) == started()).all()


async def test_to_peek_is_not_to_begin(rig: Any) -> None:
    key = await rig.open("starts")
    for _ in range(2):
        assert (await last(rig, key, peek=True) == started()).all()
    assert (await last(rig, key) == started()).all()
    assert (await last(rig, key, peek=True) == decoded(started(), X, 1)).all()


async def test_a_retry_of_the_first_step_is_not_to_begin_again(rig: Any) -> None:
    key = await rig.open("starts")
    for _ in range(2):
        assert (await last(rig, key, step=1) == started()).all()
    assert (await last(rig, key, step=2) == decoded(started(), X, 1)).all()


async def test_constants_that_do_not_fit_the_model_any_more(rig: Any) -> None:
    """A snapshot is of one model: its digest says which."""
    key = await rig.open("decoder", constants=[rig.tensor("gain", GAIN)])
    stored = (await rig.sessions.Snapshot(pb.SnapshotRequest(session=key))).snapshot
    call = rig.sessions.Restore(pb.RestoreRequest(snapshot=stored, model_name="encoder"))
    await rig.refused(call, grpc.StatusCode.INVALID_ARGUMENT, "SnapshotRefused")
