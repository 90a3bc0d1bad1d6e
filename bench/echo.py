"""The least that a Python gRPC server can do: answer each message of a stream with bytes that are
ready, without looking at what came. Prints its address. The yardstick for `bench.load`.

It can be told to be busy for some microseconds before each answer: what any server shows that needs
so long.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import grpc
import uvloop

METHOD = "/rnnserve.v1.SessionService/Stream"


class Echo(grpc.GenericRpcHandler):
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


async def main(answer: bytes, busy_us: float) -> None:
    server = grpc.aio.server(handlers=[Echo(answer, busy_us)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(bytes.fromhex(sys.argv[1]), float(sys.argv[2])))
