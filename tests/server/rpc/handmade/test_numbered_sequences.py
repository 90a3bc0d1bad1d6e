"""Numbered requests of sequences that have constants, or begin with the states of another."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

Code = grpc.StatusCode
X = np.array([[[1, 2], [3, 4], [5, 6]]])
GAIN, OTHER = np.array([[2, 3]]), np.array([[5, 7]])


def decoded(d: Any, gain: Any = GAIN, x: Any = X) -> Any:
    for time in range(x.shape[1]):
        d = 3 * d + x[:, time] * gain
    return d


async def run(
    rig: Any, step: int, gain: Any = None, x: Any = X, states_of: str = "", **options: Any
) -> Any:
    """The last timestep of one numbered inference of sequence 1 of "decoder"."""
    inputs = {"x": x} if gain is None else {"x": x, "gain": gain}
    message = rig.infer("decoder", inputs, 1, **options)
    message.parameters["rnnserve_step"].int64_param = step
    if states_of:
        message.parameters["rnnserve_states_of"].string_param = states_of
    return rig.outputs_of(await rig.inference.ModelInfer(message))["y"][:, -1]


async def encode(rig: Any, **options: Any) -> None:
    await rig.inference.ModelInfer(rig.infer("encoder", {"x": X}, 9, **options))


async def test_a_sequence_with_constants_from_start_to_end(rig: Any) -> None:
    d: Any = 1
    for step in (1, 2, 3):
        options = {"start": step == 1, "end": step == 3}
        gain = GAIN if step == 1 else None
        d = decoded(d)
        for _ in range(2):
            assert (await run(rig, step, gain, **options) == d).all()
    assert len(rig.serving.sessions) == 0


async def test_a_start_sent_again_does_not_begin_anew(rig: Any) -> None:
    await run(rig, 1, GAIN, start=True)
    (session,) = rig.serving.sessions
    assert (await run(rig, 1, GAIN, start=True) == decoded(1)).all()
    assert list(rig.serving.sessions) == [session]


async def test_constants_may_be_said_again(rig: Any) -> None:
    await run(rig, 1, GAIN, start=True)
    for gain in (None, GAIN, None):
        assert (await run(rig, 2, gain) == decoded(decoded(1))).all()
    call = run(rig, 2, OTHER)
    await rig.refused(call, Code.INVALID_ARGUMENT, "InvalidRequest")


async def test_a_start_with_other_constants_begins_anew(rig: Any) -> None:
    """Although its other inputs are the same."""
    await run(rig, 1, GAIN, start=True)
    assert (await run(rig, 1, OTHER, start=True) == decoded(1, OTHER)).all()
    assert (await run(rig, 2) == decoded(decoded(1, OTHER), OTHER)).all()


async def test_a_sequence_of_one_request_with_other_constants(rig: Any) -> None:
    """Although its other inputs are those of the one before, which is gone."""
    for gain in (GAIN, OTHER, GAIN):
        got = await run(rig, 1, gain, start=True, end=True)
        assert (got == decoded(1, gain)).all()


async def test_a_start_sent_again_while_it_runs(make_rig: Any) -> None:
    rig = await make_rig(hold="decoder")
    calls = [run(rig, 1, GAIN, start=True), run(rig, 1, GAIN, start=True), run(rig, 2)]
    under_way = [await rig.arrived(call, "decoder") for call in calls]
    sessions = len(rig.serving.sessions)
    rig.held["decoder"].released.set()
    first, again, second = [await call for call in under_way]
    assert sessions == 1
    assert (first == decoded(1)).all()
    assert (again == first).all()
    assert (second == decoded(first)).all()


async def begun_encoder(rig: Any) -> Any:
    """The state of sequence 9 of "encoder"."""
    await encode(rig, start=True)
    return decoded(0, 1)


async def test_a_start_with_the_states_of_another_sent_again(rig: Any) -> None:
    """It has begun with those that the other had then."""
    h = await begun_encoder(rig)
    first = await run(rig, 1, GAIN, start=True, states_of="encoder/9")
    assert (first == decoded(h)).all()
    await encode(rig)  # which goes on meanwhile
    assert (await run(rig, 1, GAIN, start=True, states_of="encoder/9") == first).all()
    assert (await run(rig, 2) == decoded(first)).all()


@pytest.mark.parametrize("end", [False, True])
async def test_steps_after_the_states_of_another(rig: Any, end: bool) -> None:
    h = await begun_encoder(rig)
    first = await run(rig, 1, GAIN, start=True, states_of="encoder/9")
    for _ in range(2):
        assert (await run(rig, 2, end=end) == decoded(first)).all()
    assert (first == decoded(h)).all()
    assert len(rig.serving.sessions) == 2 - end
