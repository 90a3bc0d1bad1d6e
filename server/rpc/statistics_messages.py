"""A model's counters as the Open Inference statistics extension says them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.stubs.inference import grpc_service_pb2 as pb

if TYPE_CHECKING:
    from server.serving import ServedModel
    from server.statistics import Duration


def model_statistics(model: ServedModel) -> pb.ModelStatistics:
    counters = model.statistics
    return pb.ModelStatistics(
        name=model.spec.name,
        version=str(model.spec.version),
        last_inference=counters.last_inference_ms,
        inference_count=counters.inference_count,
        execution_count=counters.execution_count,
        inference_stats=pb.InferStatistics(
            success=_duration(counters.success),
            fail=_duration(counters.fail),
            queue=_duration(counters.queue),
            compute_input=_duration(counters.compute_input),
            compute_infer=_duration(counters.compute_infer),
            compute_output=_duration(counters.compute_output),
        ),
        batch_stats=[
            pb.InferBatchStatistics(
                batch_size=size,
                compute_input=_duration(batch.compute_input),
                compute_infer=_duration(batch.compute_infer),
                compute_output=_duration(batch.compute_output),
            )
            for size, batch in sorted(counters.batches.items())
        ],
    )


def _duration(duration: Duration) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=duration.count, ns=duration.ns)
