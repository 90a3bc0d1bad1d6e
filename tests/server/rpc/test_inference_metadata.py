"""Open Inference: what a client asks before its first inference."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import grpc
import numpy as np
import pytest

from server.stubs.inference import grpc_service_pb2 as oip

SERVICE = oip.DESCRIPTOR.services_by_name["GRPCInferenceService"]


async def test_live_and_ready(rig: Any) -> None:
    assert (await rig.inference.ServerLive(oip.ServerLiveRequest())).live
    assert (await rig.inference.ServerReady(oip.ServerReadyRequest())).ready
    rig.serving.draining = True
    assert (await rig.inference.ServerLive(oip.ServerLiveRequest())).live
    assert not (await rig.inference.ServerReady(oip.ServerReadyRequest())).ready
    assert not (await rig.inference.ModelReady(oip.ModelReadyRequest(name="fold"))).ready


async def test_server_metadata(rig: Any) -> None:
    answer = await rig.inference.ServerMetadata(oip.ServerMetadataRequest())
    assert (answer.name, answer.version) == ("rnnserve", version("rnnserve"))
    # load generators collect statistics only where the extension is listed
    assert {"sequence", "statistics", "model_configuration"} <= set(answer.extensions)


@pytest.mark.parametrize(
    ("name", "number", "ready"),
    [
        ("fold", "", True),
        ("fold", "1", True),
        ("fold", "2", True),
        ("fold", "3", False),
        ("other", "", False),
        ("affine", "1", True),
    ],
)
async def test_model_ready(rig: Any, name: str, number: str, ready: bool) -> None:
    request = oip.ModelReadyRequest(name=name, version=number)
    assert (await rig.inference.ModelReady(request)).ready is ready


async def test_metadata_has_the_batch_axis_and_no_state(rig: Any) -> None:
    answer = await rig.inference.ModelMetadata(oip.ModelMetadataRequest(name="mixed"))
    described = {t.name: (t.datatype, list(t.shape)) for t in (*answer.inputs, *answer.outputs)}
    assert (answer.name, list(answer.versions)) == ("mixed", ["1"])
    assert answer.platform == "onnxruntime_onnx"
    # count_next is a state's new value and listed as an output on purpose
    assert described == {
        "x": ("FP32", [-1, 2]),
        "place": ("INT64", [-1]),
        "y": ("FP32", [-1, 2]),
        "count_next": ("INT64", [-1]),
    }


async def test_metadata_without_a_batch_axis(rig: Any) -> None:
    answer = await rig.inference.ModelMetadata(oip.ModelMetadataRequest(name="whole"))
    assert [list(t.shape) for t in (*answer.inputs, *answer.outputs)] == [[-1], [1]]


async def test_metadata_lists_all_versions_whichever_is_asked_for(rig: Any) -> None:
    for number in ("", "1", "2"):
        request = oip.ModelMetadataRequest(name="fold", version=number)
        assert list((await rig.inference.ModelMetadata(request)).versions) == ["1", "2"]


async def test_config_is_what_a_client_needs(rig: Any) -> None:
    answer = await rig.inference.ModelConfig(oip.ModelConfigRequest(name="fold"))
    config = answer.config
    assert (config.name, config.max_batch_size) == ("fold", 8)
    assert (config.platform, config.backend) == ("onnxruntime_onnx", "onnxruntime")
    assert [tensor.name for tensor in config.input] == ["x"]
    assert [tensor.name for tensor in config.output] == ["y"]
    assert config.version_policy.HasField("all")
    assert config.sequence_batching.max_sequence_idle_microseconds == 60_000_000
    assert config.sequence_batching.WhichOneof("strategy_choice") == "oldest"
    assert [state.input_name for state in config.sequence_batching.state] == ["h"]


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelConfig", "ModelStatistics"])
async def test_unknown_models_and_versions(rig: Any, method: str) -> None:
    ask = getattr(rig.inference, method)
    request = getattr(oip, f"{method}Request")
    error = await rig.refused(ask(request(name="other")), grpc.StatusCode.NOT_FOUND)
    assert error.details() == "Request for unknown model: 'other' is not found"
    error = await rig.refused(ask(request(name="fold", version="9")), grpc.StatusCode.NOT_FOUND)
    assert error.details() == "Request for unknown model: 'fold' version 9 is not found"
    for wrong in ("latest", "-1", "1.0", "²"):
        request_ = request(name="fold", version=wrong)
        await rig.refused(ask(request_), grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest")


async def test_a_version_of_thousands_of_digits(rig: Any) -> None:
    request = oip.ModelReadyRequest(name="fold", version="9" * 5000)
    assert not (await rig.inference.ModelReady(request)).ready


async def test_statistics_count_what_has_run(rig: Any) -> None:
    ask = rig.inference.ModelStatistics
    all_models = (await ask(oip.ModelStatisticsRequest())).model_stats
    assert {(m.name, m.version) for m in all_models} == {
        ("fold", "1"), ("fold", "2"), ("untold", "1"), ("mixed", "1"), ("affine", "1"),
        ("whole", "1"),
    }  # fmt: skip

    for start in (True, False):
        x = np.ones((3, 5, 2), np.int64)
        await rig.inference.ModelInfer(rig.infer("fold", {"x": x}, 1, start=start))
    failing = {"x": np.zeros((1, 2), np.float32), "place": np.array([7])}
    call = rig.inference.ModelInfer(rig.infer("mixed", failing, 1, start=True))
    await rig.refused(call, grpc.StatusCode.INVALID_ARGUMENT, "StepFailed")

    (fold,) = (await ask(oip.ModelStatisticsRequest(name="fold", version="2"))).model_stats
    stats = fold.inference_stats
    assert (fold.inference_count, stats.success.count, stats.fail.count) == (6, 2, 0)
    assert fold.execution_count == 4  # five timesteps are a run of four and one of one, twice
    assert stats.queue.count == 2
    compute = (stats.compute_input, stats.compute_infer, stats.compute_output)
    assert {part.count for part in compute} == {2}
    assert 0 < stats.compute_infer.ns <= stats.success.ns
    assert [(b.batch_size, b.compute_infer.count) for b in fold.batch_stats] == [(3, 4)]
    assert fold.last_inference > 1_600_000_000_000  # milliseconds
    (mixed,) = (await ask(oip.ModelStatisticsRequest(name="mixed"))).model_stats
    counts = (mixed.inference_stats.success.count, mixed.inference_stats.fail.count)
    assert (mixed.inference_count, *counts) == (0, 0, 1)
    versions = (await ask(oip.ModelStatisticsRequest(name="fold"))).model_stats
    assert [m.inference_stats.success.count for m in versions] == [0, 2]


@pytest.mark.parametrize("name", sorted(SERVICE.methods_by_name))
async def test_every_method_answers(rig: Any, name: str) -> None:
    """… or says what is wrong with an empty request, but not that there is no such method."""
    request = getattr(oip, SERVICE.methods_by_name[name].input_type.name)()
    call = getattr(rig.inference, name)
    if name == "ModelStreamInfer":
        (answer,) = [answer async for answer in call(iter([request]))]
        assert "unknown model" in answer.error_message
        return
    code = await call(request).code()
    cannot = name == "CudaSharedMemoryRegister"
    assert (code is grpc.StatusCode.UNIMPLEMENTED) == cannot
    assert code not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
