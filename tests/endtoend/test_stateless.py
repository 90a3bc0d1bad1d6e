"""A plain network, exported and served: requests without a sequence id, many rows at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import torch

import export
import models
from server.stubs.inference import grpc_service_pb2, grpc_service_pb2_grpc

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture(scope="module")
def network() -> models.Sequential:
    torch.manual_seed(0)
    layers = [models.Dense(16, activation="relu"), models.Dense(10, activation="softmax")]
    model = models.Sequential(layers, "pixels", "probabilities", name="digits")
    model.build((None, 64))
    return model


@pytest.fixture(scope="module")
def address(network: models.Sequential, start: Any, tmp_path_factory: Any) -> str:
    repository: Path = tmp_path_factory.mktemp("stateless")
    export.install(network, repository)
    address: str = start(repository).wait_until_serving().grpc
    return address


def infer(address: str, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    tensor = grpc_service_pb2.ModelInferRequest.InferInputTensor(
        name="pixels", datatype="FP32", shape=pixels.shape
    )
    request = grpc_service_pb2.ModelInferRequest(
        model_name="digits", inputs=[tensor], raw_input_contents=[pixels.tobytes()]
    )
    with grpc.insecure_channel(address) as channel:
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(request, timeout=10)
    raw = np.frombuffer(answer.raw_output_contents[0], np.float32)
    return raw.reshape(tuple(answer.outputs[0].shape))


@pytest.mark.parametrize("rows", [1, 33])
def test_answers_are_those_of_torch(address: str, network: models.Sequential, rows: int) -> None:
    pixels = np.random.default_rng(rows).uniform(size=(rows, 64)).astype(np.float32)

    probabilities = infer(address, pixels)

    with torch.inference_mode():
        expected = network(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-6)


def test_requests_know_nothing_of_each_other(address: str) -> None:
    pixels = np.random.default_rng(0).uniform(size=(1, 64)).astype(np.float32)

    first, second = infer(address, pixels), infer(address, pixels)

    assert np.array_equal(first, second)
