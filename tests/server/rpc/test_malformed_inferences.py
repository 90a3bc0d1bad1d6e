"""Requests for inferences that are wrong in one way or several: a clear answer, and every sequence
as it was unless the answer is OK.

`fuzz.reference` follows the sequences by itself; whatever a refused request had changed would show
in what the server answers afterwards.
"""

from __future__ import annotations

from random import Random
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from fuzz import inference, messages, mutation
from fuzz.reference import Key, Reference
from server.errors import RequestError
from server.rpc.inference import Inference
from server.rpc.status import code_of
from server.serving import home_of
from server.stubs.inference import grpc_service_pb2 as oip

CLEAR = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.FAILED_PRECONDITION,  # the wrong number
    grpc.StatusCode.OUT_OF_RANGE,  # an old number
}
MAX_MESSAGE_BYTES = 4 * 2**20  # of the rig's server
IDS = (1, 7, "7", 2**64 - 1)  # few: most requests are to meet a sequence that has begun
# one server for all examples: the more of them it has seen, the better
ONE_SERVER = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
EXAMPLES = settings(max_examples=150, deadline=None, suppress_health_check=ONE_SERVER)
MANY = settings(EXAMPLES, max_examples=800)
# each seed makes a request: an example that fails is made smaller by leaving requests out
seeds = st.integers(0, 2**32)
several = st.lists(seeds, min_size=1, max_size=16)


def some_request(seed: int) -> oip.ModelInferRequest:
    rng = Random(seed)
    request = inference.right(rng, IDS, "fold")
    if rng.random() < 0.6:
        inference.spoiled(rng, request)
    note(f"{request}"[:2000])
    return request


@pytest.fixture
def beginning(rig: Any) -> Any:
    """Begins an example; what another one has left that failed does not count."""

    def begin() -> Reference:
        for session in rig.serving.sessions:
            home_of(session).close(session)
        return Reference()

    return begin


async def judge(
    rig: Any, reference: Reference, request: oip.ModelInferRequest, before: Any
) -> None:
    """Send the request, and hold its answer against what is known."""
    call = rig.inference.ModelInfer(request)
    code = await call.code()
    if code is grpc.StatusCode.OK:
        reference.answered(request, await call)
    else:
        is_too_large = request.ByteSize() > MAX_MESSAGE_BYTES
        allowed = {grpc.StatusCode.RESOURCE_EXHAUSTED} if is_too_large else CLEAR
        assert code in allowed, (code, await call.details(), f"{request}"[:2000])
        assert await call.details()
        assert await rig.snapshot() == before


async def finish(rig: Any, reference: Reference) -> None:
    """Every sequence goes on exactly from where it was, and after its END nothing is left."""
    for key, known in list(reference.sequences.items()):
        if key not in reference.unclear:
            x = np.array([[[5, 6]]] * len(known.state))
            request = rig.infer("fold", {"x": x}, id="goes on", model_version=f"{key.version}")
            inference.in_sequence(request, key.id, end=True)
            reference.answered(request, await rig.inference.ModelInfer(request))
    for key in reference.unclear:
        await end(rig, key)
    assert not (left := [session.id for session in rig.serving.sessions]), left


async def end(rig: Any, key: Key) -> None:
    """Whatever state the sequence is in."""
    request = rig.infer("fold", {"x": np.array([[[0, 0]]])}, model_version=f"{key.version}")
    inference.in_sequence(request, key.id, start=True, end=True)
    await rig.inference.ModelInfer(request)


@given(several=several)
@EXAMPLES
async def test_calls(rig: Any, beginning: Any, several: list[int]) -> None:
    reference = beginning()
    for seed in several:
        await judge(rig, reference, some_request(seed), await rig.snapshot())
    await finish(rig, reference)


