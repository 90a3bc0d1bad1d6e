"""Models that come and go on disk: mode poll, and what a file system may do under any mode."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from server.errors import StartupError
from server.stubs.inference import grpc_service_pb2 as oip

X = np.array([[[1, 2]]])
POLL = {"repository_poll_s": 0.02}


async def index(rig: Any) -> list[tuple[str, str, str]]:
    answer = await rig.inference.RepositoryIndex(oip.RepositoryIndexRequest())
    return [(model.name, model.version, model.state) for model in answer.models]


async def soon(rig: Any, expected: list[tuple[str, str, str]]) -> None:
    """The index says so within a few looks."""
    async with asyncio.timeout(20):
        while await index(rig) != expected:  # noqa: ASYNC110  (that is what clients can do)
            await asyncio.sleep(0.02)


async def step(rig: Any, model: str, sequence: int, **flags: Any) -> list[int]:
    answer = await rig.inference.ModelInfer(rig.infer(model, {"x": X}, sequence, **flags))
    found: list[int] = rig.outputs_of(answer)["y"][0, -1].tolist()
    return found


async def test_models_that_come(repository: Any, serve: Any) -> None:
    rig = await serve("poll", **POLL)  # of an empty repository
    assert await index(rig) == []
    repository.put("a", 3)
    await soon(rig, [("a", "1", "READY")])
    assert await step(rig, "a", 1, start=True) == [1, 2]


async def test_models_that_change(repository: Any, serve: Any) -> None:
    repository.put("a", 3)
    rig = await serve("poll", **POLL)
    await step(rig, "a", 1, start=True)
    before = rig.serving.model("a")
    repository.put("a", 5)
    async with asyncio.timeout(20):
        await rig.until(lambda: rig.serving.model("a") is not before)
    await step(rig, "a", 2, start=True)
    assert (await step(rig, "a", 1), await step(rig, "a", 2)) == ([4, 8], [6, 12])


async def test_models_that_go(repository: Any, serve: Any) -> None:
    repository.put("a", 3)
    repository.put("b", 3)
    rig = await serve("poll", **POLL)
    await step(rig, "a", 1, start=True)
    repository.remove("a")
    await soon(rig, [("a", "1", "UNLOADING"), ("b", "1", "READY")])
    await rig.refused(step(rig, "a", 2, start=True), grpc.StatusCode.NOT_FOUND)
    assert await step(rig, "a", 1, end=True) == [4, 8]
    await soon(rig, [("a", "1", "UNAVAILABLE"), ("b", "1", "READY")])


async def test_a_change_that_cannot_be_served(repository: Any, serve: Any) -> None:
    """… leaves the old one serving, and is tried again when it changes once more."""
    repository.put("a", 3)
    rig = await serve("poll", **POLL)
    before = rig.serving.model("a")
    config = repository.path / "a" / "config.pbtxt"
    good = config.read_text()
    config.write_text("max_batch_size: many")
    await asyncio.sleep(0.2)
    assert rig.serving.model("a") is before
    assert await index(rig) == [("a", "1", "READY")]
    config.write_text(good.replace("max_batch_size: 8", "max_batch_size: 4"))
    async with asyncio.timeout(20):
        await rig.until(lambda: rig.serving.model("a") is not before)
    assert rig.serving.model("a").spec.max_batch_size == 4


async def test_a_repository_that_is_gone_for_a_while(repository: Any, serve: Any) -> None:
    repository.put("a", 3)
    rig = await serve("poll", **POLL)
    away = repository.path.with_name("away")
    repository.path.rename(away)
    await asyncio.sleep(0.2)
    assert await step(rig, "a", 1, start=True) == [1, 2]
    assert await index(rig) == [("a", "1", "READY")]
    away.rename(repository.path)
    await asyncio.sleep(0.1)
    assert await index(rig) == [("a", "1", "READY")]
    assert await step(rig, "a", 1) == [4, 8]


async def test_a_model_that_cannot_be_served_at_the_start(repository: Any, serve: Any) -> None:
    repository.put("a", 3)
    repository.put("b", 3)
    (repository.path / "b" / "config.pbtxt").write_text("max_batch_size: many")
    for mode in ("none", "poll"):
        with pytest.raises(StartupError, match=r"b/config\.pbtxt"):
            await serve(mode)
        rig = await serve(mode, exit_on_error=False)
        assert await index(rig) == [("a", "1", "READY"), ("b", "1", "UNAVAILABLE")]
        assert await step(rig, "a", 1, start=True) == [1, 2]


async def test_a_repository_without_models(serve: Any) -> None:
    for mode in ("explicit", "poll"):
        assert await index(await serve(mode)) == []
    with pytest.raises(StartupError, match="no model in it"):
        await serve("none")


async def test_a_model_removed_from_disk_serves_on(repository: Any, serve: Any) -> None:
    """… where nobody looks: it is in memory."""
    repository.put("a", 3)
    rig = await serve("none")
    await step(rig, "a", 1, start=True)
    repository.remove("a")
    assert await index(rig) == [("a", "1", "READY")]
    assert await step(rig, "a", 1) == [4, 8]
    explicit = await serve("explicit")
    await explicit.refused(
        explicit.inference.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name="a")),
        grpc.StatusCode.NOT_FOUND,
    )
