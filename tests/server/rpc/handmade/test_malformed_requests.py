"""Requests for models with constants, defaults, controls, several dtypes or no batch axis, right
but for a few mistakes: a clear answer, and every session as it was unless the answer is OK.
"""

from __future__ import annotations

from random import Random
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from fuzz import inference, mutation
from server.serving import home_of
from server.stubs.inference import grpc_service_pb2 as oip

CLEAR = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
}
MODELS = ("encoder", "decoder", "swap", "alone", "mixed", "starts", "shifted", "generator")
IDS = (1, "a")
ROWS, TIMESTEPS = 2, 3
MAX_MESSAGE_BYTES = 4 * 2**20  # of the rig's server
ONE_SERVER = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def right(rig: Any, name: str, rng: Random) -> oip.ModelInferRequest:
    """What the model takes, now and then without what may be left out."""
    model = rig.serving.model(name)
    request = oip.ModelInferRequest(model_name=name, id=f"{rng.random()}")
    for spec in model.spec.inputs:
        if spec.default is None or rng.random() < 0.5:
            shape = [
                ROWS if model.batched and axis == 0 else TIMESTEPS if size == -1 else size
                for axis, size in enumerate(spec.shape)
            ]
            add(request, spec, shape, rng)
    start = rng.random() < 0.5
    if start or rng.random() < 0.2:
        for spec in model.spec.constants:
            add(request, spec, [ROWS, *spec.shape] if model.batched else [*spec.shape], Random(7))
    inference.in_sequence(request, rng.choice(IDS), start=start, end=rng.random() < 0.1)
    return request


def add(request: oip.ModelInferRequest, spec: Any, shape: list[int], rng: Random) -> None:
    request.inputs.add(name=spec.name, datatype=spec.datatype, shape=shape)
    values = np.random.default_rng(rng.randrange(2**32)).integers(0, 2, shape)
    request.raw_input_contents.append(values.astype(spec.dtype).tobytes())


def some_request(rig: Any, name: str, seed: int) -> bytes:
    rng = Random(seed)
    request = right(rig, name, rng)
    kind = rng.random()
    if kind < 0.5:
        inference.spoiled(rng, request, at_most=2)
    note(f"{request}"[:2000])
    raw = request.SerializeToString()
    return mutation.mutated(rng, raw) if kind > 0.9 else raw


@pytest.mark.parametrize("name", MODELS)
@given(several=st.lists(st.integers(0, 2**32), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None, suppress_health_check=ONE_SERVER)
async def test_refused_clearly_and_without_a_trace(rig: Any, name: str, several: list[int]) -> None:
    for session in rig.serving.sessions:  # of the example before
        home_of(session).close(session)
    for seed in several:
        raw = some_request(rig, name, seed)
        before = await rig.snapshot()
        call = rig.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(raw)
        code = await call.code()
        if code is not grpc.StatusCode.OK and len(raw) < MAX_MESSAGE_BYTES:
            assert code in CLEAR, (code, await call.details())
            assert await call.details()
            assert await rig.snapshot() == before


@pytest.mark.parametrize("name", MODELS)
async def test_right_ones_are_right(rig: Any, name: str) -> None:
    """Or nothing would be learnt from those that were spoiled."""
    taken = 0
    for seed in range(40):
        request = right(rig, name, Random(seed))
        code = await rig.inference.ModelInfer(request).code()
        started = request.parameters["sequence_start"].bool_param
        assert code is grpc.StatusCode.OK or not started, request
        taken += code is grpc.StatusCode.OK
    assert taken > 20
