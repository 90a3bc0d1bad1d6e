"""One answer made of every process's own."""

from __future__ import annotations

from typing import Any

from rnnserve.v1 import session_pb2 as pb
from server.processes.merged import merged_page, merged_statistics
from server.stubs.inference import grpc_service_pb2 as oip


def page(*ids: str, more: str = "") -> pb.ListSessionsResponse:
    sessions = [pb.SessionInfo(session_id=id) for id in ids]
    return pb.ListSessionsResponse(sessions=sessions, next_page_token=more)


def asking(*answers: Any) -> Any:
    async def ask() -> list[Any]:
        return list(answers)

    return ask


async def ids_and_token(*pages: pb.ListSessionsResponse, size: int) -> tuple[list[str], str]:
    first, *others = pages
    merged = await merged_page([first], asking(*others), size)
    return [session.session_id for session in merged.sessions], merged.next_page_token


async def test_pages_are_in_order_and_no_longer_than_asked_for() -> None:
    assert await ids_and_token(page(), page(), size=2) == ([], "")
    assert await ids_and_token(page("b"), page("a"), size=2) == (["a", "b"], "")
    assert await ids_and_token(page("b", "d"), page("a"), size=2) == (["a", "b"], "b")
    # one process has more than it shows; all that it shows is before what it does not
    assert await ids_and_token(page("a", "b", more="b"), page("c"), size=2) == (["a", "b"], "b")
    assert await ids_and_token(page("c", "d", more="d"), page("a"), size=2) == (["a", "c"], "c")


def statistics(steps: int, last: int, **batches: int) -> oip.ModelStatisticsResponse:
    duration = oip.StatisticDuration(count=steps, ns=10 * steps)
    model = oip.ModelStatistics(
        name="m",
        version="1",
        last_inference=last,
        inference_count=steps,
        execution_count=sum(batches.values()),
        inference_stats=oip.InferStatistics(success=duration, queue=duration),
    )
    for size, count in batches.items():
        infer = oip.StatisticDuration(count=count, ns=count)
        model.batch_stats.add(batch_size=int(size.removeprefix("b")), compute_infer=infer)
    return oip.ModelStatisticsResponse(model_stats=[model])


async def test_counters_are_added_and_the_last_time_is_the_latest() -> None:
    parts = statistics(3, 500, b1=2, b8=1), statistics(5, 400, b2=4, b8=1), statistics(0, 0)
    merged = await merged_statistics([parts[0]], asking(*parts[1:]))
    assert merged == statistics(8, 500, b1=2, b2=4, b8=2)
    assert parts[0] == statistics(3, 500, b1=2, b8=1)  # nobody's own is changed


async def test_models_are_kept_apart() -> None:
    one, other = statistics(3, 500, b1=3), statistics(5, 400, b1=5)
    other.model_stats[0].version = "2"
    merged = await merged_statistics([one], asking(other))
    assert [(m.version, m.inference_count) for m in merged.model_stats] == [("1", 3), ("2", 5)]
