"""Whether two servers of the Open Inference Protocol answer the same to the same sequences."""

from __future__ import annotations

import grpc
import numpy as np

from bench.shapes import FEATURES
from server.stubs.inference import grpc_service_pb2 as oip
from server.stubs.inference import grpc_service_pb2_grpc

SEQUENCES, STEPS = 3, 20
TIMEOUT_S = 30.0


class Disagree(Exception):
    """The servers do not compute the same, so their speeds cannot be compared."""


def check(ours: str, theirs: str, model: str, tolerance: float = 1e-6) -> float:
    """The largest difference between outputs of several sequences sent in turns.

    Raises Disagree if it is more than `tolerance`, or if no output depends on the steps before.
    """
    random = np.random.default_rng(0)
    frames = random.standard_normal((STEPS, SEQUENCES, FEATURES)).astype(np.float32)
    frames[-1] = frames[0]  # the same input again, with another state
    a, b = (_outputs(address, model, frames) for address in (ours, theirs))
    difference = float(np.abs(a - b).max())
    if difference > tolerance:
        raise Disagree(f"outputs of {model} differ by up to {difference:.3g} between the servers")
    if np.allclose(a[0], a[-1], atol=1e-3):
        raise Disagree(f"{model} answers the same at the first step and the last: no state is kept")
    return difference


def _outputs(address: str, model: str, frames: np.ndarray) -> np.ndarray:
    """`(steps, sequences, units)` to `frames`, `(steps, sequences, features)`."""
    with grpc.insecure_channel(address) as channel:
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answers = [
            stub.ModelInfer(_request(model, i + 1, step, frame), timeout=TIMEOUT_S)
            for step, together in enumerate(frames)
            for i, frame in enumerate(together)
        ]
    contents = b"".join(answer.raw_output_contents[0] for answer in answers)
    return np.frombuffer(contents, np.float32).reshape(*frames.shape[:2], -1)


def _request(model: str, sequence: int, step: int, frame: np.ndarray) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name=model, raw_input_contents=[frame.tobytes()])
    request.inputs.add(name="frames", datatype="FP32", shape=(1, 1, FEATURES))
    request.parameters["sequence_id"].int64_param = sequence
    request.parameters["sequence_start"].bool_param = step == 0
    request.parameters["sequence_end"].bool_param = step == STEPS - 1
    return request
