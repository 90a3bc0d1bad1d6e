"""One answer made of every process's own; `ask` gets those of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rnnserve.v1 import session_pb2 as pb
from server.stubs.inference import grpc_service_pb2 as oip

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from google.protobuf.message import Message


async def merged_page(
    own: list[pb.ListSessionsResponse],
    ask: Callable[[], Awaitable[list[pb.ListSessionsResponse]]],
    size: int,
) -> pb.ListSessionsResponse:
    """The first `size` sessions of pages that all begin behind the same one."""
    pages = [*own, *await ask()]
    sessions = sorted(
        (session for page in pages for session in page.sessions),
        key=lambda session: session.session_id,
    )
    more = len(sessions) > size or any(page.next_page_token for page in pages)
    shown = sessions[:size]
    return pb.ListSessionsResponse(
        sessions=shown, next_page_token=shown[-1].session_id if more else ""
    )


async def merged_statistics(
    own: list[oip.ModelStatisticsResponse],
    ask: Callable[[], Awaitable[list[oip.ModelStatisticsResponse]]],
) -> oip.ModelStatisticsResponse:
    """The sums, by model and version; runs by batch size."""
    models: dict[tuple[str, str], oip.ModelStatistics] = {}
    for answer in [*own, *await ask()]:
        for model in answer.model_stats:
            into = models.setdefault((model.name, model.version), oip.ModelStatistics())
            _add_model(into, model)
    return oip.ModelStatisticsResponse(model_stats=models.values())


def _add_model(into: oip.ModelStatistics, model: oip.ModelStatistics) -> None:
    last = max(into.last_inference, model.last_inference)
    batches = {batch.batch_size: batch for batch in into.batch_stats}
    for batch in model.batch_stats:
        total = batches.get(batch.batch_size)
        if total is None:
            into.batch_stats.append(batch)
        else:
            _add(total, batch)
            total.batch_size = batch.batch_size
    _add(into, model)
    into.name, into.version, into.last_inference = model.name, model.version, last
    into.batch_stats.sort(key=lambda batch: batch.batch_size)


def _add(into: Message, message: Message) -> None:
    """Every number of the message and of those in it is added to that of `into`."""
    for field, value in message.ListFields():
        if isinstance(value, int):
            setattr(into, field.name, getattr(into, field.name) + value)
        elif field.message_type is not None and not _is_repeated(value):
            _add(getattr(into, field.name), value)


def _is_repeated(value: Any) -> bool:
    return not hasattr(value, "ListFields")