@given(several=several)
@EXAMPLES
async def test_in_a_stream(rig: Any, beginning: Any, several: list[int]) -> None:
    """All at once; the answers come in the order of the requests, and the stream stays open."""
    reference, stream = beginning(), rig.inference.ModelStreamInfer()
    requests = [some_request(seed) for seed in several]
    requests = [each for each in requests if each.ByteSize() < MAX_MESSAGE_BYTES]
    for request in requests:
        await stream.write(request)
    for request in requests:
        answer = await stream.read()
        if answer.error_message:
            assert answer.infer_response.id == request.id
            assert not answer.error_message.startswith("internal error"), request
        else:
            reference.answered(request, answer.infer_response)
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
    await finish(rig, reference)


@given(several=several)
@EXAMPLES
async def test_damaged_bytes(rig: Any, beginning: Any, several: list[int]) -> None:
    """A right request after some damage: what can still be read is judged as what it says now."""
    reference = beginning()
    send = rig.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    for seed in several:
        rng, before = Random(seed), await rig.snapshot()
        damaged = inference.right(rng, IDS, "fold").SerializeToString()
        if rng.random() < 0.6:
            damaged = mutation.mutated(rng, damaged)
        call = send(damaged)
        if await call.code() is grpc.StatusCode.OK:
            request = oip.ModelInferRequest.FromString(damaged)
            reference.answered(request, oip.ModelInferResponse.FromString(await call))
        else:
            assert await call.code() in CLEAR, (await call.details(), damaged)
            assert await rig.snapshot() == before
    await finish(rig, reference)


# ---- without the wire: many more of them, for models of other kinds ------------------------------


def right_ones(rig: Any) -> list[oip.ModelInferRequest]:
    """For each model, what it takes."""
    x, place = np.ones((2, 2), np.float32), np.array([0, 1])
    return [
        rig.infer("fold", {"x": np.ones((2, 3, 2), np.int64)}, 1, start=True),
        rig.infer("mixed", {"x": x, "place": place}, "a", start=True, outputs=("count_next", "y")),
        rig.infer("affine", {"x": x}),
        rig.infer("whole", {"x": np.arange(5)}),
    ]


def read(rig: Any, request: oip.ModelInferRequest) -> bool:
    """Whether the server takes the request; else it says clearly why not."""
    refused: RequestError | None = None
    try:
        Inference(rig.serving, request, "", lambda: rig.serving.regions)
    except RequestError as error:
        refused = error
    assert refused is None or (code_of(refused) in CLEAR and str(refused)), (refused, request)
    return refused is None


async def test_right_ones_are_right(rig: Any) -> None:
    assert all(read(rig, request) for request in right_ones(rig))


@given(seed=seeds)
@MANY
async def test_spoiled_requests_of_every_model(rig: Any, seed: int) -> None:
    rng = Random(seed)
    read(rig, inference.spoiled(rng, rng.choice(right_ones(rig)), at_most=2))
    assert len(rig.serving.sessions) == 0


@given(seed=seeds)
@MANY
async def test_any_request_at_all(rig: Any, seed: int) -> None:
    rng = Random(seed)
    request = messages.message(rng, oip.ModelInferRequest.DESCRIPTOR)
    request.model_name = rng.choice(("fold", "mixed", "affine", "whole"))
    read(rig, request)
    assert len(rig.serving.sessions) == 0


@given(seed=seeds)
@MANY
async def test_damaged_requests_of_every_model(rig: Any, seed: int) -> None:
    rng = Random(seed)
    damaged = mutation.mutated(rng, rng.choice(right_ones(rig)).SerializeToString())
    try:
        request = oip.ModelInferRequest.FromString(damaged)
    except DecodeError:
        return
    read(rig, request)
    assert len(rig.serving.sessions) == 0


@pytest.mark.parametrize("spoil", inference.SPOILS, ids=lambda spoil: spoil.__name__)
async def test_each_mistake_is_one(rig: Any, spoil: Any) -> None:
    """By itself it makes some requests wrong, or it would spoil nothing."""
    codes = set()
    for seed in range(40):
        request = right_ones(rig)[seed % 4]
        spoil(Random(seed), request)
        codes.add(await rig.inference.ModelInfer(request).code())
    wrong = codes - {grpc.StatusCode.OK}
    assert wrong <= CLEAR
    assert wrong or spoil.__name__ == "_request_id"  # which may be anything
