"""Models that clients load and unload: mode explicit."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from google.protobuf import json_format

from server.errors import StartupError
from server.stubs.inference import grpc_service_pb2 as oip

X = np.array([[[1, 2]]])
Code = grpc.StatusCode


async def load(rig: Any, name: str, **parameters: str | bytes) -> None:
    request = oip.RepositoryModelLoadRequest(model_name=name)
    for key, value in parameters.items():
        kind = "string_param" if isinstance(value, str) else "bytes_param"
        setattr(request.parameters[key.replace("__", ":").replace("_slash_", "/")], kind, value)
    await rig.inference.RepositoryModelLoad(request)


async def load_files(rig: Any, name: str, config: str, **files: bytes) -> None:
    request = oip.RepositoryModelLoadRequest(model_name=name)
    request.parameters["config"].string_param = config
    for path, content in files.items():
        request.parameters[f"file:{path}"].bytes_param = content
    await rig.inference.RepositoryModelLoad(request)


async def unload(rig: Any, name: str) -> None:
    await rig.inference.RepositoryModelUnload(oip.RepositoryModelUnloadRequest(model_name=name))


async def index(rig: Any, *, ready: bool = False) -> list[tuple[str, str, str]]:
    answer = await rig.inference.RepositoryIndex(oip.RepositoryIndexRequest(ready=ready))
    return [(model.name, model.version, model.state) for model in answer.models]


async def step(rig: Any, model: str, sequence: int, **flags: Any) -> Any:
    answer = await rig.inference.ModelInfer(rig.infer(model, {"x": X}, sequence, **flags))
    return answer.model_version, rig.outputs_of(answer)["y"][0, -1].tolist()


async def config_of(rig: Any, model: str) -> dict[str, Any]:
    answer = await rig.inference.ModelConfig(oip.ModelConfigRequest(name=model))
    return json_format.MessageToDict(answer.config, preserving_proto_field_name=True)


async def test_nothing_is_loaded_before_somebody_asks(repository: Any, serve: Any) -> None:
    repository.put("a", 3)
    rig = await serve()
    assert await index(rig) == [("a", "", "")]
    assert await index(rig, ready=True) == []
    call = rig.inference.ModelInfer(rig.infer("a", {"x": X}, 1, start=True))
    error = await rig.refused(call, Code.NOT_FOUND, "ModelNotFound")
    assert error.details() == "Request for unknown model: 'a' is not found"
    await load(rig, "a")
    assert await index(rig) == [("a", "1", "READY")]
    assert await step(rig, "a", 1, start=True) == ("1", [1, 2])


async def test_models_to_load_at_the_start(repository: Any, serve: Any) -> None:
    for name in ("a", "b", "c"):
        repository.put(name, 3)
    rig = await serve(load_model=("c", "a"))
    assert await index(rig) == [("a", "1", "READY"), ("b", "", ""), ("c", "1", "READY")]
    everything = await serve(load_model=("*",))
    assert [state for *_, state in await index(everything)] == ["READY"] * 3


async def test_a_model_to_load_that_is_not_there(serve: Any) -> None:
    with pytest.raises(StartupError, match="missing"):
        await serve(load_model=("missing",))


@pytest.mark.parametrize("mode", ["none", "poll"])
async def test_only_in_explicit_mode(repository: Any, serve: Any, mode: str) -> None:
    repository.put("a", 3)
    rig = await serve(mode)
    for call in (load, unload):
        error = await rig.refused(call(rig, "a"), Code.UNAVAILABLE, "ModelControlOff")
        assert error.details().startswith("explicit model load / unload is not allowed")
    assert await step(rig, "a", 1, start=True) == ("1", [1, 2])
    with pytest.raises(StartupError, match="load_model"):
        await serve(mode, load_model=("a",))


async def test_unloaded_models_take_nothing_new(repository: Any, serve: Any) -> None:
    repository.put("a", 3)
    rig = await serve(load_model=("a",))
    await unload(rig, "a")
    await rig.until(lambda: not list(rig.serving.catalogue.everything()))
    answer = await rig.inference.RepositoryIndex(oip.RepositoryIndexRequest())
    (entry,) = answer.models
    assert (entry.state, entry.reason) == ("UNAVAILABLE", "unloaded")
    latest = rig.inference.ModelInfer(rig.infer("a", {"x": X}, 1, start=True))
    error = await rig.refused(latest, Code.NOT_FOUND)
    assert error.details() == "Request for unknown model: 'a' has no available versions"
    numbered = rig.infer("a", {"x": X}, 1, start=True, model_version="1")
    error = await rig.refused(rig.inference.ModelInfer(numbered), Code.UNAVAILABLE)
    assert "version 1 is not at ready state" in error.details()
    assert not (await rig.inference.ModelReady(oip.ModelReadyRequest(name="a"))).ready
    await rig.refused(unload(rig, "a"), Code.NOT_FOUND)
    await load(rig, "a")
    assert await step(rig, "a", 1, start=True) == ("1", [1, 2])


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "/etc", "a\0b"])
async def test_names_that_are_no_names(repository: Any, serve: Any, name: str) -> None:
    repository.put("a", 3)
    rig = await serve()
    await rig.refused(load(rig, name), Code.INVALID_ARGUMENT, "InvalidRequest")


async def test_unknown_models(serve: Any) -> None:
    rig = await serve()
    error = await rig.refused(load(rig, "x"), Code.NOT_FOUND, "ModelNotFound")
    assert "failed to load 'x', no such model in the repository" in error.details()
    await rig.refused(unload(rig, "x"), Code.NOT_FOUND, "ModelNotFound")
    assert await index(rig) == []


async def test_another_repository(serve: Any) -> None:
    rig = await serve()
    for method, request in (
        (rig.inference.RepositoryIndex, oip.RepositoryIndexRequest),
        (rig.inference.RepositoryModelLoad, oip.RepositoryModelLoadRequest),
        (rig.inference.RepositoryModelUnload, oip.RepositoryModelUnloadRequest),
    ):
        await rig.refused(method(request(repository_name="r")), Code.INVALID_ARGUMENT)


async def test_a_load_that_fails_leaves_the_old_one_serving(repository: Any, serve: Any) -> None:
    repository.put("a", 3)
    rig = await serve(load_model=("a",))
    await step(rig, "a", 1, start=True)
    (repository.path / "a" / "1" / "model.onnx").write_bytes(b"no model at all")
    error = await rig.refused(load(rig, "a"), Code.INVALID_ARGUMENT, "InvalidRequest")
    assert error.details().startswith("failed to load 'a', ")
    assert "model.onnx" in error.details()
    assert await index(rig) == [("a", "1", "READY")]
    assert await step(rig, "a", 1) == ("1", [4, 8])
    assert await step(rig, "a", 2, start=True) == ("1", [1, 2])


async def test_a_model_that_never_loaded_says_why(repository: Any, serve: Any) -> None:
    repository.put("a", 3, config=repository_config("data_type: TYPE_FP32"))
    rig = await serve()
    await rig.refused(load(rig, "a"), Code.INVALID_ARGUMENT)
    answer = await rig.inference.RepositoryIndex(oip.RepositoryIndexRequest())
    (entry,) = answer.models
    assert (entry.name, entry.version, entry.state) == ("a", "1", "UNAVAILABLE")
    assert "TYPE_FP32" in entry.reason
    assert await index(rig, ready=True) == []


def repository_config(x: str) -> str:
    return f"""name: "fold" max_batch_size: 8
        input [ {{ name: "x" {x} dims: [ -1, 2 ] }} ]
        sequence_batching {{ state [ {{
          input_name: "h" output_name: "h_next" data_type: TYPE_INT64 dims: [ 2 ] }} ] }}"""


# ---- configuration and files from the request --------------------------------------------------


async def test_a_configuration_for_this_load_only(repository: Any, serve: Any) -> None:
    repository.put("a", 3, 5)
    rig = await serve(load_model=("a",))
    assert (await config_of(rig, "a"))["max_batch_size"] == 8
    config = await config_of(rig, "a")
    config |= {"max_batch_size": 2, "version_policy": {"specific": {"versions": [1]}}}
    await load(rig, "a", config=json.dumps(config))
    assert (await config_of(rig, "a"))["max_batch_size"] == 2
    assert [entry for entry in await index(rig) if entry[2] == "READY"] == [("a", "1", "READY")]
    await load(rig, "a")  # without it the repository's own counts again
    assert (await config_of(rig, "a"))["max_batch_size"] == 8
    assert await step(rig, "a", 1, start=True) == ("2", [1, 2])


async def test_files_for_this_load_only(repository: Any, serve: Any) -> None:
    repository.put("a", 3)
    rig = await serve(load_model=("a",))
    config = json.dumps(await config_of(rig, "a"))
    model = onnx.load(repository.path / "a" / "1" / "model.onnx")
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.array(7), "three"))
    await load_files(rig, "a", config, **{"4/model.onnx": model.SerializeToString()})
    await step(rig, "a", 1, start=True)
    assert await step(rig, "a", 1) == ("4", [8, 16])
    await load_files(
        rig,
        "b",
        config.replace('"a"', '"b"'),
        **{"1/model.onnx": model.SerializeToString()},
    )
    await step(rig, "b", 1, start=True)
    assert await step(rig, "b", 1) == ("1", [8, 16])


@pytest.mark.parametrize(
    ("config", "files", "says"),
    [
        ("{", {}, "no model configuration"),
        ('{"max_batch": 3}', {}, "max_batch"),
        ('{"max_batch_size": "many"}', {}, "max_batch_size"),
        ("{}", {"../evil": b""}, "path inside"),
        ("{}", {"/etc/evil": b""}, "path inside"),
        ("{}", {"": b""}, "path inside"),
        ("{}", {"1": b"", "1/model.onnx": b""}, "file:1"),
        ("{}", {"1/model.onnx": b"no model"}, "failed to load 'a'"),
    ],
)
async def test_what_cannot_be_loaded_changes_nothing(
    repository: Any, serve: Any, config: str, files: dict[str, bytes], says: str
) -> None:
    repository.put("a", 3)
    rig = await serve(load_model=("a",))
    call = load_files(rig, "a", config, **files)
    error = await rig.refused(call, Code.INVALID_ARGUMENT, "InvalidRequest")
    assert says in error.details()
    assert await index(rig) == [("a", "1", "READY")]
    assert not (repository.path.parent / "evil").exists()
    assert await step(rig, "a", 1, start=True) == ("1", [1, 2])


async def test_a_new_model_that_cannot_be_loaded_is_forgotten(serve: Any) -> None:
    rig = await serve()
    call = load_files(rig, "new", "{}", **{"1/model.onnx": b"no model"})
    await rig.refused(call, Code.INVALID_ARGUMENT)
    assert await index(rig) == []


async def test_files_come_with_a_configuration(repository: Any, serve: Any) -> None:
    repository.put("a", 3)
    rig = await serve()
    call = load(rig, "a", file__1_slash_model="x")
    await rig.refused(call, Code.INVALID_ARGUMENT)
    request = oip.RepositoryModelLoadRequest(model_name="a")
    request.parameters["file:1/model.onnx"].bytes_param = b""
    error = await rig.refused(rig.inference.RepositoryModelLoad(request), Code.INVALID_ARGUMENT)
    assert "configuration must come with them" in error.details()


async def test_parameters_that_nobody_knows(repository: Any, serve: Any) -> None:
    repository.put("a", 3)
    rig = await serve(load_model=("a",))
    await rig.refused(load(rig, "a", speed="high"), Code.INVALID_ARGUMENT)
    request = oip.RepositoryModelUnloadRequest(model_name="a")
    request.parameters["unload_dependents"].string_param = "yes"
    await rig.refused(rig.inference.RepositoryModelUnload(request), Code.INVALID_ARGUMENT)
    assert await index(rig) == [("a", "1", "READY")]
    request.parameters["unload_dependents"].bool_param = True
    await rig.inference.RepositoryModelUnload(request)


async def test_two_loads_at_once(repository: Any, serve: Any) -> None:
    repository.put("a", 3)
    repository.put("b", 5)
    rig = await serve()
    await asyncio.gather(*(load(rig, name) for name in "abab"))
    assert await index(rig) == [("a", "1", "READY"), ("b", "1", "READY")]
    assert len(list(rig.serving.catalogue.everything())) == 2  # the second load changed nothing


async def test_loads_while_others_are_served(repository: Any, serve: Any) -> None:
    repository.put("a", 3)
    rig = await serve(load_model=("a",))
    await step(rig, "a", 1, start=True)
    stop = asyncio.Event()
    state, steps = [1, 2], 0

    async def client() -> None:
        nonlocal state, steps
        while not stop.is_set():
            state = [3 * h + x for h, x in zip(state, [1, 2], strict=True)]
            state = [(h + 2**63) % 2**64 - 2**63 for h in state]
            assert await step(rig, "a", 1) == ("1", state)
            steps += 1

    stepping = asyncio.create_task(client())
    for number in range(5):
        repository.put(f"m{number}", number)
        await load(rig, f"m{number}")
        assert await step(rig, f"m{number}", 1, start=True) == ("1", [1, 2])
    stop.set()
    await stepping
    assert steps > 5


async def test_a_caller_who_does_not_wait_so_long(repository: Any, serve: Any) -> None:
    repository.put("a", 3)
    rig = await serve()
    call = rig.inference.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name="a"))
    asked = asyncio.ensure_future(call)
    await rig.until(lambda: list(rig.serving.catalogue.reports()))
    asked.cancel()
    await rig.until(lambda: list(rig.serving.catalogue))
    assert await index(rig) == [("a", "1", "READY")]


async def test_no_loads_while_the_server_shuts_down(repository: Any, serve: Any) -> None:
    repository.put("a", 3)
    rig = await serve()
    rig.serving.draining = True
    await rig.refused(load(rig, "a"), Code.UNAVAILABLE, "ShuttingDown")


@pytest.mark.parametrize(
    ("config", "size"), [("{}", 64), ('{"max_batch_size": 0}', 0), ('{"maxBatchSize": 0}', 0)]
)
async def test_a_batch_size_of_0_is_said_and_a_missing_one_is_not(
    repository: Any, serve: Any, config: str, size: int
) -> None:
    repository.put("a", 3)
    rig = await serve()
    await load(rig, "a", config=config)
    assert (await config_of(rig, "a")).get("max_batch_size", 0) == size
