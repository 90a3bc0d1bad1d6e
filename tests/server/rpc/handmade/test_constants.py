"""What a session is given once, and every step then has."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT
X = np.array([[[1, 2], [3, 4], [5, 6]]])
ONE = np.array([[1, 1]])


def expected(x: Any, gain: Any, d: Any = 1) -> Any:
    """The last state of "decoder": (batch, 2)."""
    d = np.broadcast_to(np.asarray(d), (len(x), 2))
    for time in range(x.shape[1]):
        d = 3 * d + x[:, time] * gain
    return d


async def opened(rig: Any, gain: Any, **fields: Any) -> pb.SessionKey:
    constants = [rig.tensor("gain", np.asarray(gain))]
    return await rig.open("decoder", constants=constants, **fields)


async def last(rig: Any, key: pb.SessionKey, x: Any = X) -> Any:
    return rig.array_of((await rig.step(key, x)).outputs[0])


async def test_every_session_has_its_own(rig: Any) -> None:
    gains = [np.array([[n, -n]]) for n in range(1, 6)]
    keys = [await opened(rig, gain) for gain in gains]
    first = await asyncio.gather(*(last(rig, key) for key in keys))
    second = await asyncio.gather(*(last(rig, key) for key in keys))
    for gain, once, twice in zip(gains, first, second, strict=True):
        assert (once == expected(X, gain)).all()
        assert (twice == expected(X, gain, once)).all()


async def test_they_outlive_every_change_of_states(rig: Any) -> None:
    gain = np.array([[5, 7], [11, 13]])
    x = np.concatenate([X, X + 1])
    key = await opened(rig, gain, batch_size=2)
    assert (await last(rig, key, x) == expected(x, gain)).all()
    await rig.sessions.ResetStates(pb.ResetStatesRequest(session=key))
    assert (await last(rig, key, x) == expected(x, gain)).all()
    states = [rig.tensor("d", np.array([[1, 2], [3, 4]]))]
    for call, request in (
        (rig.sessions.ResetStates, pb.ResetStatesRequest(session=key, states=states)),
        (rig.sessions.SetStates, pb.SetStatesRequest(session=key, states=states)),
    ):
        await call(request)
        assert (await last(rig, key, x) == expected(x, gain, [[1, 2], [3, 4]])).all()


async def test_together_with_an_initial_state(rig: Any) -> None:
    key = await opened(rig, ONE * 3, initial_state=[rig.tensor("d", np.array([[8, 9]]))])
    assert (await last(rig, key) == expected(X, 3, [[8, 9]])).all()


async def test_listings_of_states_do_not_show_them(rig: Any) -> None:
    key = await opened(rig, ONE * 3)
    assert set(rig.arrays_of((await rig.states(key)).states)) == {"d"}
    answer = await rig.step(key, X, return_state=True)
    assert set(rig.arrays_of(answer.states)) == {"d"}
    request = pb.SetStatesRequest(session=key, states=[rig.tensor("gain", ONE)])
    error = await rig.refused(rig.sessions.SetStates(request), INVALID)
    assert "unexpected inference state 'gain'" in error.details()


async def test_the_answer_to_opening_describes_them(rig: Any) -> None:
    request = pb.OpenSessionRequest(model_name="decoder", constants=[rig.tensor("", ONE)])
    answer = await rig.sessions.OpenSession(request)
    described = await rig.sessions.DescribeModel(pb.DescribeModelRequest(model_name="decoder"))
    for message in (answer, described):
        assert [(c.name, c.datatype, list(c.shape)) for c in message.constants] == [
            ("gain", "INT64", [-1, 2])
        ]
        assert [tensor.name for tensor in message.inputs] == ["x", "mask"]
        assert [tensor.has_default for tensor in message.inputs] == [False, True]
        assert [tensor.name for tensor in message.states] == ["d"]
        assert not message.unbatched
    assert (described.max_batch_size, described.idle_ttl_s) == (8, 60)
    assert described.model_digest == answer.model_digest


@pytest.mark.parametrize(
    ("name", "array", "changes", "text"),
    [
        (None, ONE, {}, "model 'decoder' has the constants ['gain'], which a session gives"),
        ("loss", ONE, {}, "unexpected inference constant 'loss' for model 'decoder', which has"),
        ("gain", ONE.astype(np.float32), {}, "inference constant 'gain' data-type is 'FP32', but "),
        ("gain", np.array([1, 1]), {}, "unexpected shape for constant 'gain' for model 'decoder'. "
         "Expected [1,2], got [2]"),
        ("gain", np.concatenate([ONE, ONE]), {}, "Expected [1,2], got [2,2]"),
        ("gain", ONE, {"contents": b"1"}, "constant byte size mismatch for constant 'gain' for "
         "model 'decoder'. Expected 16, got 1"),
    ],
)  # fmt: skip
async def test_what_does_not_fit_opens_no_session(
    rig: Any, name: str | None, array: Any, changes: Any, text: str
) -> None:
    constants = [] if name is None else [rig.tensor(name, array, **changes)]
    error = await rig.refused(rig.open("decoder", constants=constants), INVALID, "InvalidRequest")
    assert text in error.details()
    assert len(rig.serving.sessions) == 0


async def test_given_twice_or_to_a_model_without_any(rig: Any) -> None:
    gain = rig.tensor("gain", ONE)
    error = await rig.refused(rig.open("decoder", constants=[gain, gain]), INVALID)
    assert error.details() == "constant 'gain' for model 'decoder' is given twice"
    error = await rig.refused(rig.open("encoder", constants=[gain]), INVALID)
    assert "which has []" in error.details()


async def test_in_a_stream_steps_may_follow_at_once(rig: Any) -> None:
    call = rig.sessions.Stream()
    open_ = pb.OpenSessionRequest(model_name="decoder", constants=[rig.tensor("gain", ONE * 2)])
    await call.write(pb.StreamRequest(request_id=1, session=1, open=open_))
    step = pb.StepRequest(inputs=[rig.tensor("x", X)])
    await call.write(pb.StreamRequest(request_id=2, session=1, step=step))
    reset = pb.ResetStatesRequest()
    await call.write(pb.StreamRequest(request_id=3, session=1, reset=reset))
    await call.write(pb.StreamRequest(request_id=4, session=1, step=step))
    await call.done_writing()
    answers = {answer.request_id: answer async for answer in call}
    for number in (2, 4):
        assert (rig.array_of(answers[number].step.outputs[0]) == expected(X, 2)).all()
    assert [constant.name for constant in answers[1].open.constants] == ["gain"]
