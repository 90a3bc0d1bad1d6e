"""Unary calls that one connection brings, one right behind the other, run in that order: over the
transport that a server has by default, whoever sends them, and next to whom.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb
from rnnserve.v1 import session_pb2_grpc
from server.stubs.inference import grpc_service_pb2 as oip
from server.stubs.inference import grpc_service_pb2_grpc
from tests.endtoend import load_models

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

BURSTS, CALLS = 200, 40
KEEP = np.array([[3]])  # odd: no step is ever forgotten


@pytest.fixture(scope="module")
def address(start: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    repository: Path = tmp_path_factory.mktemp("repository")
    load_models.write(repository)
    return str(start(repository).wait_until_serving().grpc)


def connected(address: str) -> grpc.Channel:
    """Calls that are made before are sent in any order."""
    channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
    grpc.channel_ready_future(channel).result(timeout=20)
    return channel


def drawn(seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What a burst sends, and what it is answered if nothing is swapped: (CALLS, 1, 2) both."""
    inputs = np.random.default_rng(seed).integers(-(2**40), 2**40, (CALLS, 1, 2))
    outputs, state = [], np.zeros((1, 2), np.int64)
    for x in inputs:
        state = KEEP * state + x
        outputs.append(state)
    return inputs, np.stack(outputs)


def inference(x: NDArray[np.int64], sequence: int, n: int) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name="recall", id=str(n))
    for name, array in (("x", x), ("keep", KEEP)):
        request.inputs.add(name=name, datatype="INT64", shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    request.parameters["sequence_id"].int64_param = sequence
    request.parameters["sequence_start"].bool_param = n == 0
    request.parameters["sequence_end"].bool_param = n == CALLS - 1
    return request


def bursts_of_inferences(channel: grpc.Channel, first: int, count: int) -> list[int]:
    """The bursts that came to something else, each a sequence from START to END."""
    infer = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
    wrong = []
    for sequence in range(first, first + count):
        inputs, expected = drawn(sequence)
        requests = [inference(x, sequence, n) for n, x in enumerate(inputs)]
        calls = [infer.future(request, timeout=60) for request in requests]
        got = [call.exception() or call.result().raw_output_contents[0] for call in calls]
        if got != [y.tobytes() for y in expected]:
            wrong.append(sequence)
    return wrong


def test_inferences(address: str) -> None:
    with connected(address) as channel:
        assert bursts_of_inferences(channel, 1, BURSTS) == []


def test_inferences_beside_each_other(address: str) -> None:
    """Several clients, each over a connection of its own, and their sequences share batches."""
    clients = 4

    def play(number: int) -> list[int]:
        with connected(address) as channel:
            return bursts_of_inferences(channel, 1000 * number, BURSTS // clients)

    with ThreadPoolExecutor(clients) as pool:
        assert list(pool.map(play, range(1, clients + 1))) == [[]] * clients


def test_steps_of_a_session(address: str) -> None:
    with connected(address) as channel:
        stub = session_pb2_grpc.SessionServiceStub(channel)
        key = stub.OpenSession(pb.OpenSessionRequest(model_name="recall")).session
        keep = pb.Tensor(name="keep", datatype="INT64", shape=KEEP.shape, contents=KEEP.tobytes())
        for seed in range(BURSTS):
            inputs, expected = drawn(seed)
            calls = []
            for x in inputs:
                tensor = pb.Tensor(name="x", datatype="INT64", shape=x.shape, contents=x.tobytes())
                step = pb.StepRequest(session=key, inputs=[tensor, keep])
                calls.append(stub.Step.future(step, timeout=60))
            got = [call.result().outputs[0].contents for call in calls]
            assert got == [y.tobytes() for y in expected], f"burst {seed}"
            stub.ResetStates(pb.ResetStatesRequest(session=key))
        stub.CloseSession(pb.CloseSessionRequest(session=key))
