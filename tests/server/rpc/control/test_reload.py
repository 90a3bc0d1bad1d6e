"""Models that are replaced or unloaded while they have sessions."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb
from server.stubs.inference import grpc_service_pb2 as oip
from tests.server.rpc.conftest import HeldEngine

X = np.array([[[1, 2]]])
Code = grpc.StatusCode


async def load(rig: Any, name: str = "a") -> None:
    await rig.inference.RepositoryModelLoad(oip.RepositoryModelLoadRequest(model_name=name))


async def unload(rig: Any, name: str = "a") -> None:
    await rig.inference.RepositoryModelUnload(oip.RepositoryModelUnloadRequest(model_name=name))


async def step(rig: Any, sequence: int, *, version: str = "", **flags: Any) -> Any:
    request = rig.infer("a", {"x": X}, sequence, model_version=version, **flags)
    answer = await rig.inference.ModelInfer(request)
    return answer.model_version, rig.outputs_of(answer)["y"][0, -1].tolist()


async def states(rig: Any) -> dict[str, str]:
    answer = await rig.inference.RepositoryIndex(oip.RepositoryIndexRequest())
    return {model.version: model.state for model in answer.models}


def everything(rig: Any) -> list[tuple[int, bool]]:
    """Versions that are in memory, and whether they take new sessions."""
    ready = set(rig.serving.catalogue)
    return [(m.spec.version, m in ready) for m in rig.serving.catalogue.everything()]


@pytest.fixture
async def rig(repository: Any, serve: Any) -> Any:
    """Model "a", whose sequence 1 has made a step with factor 3."""
    repository.put("a", 3)
    rig = await serve(load_model=("a",))
    assert await step(rig, 1, start=True) == ("1", [1, 2])
    return rig


async def test_old_sequences_finish_on_the_old_one(rig: Any, repository: Any) -> None:
    repository.put("a", 5)
    await load(rig)
    assert await step(rig, 2, start=True) == ("1", [1, 2])
    assert await step(rig, 1) == ("1", [4, 8])  # 3 * 1 + 1
    assert await step(rig, 2) == ("1", [6, 12])  # 5 * 1 + 1
    assert everything(rig) == [(1, True), (1, False)]
    assert await step(rig, 1, end=True) == ("1", [13, 26])
    await rig.until(lambda: everything(rig) == [(1, True)])
    assert await states(rig) == {"1": "READY"}
    assert await step(rig, 2) == ("1", [31, 62])


async def test_a_start_moves_a_sequence_to_the_new_one(rig: Any, repository: Any) -> None:
    repository.put("a", 5)
    await load(rig)
    await step(rig, 1, start=True)
    assert await step(rig, 1) == ("1", [6, 12])
    await rig.until(lambda: everything(rig) == [(1, True)])
    assert len(rig.serving.sessions) == 1


async def test_a_new_version_takes_new_sequences(rig: Any, repository: Any) -> None:
    config = (repository.path / "a" / "config.pbtxt").read_text()
    latest = config.replace("version_policy { all { } }", "")
    repository.put("a", 3, 5, config=latest)
    await load(rig)
    assert await step(rig, 2, start=True) == ("2", [1, 2])
    assert await step(rig, 1) == ("1", [4, 8])
    assert await states(rig) == {"1": "UNLOADING", "2": "READY"}
    # the id counts for both, while one of them only goes on with what it has
    assert await step(rig, 1, start=True) == ("2", [1, 2])
    assert await step(rig, 1) == ("2", [6, 12])
    await rig.until(lambda: everything(rig) == [(2, True)])
    assert await states(rig) == {"1": "UNAVAILABLE", "2": "READY"}
    error = await rig.refused(step(rig, 3, version="1", start=True), Code.UNAVAILABLE)
    assert "version 1 is not at ready state" in error.details()


async def test_sequences_of_a_numbered_version(rig: Any, repository: Any) -> None:
    repository.put("a", 5)
    await load(rig)
    assert await step(rig, 1, version="1") == ("1", [4, 8])
    assert await step(rig, 2, version="1", start=True) == ("1", [1, 2])
    assert await step(rig, 2, version="1") == ("1", [6, 12])


async def test_what_has_not_changed_stays(rig: Any) -> None:
    before = rig.serving.model("a")
    await load(rig)
    assert rig.serving.model("a") is before
    assert everything(rig) == [(1, True)]


async def test_only_the_version_that_changed_is_replaced(repository: Any, serve: Any) -> None:
    repository.put("a", 3, 5)
    rig = await serve(load_model=("a",))
    one, two = rig.serving.model("a", "1"), rig.serving.model("a", "2")
    repository.put("a", 7, last_version=2)
    await load(rig)
    assert rig.serving.model("a", "1") is one
    assert rig.serving.model("a", "2") is not two


async def test_unloading_lets_sequences_finish(rig: Any) -> None:
    await unload(rig)
    assert await states(rig) == {"1": "UNLOADING"}
    await rig.refused(step(rig, 2, start=True), Code.NOT_FOUND, "ModelNotFound")
    await rig.refused(step(rig, 1, start=True), Code.NOT_FOUND, "ModelNotFound")  # as before, then
    assert await step(rig, 1) == ("1", [4, 8])
    assert await step(rig, 1, end=True) == ("1", [13, 26])
    await rig.until(lambda: everything(rig) == [])
    assert await states(rig) == {"1": "UNAVAILABLE"}


async def test_loading_again_before_they_have_finished(rig: Any, repository: Any) -> None:
    await unload(rig)
    repository.put("a", 5)
    await load(rig)
    assert await states(rig) == {"1": "READY"}
    assert await step(rig, 1) == ("1", [4, 8])
    repository.put("a", 7)
    await load(rig)
    assert everything(rig) == [(1, True), (1, False)]  # nobody had a session with the 5
    assert await step(rig, 1) == ("1", [13, 26])


async def test_a_drain_limit_ends_them_and_tells_why(repository: Any, serve: Any) -> None:
    repository.put("a", 3)
    rig = await serve(load_model=("a",), model_drain_limit_s=0.1)
    await step(rig, 1, start=True)
    key = await rig.open("a")
    await unload(rig)
    await rig.until(lambda: everything(rig) == [])
    assert len(rig.serving.sessions) == 0
    error = await rig.refused(
        rig.sessions.GetStates(pb.GetStatesRequest(session=key)), Code.FAILED_PRECONDITION
    )
    assert "was closed when version 1 of model 'a' was unloaded" in error.details()
    await load(rig)
    error = await rig.refused(step(rig, 1), Code.INVALID_ARGUMENT)
    assert error.details().endswith("was closed when version 1 of model 'a' was unloaded")


async def test_sessions_of_the_other_protocol(rig: Any, repository: Any) -> None:
    old = await rig.open("a")
    await rig.step(old, X)
    repository.put("a", 5)
    await load(rig)
    new = await rig.open("a")
    await rig.step(new, X)
    seen = [rig.array_of((await rig.step(key, X)).outputs[0]).tolist() for key in (old, new)]
    assert seen == [[[4, 8]], [[6, 12]]]
    states = await rig.states(old)
    await rig.sessions.SetStates(pb.SetStatesRequest(session=old, states=states.states))
    for key in (old, new):
        await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))
    await step(rig, 1, end=True)
    await rig.until(lambda: everything(rig) == [(1, True)])


async def test_a_stream_goes_on_over_a_reload(rig: Any, repository: Any) -> None:
    call = rig.inference.ModelStreamInfer()
    seen = []
    for number in range(6):
        if number == 2:
            repository.put("a", 5)
            await load(rig)
        await call.write(rig.infer("a", {"x": X}, 9, start=number == 0))
        answer = await call.read()
        seen.append(rig.outputs_of(answer.infer_response)["y"][0, -1, 0].item())
    assert seen == [1, 4, 13, 40, 121, 364]
    await call.done_writing()


async def test_a_step_that_runs_while_its_model_goes(rig: Any, repository: Any) -> None:
    repository.put("a", 5)
    results = await asyncio.gather(step(rig, 1), load(rig), *(step(rig, 1) for _ in range(20)))
    values = [result[1][0] for result in results if result is not None]
    expected = [4]
    while len(expected) < len(values):
        expected.append(3 * expected[-1] + 1)
    assert sorted(values) == expected


async def test_a_repeated_request_to_the_old_one(rig: Any, repository: Any) -> None:
    """Exactly once holds across a reload, the last step of a sequence included."""
    request = rig.infer("a", {"x": X}, 5, start=True)
    request.parameters["rnnserve_step"].int64_param = 1
    first = await rig.inference.ModelInfer(request)
    repository.put("a", 5)
    await load(rig)
    last = rig.infer("a", {"x": X}, 5, end=True)
    last.parameters["rnnserve_step"].int64_param = 2
    once = await rig.inference.ModelInfer(last)
    assert (await rig.inference.ModelInfer(last)).raw_output_contents == once.raw_output_contents
    assert rig.outputs_of(once)["y"].tolist() == [[[4, 8]]]
    assert rig.outputs_of(first)["y"].tolist() == [[[1, 2]]]


async def test_memory_is_given_back(rig: Any, repository: Any) -> None:
    engine = weakref.ref(rig.serving.model("a").driver.engine)
    gc.collect()
    gc.freeze()  # as a server does at its start: what is in a cycle now will never be found
    try:
        await step(rig, 1, end=True)
        await unload(rig)
        await rig.until(lambda: everything(rig) == [])
        await rig.until(lambda: engine() is None)
    finally:
        gc.unfreeze()


async def test_many_reloads_under_load(rig: Any, repository: Any) -> None:
    """Sequences that begin, go on and end all the while: every one keeps the factor that it began
    with.
    """
    stop = asyncio.Event()
    finished: list[list[int]] = []

    async def client(number: int) -> None:
        while not stop.is_set():
            seen = []
            for position in range(6):
                flags = {"start": position == 0, "end": position == 5}
                seen.append((await step(rig, number, **flags))[1][0])
            finished.append(seen)

    clients = [asyncio.create_task(client(number)) for number in range(10, 18)]
    for factor in (5, 7, 11, 13, 17):
        repository.put("a", factor)
        await load(rig)
        await rig.until(lambda: any(seen[1] == factor + 1 for seen in finished))  # noqa: B023
    stop.set()
    await asyncio.gather(*clients)
    for seen in finished:
        factor = seen[1] - 1
        assert seen == [sum(factor**power for power in range(n + 1)) for n in range(6)]
    await step(rig, 1, end=True)
    await rig.until(lambda: everything(rig) == [(1, True)])


async def test_requests_that_wait_when_the_drain_limit_passes(repository: Any, serve: Any) -> None:
    """… are told what has become of their sequence; what runs is finished."""
    repository.put("a", 3)
    rig = await serve(load_model=("a",), model_drain_limit_s=0.05)
    engine = HeldEngine(rig.serving.model("a").driver.engine)
    rig.serving.model("a").driver.engine = engine
    rig.serving.model("a").driver._own_thread = True
    calls = [asyncio.ensure_future(step(rig, 1, start=True))]
    await rig.until(lambda: rig.serving.model("a").scheduler.pending == 1)
    calls.append(asyncio.ensure_future(step(rig, 1)))
    await rig.until(lambda: rig.serving.model("a").scheduler.pending == 2)
    await unload(rig)
    closed = next(iter(rig.serving.sessions))
    await rig.until(lambda: closed.closed)
    engine.released.set()
    error = await rig.refused(calls[1], Code.INVALID_ARGUMENT)
    assert error.details().endswith("was closed when version 1 of model 'a' was unloaded")
    assert await calls[0] == ("1", [1, 2])
    await rig.until(lambda: everything(rig) == [])


async def test_requests_without_a_sequence_are_finished(repository: Any, serve: Any) -> None:
    stateless = """name: "fold" max_batch_size: 8
        parameters { key: "rnnserve.constant.h" value { string_value: "[0, 0]" } }"""
    repository.put("a", 3, config=stateless)
    rig = await serve(load_model=("a",), model_drain_limit_s=0.0)
    engine = HeldEngine(rig.serving.model("a").driver.engine)
    rig.serving.model("a").driver.engine = engine
    rig.serving.model("a").driver._own_thread = True
    call = asyncio.ensure_future(rig.inference.ModelInfer(rig.infer("a", {"x": X})))
    await rig.until(lambda: rig.serving.model("a").scheduler.pending == 1)
    await unload(rig)
    await asyncio.sleep(0.1)
    engine.released.set()
    assert rig.outputs_of(await call)["y"].tolist() == [[[1, 2]]]
    await rig.until(lambda: everything(rig) == [])
