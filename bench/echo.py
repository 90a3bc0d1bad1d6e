"""Two yardsticks for `bench.load`, both grpc.aio on uvloop. Prints its address.

- `bytes`: the least that a Python gRPC server can do. It answers each message with bytes that are
  ready, without looking at what came. It can be told to be busy for some microseconds before each
  answer: what any server shows that needs so long.
- `service`: an echo as one writes it. The same messages through the same generated code; a step's
  input comes back as its output.

    python -m bench.echo service | python -m bench.echo bytes HEX [BUSY_US]
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import grpc
import uvloop

from rnnserve.v1 import session_pb2 as pb
from rnnserve.v1 import session_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

METHOD = "/rnnserve.v1.SessionService/Stream"


class BytesEcho(grpc.GenericRpcHandler):
    def __init__(self, answer: bytes, busy_us: float) -> None:
        self._answer = answer
        self._busy_s = busy_us / 1e6

    def service(self, handler_call_details: Any) -> Any:
        return grpc.stream_stream_rpc_method_handler(self._stream)

    async def _stream(self, requests: Any, context: Any) -> None:
        while await context.read() is not grpc.aio.EOF:
            until_s = time.perf_counter() + self._busy_s
            while self._busy_s and time.perf_counter() < until_s:
                pass
            await context.write(self._answer)


class ServiceEcho(session_pb2_grpc.SessionServiceServicer):
    async def Stream(
        self, request_iterator: AsyncIterator[pb.StreamRequest], context: Any
    ) -> AsyncIterator[pb.StreamResponse]:
        step = 0
        async for request in request_iterator:
            step += 1
            yield pb.StreamResponse(
                request_id=request.request_id,
                session=request.session,
                step=pb.StepResponse(outputs=request.step.inputs, step=step),
            )


async def main(arguments: list[str]) -> None:
    server = grpc.aio.server()
    if arguments[0] == "service":
        session_pb2_grpc.add_SessionServiceServicer_to_server(ServiceEcho(), server)  # type: ignore[abstract]
    else:
        busy_us = float(arguments[2]) if len(arguments) > 2 else 0.0
        server.add_generic_rpc_handlers((BytesEcho(bytes.fromhex(arguments[1]), busy_us),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
