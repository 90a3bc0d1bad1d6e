"""The least that a Python gRPC server can do: answer each message of a stream with bytes that are
ready, without looking at what came. Prints its address. The yardstick for `bench.load`.
"""

from __future__ import annotations

import sys
from typing import Any

import grpc
import uvloop

METHOD = "/rnnserve.v1.SessionService/Stream"


class Echo(grpc.GenericRpcHandler):
    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def service(self, handler_call_details: Any) -> Any:
        return grpc.stream_stream_rpc_method_handler(self._stream)

    async def _stream(self, requests: Any, context: Any) -> None:
        while await context.read() is not grpc.aio.EOF:
            await context.write(self._answer)


async def main(answer: bytes) -> None:
    server = grpc.aio.server(handlers=[Echo(answer)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(bytes.fromhex(sys.argv[1])))
