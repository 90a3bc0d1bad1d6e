"""A stream's errors say as much as a unary call's trailing metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from rnnserve.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def test_a_limit_says_when_to_come_back(make_rig: Any) -> None:
    """The same as the unary call does; other errors say nothing of the kind."""
    rig = await make_rig(max_sessions=1)
    await rig.open()
    refused = await rig.refused(rig.open(), grpc.StatusCode.RESOURCE_EXHAUSTED, "LimitReached")
    unary = float(dict(refused.trailing_metadata())["retry-after-s"])

    async def requests() -> AsyncIterator[pb.StreamRequest]:
        yield pb.StreamRequest(request_id=1, open=pb.OpenSessionRequest(model_name="fold"))
        yield pb.StreamRequest(request_id=2, open=pb.OpenSessionRequest(model_name="nothing"))

    answers = {answer.request_id: answer.error async for answer in rig.sessions.Stream(requests())}
    assert [answers[1].kind, answers[2].kind] == ["LimitReached", "ModelNotFound"]
    assert answers[1].retry_after_s == unary > 0
    assert answers[2].retry_after_s == 0
