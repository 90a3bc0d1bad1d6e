"""Loads and unloads that are wrong in some way: a clear answer, and the model serves on."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from server.stubs.inference import grpc_service_pb2 as oip

X = np.array([[[3, 4]]])
CLEAR = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNAVAILABLE,
}
NAMES = [
    *("", ".", "..", "/", "../a", "a/1", "a/../a", "/etc", "\0", "a\0", "nobody"),
    *("~", "*", "é" * 300, "x" * 100_000, "\n", " a"),
]
CONFIGS = [
    *("", "{", "[]", "5", "null", "true", '""', "NaN", "{}}", "\0", "\ufeff{}", '{"name": 5}'),
    *('{"nothing": 1}', '{"max_batch_size": 1e400}', '{"max_batch_size": -5}', '{"input": {}}'),
    *('{"max_batch_size": 9223372036854775808}', '{"name": "other"}', '{"backend": "python"}'),
    *('{"input": [{"dims": ["x"]}]}', '{"input": [{"data_type": 99}]}', '{"parameters": []}'),
    pytest.param("[" * 100_000, id="deep list"),
    pytest.param('{"a":' * 100_000, id="deep object"),
    pytest.param('{"parameters":' * 3_000 + "1" + "}" * 3_000, id="deep and closed"),
    pytest.param('{"name": "' + "x" * 100_000 + '"}', id="long name"),
]
FILES = [
    *("", "/", "/etc/passwd", "..", "../x", "1/../../x", "\0", "1/\0", "1", "1/", "config.pbtxt"),
    *("x" * 300, "x/" * 3000 + "x", "1/model.onnx/x", "1/model.onnx", "é", "."),
]


@pytest.fixture
async def rig(repository: Any, serve: Any) -> Any:
    """Serves "a", which has a sequence."""
    repository.put("a", 3)
    started = await serve(load_model=("a",))
    await started.inference.ModelInfer(started.infer("a", {"x": X}, 1, start=True))
    return started


async def refuse(rig: Any, call: Any) -> str:
    """The text of a refusal, after which the model serves on, from where it was, and alone."""
    before = await rig.snapshot()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    assert error.code() in CLEAR, error.details()
    assert dict(error.trailing_metadata())["rnnserve-error"] != "InternalError"
    assert await rig.snapshot() == before
    assert [model.spec.name for model in rig.serving.catalogue] == ["a"]
    await rig.inference.ModelInfer(rig.infer("a", {"x": X}, 1))
    assert error.details()
    return str(error.details())


@pytest.mark.parametrize("name", NAMES)
async def test_names(rig: Any, name: str) -> None:
    stub = rig.inference
    await refuse(rig, stub.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name=name)))
    await refuse(rig, stub.RepositoryModelUnload(oip.RepositoryModelUnloadRequest(model_name=name)))
    with_config = oip.RepositoryModelLoadRequest(model_name=name)
    with_config.parameters["config"].string_param = "{}"
    await refuse(rig, stub.RepositoryModelLoad(with_config))


@pytest.mark.parametrize("config", CONFIGS)
async def test_configurations(rig: Any, config: str) -> None:
    request = oip.RepositoryModelLoadRequest(model_name="a")
    request.parameters["config"].string_param = config
    await refuse(rig, rig.inference.RepositoryModelLoad(request))


@pytest.mark.parametrize("path", FILES)
async def test_files(rig: Any, repository: Any, path: str) -> None:
    """Nothing is written elsewhere, and what is no model is refused."""
    lies = {file: file.read_bytes() for file in repository.path.rglob("*") if file.is_file()}
    request = oip.RepositoryModelLoadRequest(model_name="a")
    request.parameters["config"].string_param = "{}"
    request.parameters[f"file:{path}"].bytes_param = b"no model"
    await refuse(rig, rig.inference.RepositoryModelLoad(request))
    assert lies == {
        file: file.read_bytes() for file in repository.path.rglob("*") if file.is_file()
    }


@pytest.mark.parametrize("name", ["config", "file:1/model.onnx", "other", "", "file", "CONFIG"])
@pytest.mark.parametrize("kind", ["bool_param", "int64_param", "string_param", "bytes_param", None])
async def test_parameters_of_the_wrong_kind(rig: Any, name: str, kind: str | None) -> None:
    values: dict[str, Any] = {
        "bool_param": True,
        "int64_param": -1,
        "string_param": "{",
        "bytes_param": b"{",
    }
    request = oip.RepositoryModelLoadRequest(model_name="a")
    request.parameters[name].CopyFrom(
        oip.ModelRepositoryParameter(**({kind: values[kind]} if kind else {}))
    )
    await refuse(rig, rig.inference.RepositoryModelLoad(request))
