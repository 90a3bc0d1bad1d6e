"""Statistics of sequences, as load generators and tests of batching read them. "counted" is used by
nobody else.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.endtoend.triton_sequences.talk import add, refusal, request

MODEL = "counted"


def statistics(client: Any) -> Any:
    (model,) = client.get_inference_statistics(MODEL, "1").model_stats
    assert (model.name, model.version) == (MODEL, "1")
    return model


def test_requests_are_counted(client: Any, sequence: int) -> None:
    before = statistics(client)
    assert before.inference_count == before.execution_count == 0
    for x in range(1, 10):
        add(client, x, sequence, {1: "start", 9: "end"}.get(x, ""), model=MODEL)
    model = statistics(client)
    assert (model.inference_count, model.execution_count) == (9, 9)
    assert [(b.batch_size, b.compute_infer.count) for b in model.batch_stats] == [(1, 9)]
    stats = model.inference_stats
    names = ("success", "queue", "compute_input", "compute_infer", "compute_output")
    assert {getattr(stats, name).count for name in names} == {9}
    assert all(getattr(stats, name).ns > 0 for name in ("success", "compute_infer"))
    assert stats.fail.count == 0
    assert model.last_inference > 1_600_000_000_000  # milliseconds of the epoch

    client.infer(**request(MODEL, np.ones((3, 1), np.int32), sequence, "start end"))
    model = statistics(client)
    assert (model.inference_count, model.execution_count) == (12, 10)
    batches = {b.batch_size: b.compute_infer.count for b in model.batch_stats}
    assert batches == {1: 9, 3: 1}

    refusal(add, client, 1, sequence, model=MODEL)
    assert statistics(client).inference_count == 12
