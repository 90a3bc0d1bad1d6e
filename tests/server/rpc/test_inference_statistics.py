"""ModelStatistics, number by number: what counts once for a request, what once for a row, what once
for a run.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import numpy as np
from google.protobuf.json_format import MessageToDict

from server.stubs.inference import grpc_service_pb2 as oip

COUNTS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


async def statistics(rig: Any, name: str, version: str = "") -> oip.ModelStatistics:
    request = oip.ModelStatisticsRequest(name=name, version=version)
    (found,) = (await rig.inference.ModelStatistics(request)).model_stats
    return found


def counts(found: oip.ModelStatistics) -> dict[str, int]:
    return {name: getattr(found.inference_stats, name).count for name in COUNTS}


def ones(rows: int, steps: int = 1) -> dict[str, Any]:
    return {"x": np.ones((rows, steps, 2), np.int64)}


async def test_a_model_that_nobody_has_used(rig: Any) -> None:
    found = await statistics(rig, "affine")
    assert MessageToDict(found, preserving_proto_field_name=True) == {
        "name": "affine",
        "version": "1",
        "inference_stats": {name: {} for name in COUNTS},
    }


async def test_requests_of_several_rows_in_one_run(make_rig: Any) -> None:
    rig = await make_rig(hold="fold")
    start_ms = time.time() * 1000
    first = await rig.arrived(rig.inference.ModelInfer(rig.infer("fold", ones(1), 1, start=True)))
    calls = [
        await rig.arrived(rig.inference.ModelInfer(rig.infer("fold", ones(rows), id, start=True)))
        for id, rows in ((2, 3), (3, 2))
    ]
    rig.held["fold"].released.set()
    await asyncio.gather(first, *calls)
    found = await statistics(rig, "fold", "2")
    assert counts(found) == dict.fromkeys(COUNTS, 3) | {"fail": 0}
    assert (found.inference_count, found.execution_count) == (6, 2)
    runs = {
        batch.batch_size: {
            getattr(batch, part).count for part in COUNTS if part.startswith("compute")
        }
        for batch in found.batch_stats
    }
    assert runs == {1: {1}, 5: {1}}
    assert start_ms - 1 <= found.last_inference <= time.time() * 1000 + 1
    # of a run that two requests have taken part in, each has waited for the whole
    of_batch = {batch.batch_size: batch.compute_infer.ns for batch in found.batch_stats}
    assert found.inference_stats.compute_infer.ns == of_batch[1] + 2 * of_batch[5]
    assert found.inference_stats.success.ns >= found.inference_stats.queue.ns > 0


async def test_what_is_refused_at_the_door_is_not_counted(rig: Any) -> None:
    for request in (
        rig.infer("fold", ones(1), 1),  # no START
        rig.infer("fold", ones(1)),  # no sequence
        rig.infer("fold", {"x": np.ones((1, 1, 3), np.int64)}, 1, start=True),
        rig.infer("fold", ones(9), 1, start=True),  # rows
    ):
        call = rig.inference.ModelInfer(request)
        await rig.refused(call, grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest")
    assert counts(await statistics(rig, "fold", "2")) == dict.fromkeys(COUNTS, 0)


async def test_what_has_failed_or_was_cancelled(make_rig: Any) -> None:
    rig = await make_rig(hold="mixed")
    inputs = {"x": np.zeros((1, 2), np.float32), "place": np.array([0])}
    beyond = inputs | {"place": np.array([7])}
    running = await rig.arrived(
        rig.inference.ModelInfer(rig.infer("mixed", inputs, 1, start=True)), "mixed"
    )
    failing, leaving = [
        await rig.arrived(
            rig.inference.ModelInfer(rig.infer("mixed", given, id, start=True)), "mixed"
        )
        for id, given in ((2, beyond), (3, inputs))
    ]
    pending = rig.serving.model("mixed").scheduler
    leaving.cancel()
    await rig.until(lambda: pending.pending == 2)
    rig.held["mixed"].released.set()
    await running
    await rig.refused(failing, grpc.StatusCode.INVALID_ARGUMENT, "StepFailed")
    found = await statistics(rig, "mixed")
    assert counts(found) == dict.fromkeys(COUNTS, 1) | {"fail": 2}
    assert (found.inference_count, found.execution_count) == (1, 1)
    assert found.inference_stats.fail.ns > 0


async def test_requests_of_a_stream_count_as_unary_ones_do(rig: Any) -> None:
    requests = [
        *(rig.infer("fold", ones(2), 1, start=n == 0, end=n == 3, id=str(n)) for n in range(4)),
        rig.infer("fold", ones(2), 1, id="after the end"),
    ]
    answers = [answer async for answer in rig.inference.ModelStreamInfer(iter(requests))]
    assert [bool(answer.error_message) for answer in answers] == [False] * 4 + [True]
    found = await statistics(rig, "fold", "2")
    assert counts(found) == dict.fromkeys(COUNTS, 4) | {"fail": 0}
    assert (found.inference_count, found.execution_count) == (8, 4)
