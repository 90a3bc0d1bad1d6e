"""A worker beside servers that do one thing wrong each: it finds it. Beside one that does nothing
wrong it finds nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.message import DecodeError

from fuzz.reference import Reference, Wrong, read
from fuzz.tally import Tally
from fuzz.worker import INFER, STREAM, Worker
from server.stubs.inference import grpc_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

REQUESTS = 400
Code = grpc.StatusCode


class Refused(Exception):
    def __init__(self, code: Code, text: str = "wrong in some way") -> None:
        super().__init__(text)
        self.code = code


class Server:
    """Answers as the reference would, but for its `fault`."""

    def __init__(self, fault: str = "") -> None:
        self.reference = Reference()
        self.fault = fault
        self.refused = 0

    def answer(self, raw: bytes) -> bytes:
        """Raises Refused."""
        try:
            return self._answer(raw)
        except (Wrong, DecodeError):
            self.refused += 1
            if self.fault == "moves on":
                for sequence in self.reference.sequences.values():
                    sequence.state = sequence.state + 1
            if self.fault == "internal" and self.refused > 5:
                raise Refused(Code.INTERNAL) from None
            if self.fault == "no words":
                raise Refused(Code.INVALID_ARGUMENT, "") from None
            raise Refused(Code.INVALID_ARGUMENT) from None

    def _answer(self, raw: bytes) -> bytes:
        request = pb.ModelInferRequest.FromString(raw)
        if self.fault == "runs twice" and "rnnserve_step" in request.parameters:
            del request.parameters["rnnserve_step"]
        asked = read(request)
        if self.fault == "refuses" and asked.end:
            raise Wrong
        if self.fault == "answers" and asked.key not in self.reference.sequences:
            asked = asked._replace(start=True)
        if set(asked.outputs) != {"y"}:
            raise Wrong
        expected = self.reference.expected(asked)
        if expected is None:
            raise Wrong
        response = pb.ModelInferResponse(
            id="other" if self.fault == "other id" else request.id,
            model_name=asked.key.model,
            model_version=str(asked.key.version),
        )
        for name in asked.outputs:
            response.outputs.add(name=name, datatype="INT64", shape=expected.shape)
            y = expected + (self.fault == "other output" and asked.key.model == "fold")
            response.raw_output_contents.append(y.tobytes())
        if self.fault == "forgets" and asked.key in self.reference.sequences:
            self.reference.sequences[asked.key].state[:] = 0
        return response.SerializeToString()

    async def call(self, raw: bytes, context: Any) -> bytes:
        if self.fault == "silent":
            await asyncio.sleep(60)
        if self.fault == "raises":
            raise ValueError("a bug")
        try:
            return self.answer(raw)
        except Refused as refused:
            await context.abort(refused.code, str(refused))
            raise

    async def stream(self, requests: Any, context: Any) -> AsyncIterator[bytes]:
        async for raw in requests:
            try:
                response = pb.ModelInferResponse.FromString(self.answer(raw))
                yield pb.ModelStreamInferResponse(infer_response=response).SerializeToString()
            except Refused as refused:
                try:
                    id = pb.ModelInferRequest.FromString(raw).id
                except DecodeError:
                    await context.abort(refused.code, str(refused))
                if self.fault == "internal in a stream":
                    refused = Refused(Code.INTERNAL, "internal error; see the log")
                yield pb.ModelStreamInferResponse(
                    error_message=str(refused), infer_response=pb.ModelInferResponse(id=id)
                ).SerializeToString()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Server], Any]]:
    """Starts servers; the address of each."""
    started = []

    async def start(behind: Server) -> str:
        server = grpc.aio.server()
        service, call = INFER.rsplit("/", 1)
        handlers = {
            call: grpc.unary_unary_rpc_method_handler(behind.call),
            STREAM.rsplit("/", 1)[1]: grpc.stream_stream_rpc_method_handler(behind.stream),
        }
        handler = grpc.method_handlers_generic_handler(service[1:], handlers)
        server.add_generic_rpc_handlers((handler,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        started.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in started:
        await server.stop(None)


async def run(address: str, limit_s: float = 20.0) -> Tally:
    tally = Tally()
    worker = Worker(address, "grpcio", 1, 0, tally, limit_s)
    await worker.run(lambda number: number <= REQUESTS)
    return tally


async def test_nothing_is_found_where_nothing_is_wrong(serve: Any) -> None:
    server = Server()
    tally = await run(await serve(server))
    assert not tally.findings
    assert tally.requests > REQUESTS
    assert server.refused > REQUESTS / 10
    assert not server.reference.sequences  # all were ended
    assert tally.by_status()["OK"] > REQUESTS / 4


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("moves on", "expected"),
        ("forgets", "expected"),
        ("other output", "expected"),
        ("runs twice", "expected"),
        ("other id", "says that it is"),
        ("answers", "although it comes at the wrong time"),
        ("refuses", "although nothing is wrong with it"),
        ("internal", "INTERNAL"),
        ("internal in a stream", "internal error"),
        ("raises", "UNKNOWN"),
        ("no words", "INVALID_ARGUMENT"),
        ("silent", "DEADLINE_EXCEEDED"),
    ],
)
async def test_each_fault_is_found(serve: Any, fault: str, said: str) -> None:
    tally = await run(await serve(Server(fault)), limit_s=1.0 if fault == "silent" else 20.0)
    (finding,) = tally.findings
    assert said in finding.what
    assert finding.number <= REQUESTS


async def test_a_server_that_is_gone() -> None:
    (finding,) = (await run("127.0.0.1:1")).findings
    assert "cannot be reached" in finding.what


async def test_the_same_seed_finds_the_same(serve: Any) -> None:
    first, second = [await run(await serve(Server("moves on"))) for _ in range(2)]
    assert first.findings[0].number == second.findings[0].number
    assert first.counts == second.counts
