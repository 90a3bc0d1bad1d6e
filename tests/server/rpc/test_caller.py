"""Who calls: sequence ids of one's own, streams that end at an error, clients on this host."""

from __future__ import annotations

import socket
from typing import Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb
from server.rpc.caller import Caller, host_of
from server.rpc.inference_service import InferenceService

X = np.array([[[1, 2]]])
MINE, YOURS = (("rnnserve-caller", "mine"),), (("rnnserve-caller", "yours"),)
AT_ERROR = (("triton_grpc_error", "true"),)
Code = grpc.StatusCode


async def last(rig: Any, call: Any) -> list[int]:
    return rig.outputs_of(await call)["y"][0, -1].tolist()


async def test_the_same_id_of_two_callers_is_two_sequences(rig: Any) -> None:
    infer = rig.inference.ModelInfer
    assert await last(rig, infer(rig.infer("fold", {"x": X}, 7, start=True))) == [1, 2]
    for caller in (MINE, YOURS):
        request = rig.infer("fold", {"x": 10 * X}, 7, start=True)
        assert await last(rig, infer(request, metadata=caller)) == [10, 20]
    assert await last(rig, infer(rig.infer("fold", {"x": X}, 7), metadata=MINE)) == [31, 62]
    assert await last(rig, infer(rig.infer("fold", {"x": X}, 7, end=True))) == [4, 8]
    # the one without a caller has ended, the others have not
    assert await last(rig, infer(rig.infer("fold", {"x": X}, 7), metadata=YOURS)) == [31, 62]
    await rig.refused(infer(rig.infer("fold", {"x": X}, 7)), Code.INVALID_ARGUMENT)


async def test_nobody_goes_on_with_the_sequence_of_another_caller(rig: Any) -> None:
    infer = rig.inference.ModelInfer
    await infer(rig.infer("fold", {"x": X}, 7, start=True), metadata=MINE)
    before = await rig.snapshot()
    for other in (YOURS, ()):
        error = await rig.refused(
            infer(rig.infer("fold", {"x": X}, 7), metadata=other), Code.INVALID_ARGUMENT
        )
        assert "must specify the START flag" in error.details()
        theirs = rig.infer("fold", {"x": X}, 8, start=True)
        theirs.parameters["rnnserve_states_of"].string_param = "fold/7"
        await rig.refused(infer(theirs, metadata=other), Code.NOT_FOUND)
    assert await rig.snapshot() == before


async def test_a_stream_has_its_caller_too(rig: Any) -> None:
    await rig.inference.ModelInfer(rig.infer("fold", {"x": X}, 7, start=True), metadata=MINE)
    requests = [rig.infer("fold", {"x": X}, 7)]
    mine = [a async for a in rig.inference.ModelStreamInfer(iter(requests), metadata=MINE)]
    assert rig.outputs_of(mine[0].infer_response)["y"].tolist() == [[[4, 8]]]
    yours = [a async for a in rig.inference.ModelStreamInfer(iter(requests), metadata=YOURS)]
    assert "must specify the START flag" in yours[0].error_message


async def test_a_list_of_sessions_does_not_tell_what_the_header_said(rig: Any) -> None:
    await rig.inference.ModelInfer(rig.infer("fold", {"x": X}, 7, start=True), metadata=MINE)
    listed = await rig.sessions.ListSessions(pb.ListSessionsRequest())
    (name,) = [session.session_id for session in listed.sessions]
    assert name.startswith("sequence 7 of fold/2 of caller ")
    assert "mine" not in name


async def test_a_stream_ends_with_the_status_of_its_first_error(rig: Any) -> None:
    call = rig.inference.ModelStreamInfer(metadata=AT_ERROR)
    await call.write(rig.infer("fold", {"x": X}, 7, start=True))
    answer = await call.read()
    assert rig.outputs_of(answer.infer_response)["y"].tolist() == [[[1, 2]]]
    await call.write(rig.infer("fold", {"x": X}, 8))  # has no START
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is Code.INVALID_ARGUMENT
    assert caught.value.details().startswith("inference request for sequence 8 to model 'fold'")
    assert dict(caught.value.trailing_metadata())["rnnserve-error"] == "InvalidRequest"


async def test_the_sequences_of_such_a_stream_live_on(rig: Any) -> None:
    call = rig.inference.ModelStreamInfer(metadata=AT_ERROR)
    await call.write(rig.infer("fold", {"x": X}, 7, start=True))
    assert not (await call.read()).error_message
    await call.write(rig.infer("fold", {"x": X}, 8))
    with pytest.raises(grpc.aio.AioRpcError):
        await call.read()
    answer = await rig.inference.ModelInfer(rig.infer("fold", {"x": X}, 7))
    assert rig.outputs_of(answer)["y"].tolist() == [[[4, 8]]]


async def test_an_error_waits_for_its_turn(make_rig: Any) -> None:
    rig = await make_rig(hold="fold")
    scheduler = rig.serving.model("fold").scheduler
    call = rig.inference.ModelStreamInfer(metadata=AT_ERROR)
    for request in (
        rig.infer("fold", {"x": X}, 7, start=True),
        rig.infer("fold", {"x": X}, 8),
        rig.infer("fold", {"x": X}, 9, start=True),
    ):
        await call.write(request)
    await rig.until(lambda: scheduler.pending == 2)
    rig.held["fold"].released.set()
    assert not (await call.read()).error_message
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert "sequence 8" in caught.value.details()
    await rig.until(lambda: scheduler.pending == 0)


async def test_without_the_header_the_stream_goes_on(rig: Any) -> None:
    requests = [rig.infer("fold", {"x": X}, 8), rig.infer("fold", {"x": X}, 7, start=True)]
    off = (("triton_grpc_error", "false"),)
    for metadata in ((), off):
        stream = rig.inference.ModelStreamInfer(iter(requests), metadata=metadata)
        answers = [answer async for answer in stream]
        assert [bool(answer.error_message) for answer in answers] == [True, False]


def test_where_a_peer_of_grpcio_is() -> None:
    assert host_of("ipv4:127.0.0.1:50000") == "127.0.0.1"
    assert host_of("ipv6:%5B::1%5D:50000") == "::1"
    assert host_of("ipv6:[fe80::1]:1") == "fe80::1"
    assert host_of("unix:/run/other.sock") == ""


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False),  # for documentation: nobody's
        ("2001:db8::1", False),
        ("", False),
        ("localhost", False),
    ],
)
def test_who_is_on_this_host(host: str, local: bool) -> None:
    assert Caller(lambda: (), lambda: host).is_local is local


def test_an_address_of_this_host_is_local() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
        try:
            trial.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("no network: this host has no address but loopback")
        own = trial.getsockname()[0]
    assert Caller(lambda: (), lambda: own).is_local


def test_headers() -> None:
    caller = Caller(lambda: (("a", "1"), ("b-bin", b"\xff"), ("a", "2")), str)
    assert [caller.header(name) for name in ("a", "b-bin", "c")] == ["2", "\ufffd", ""]
    assert Caller(lambda: None, str).header("a") == ""


async def test_a_real_connection_knows_its_host(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over whatever transport the tests run on."""
    seen = []

    def scope(service: Any, caller: Caller) -> str:
        seen.append((caller.is_local, caller.header("rnnserve-caller")))
        return ""

    monkeypatch.setattr(InferenceService, "_scope", scope)
    await rig.inference.ModelInfer(rig.infer("fold", {"x": X}, 7, start=True), metadata=MINE)
    assert seen == [(True, "mine")]
