"""`python -m server.healthcheck`: does the server serve? For containers, whose runtime runs it.

Exit code 0 if grpc.health.v1 answers SERVING, 1 otherwise, with the reason on stderr. It runs every
few seconds, so it imports gRPC and nothing more: argparse here, where other commands use typer.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_PORT = "8001"  # as in server.config, whose import would take three times as long
HEALTHY, UNHEALTHY = 0, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code; `arguments` are the command line's unless given."""
    options = _parser(os.environ).parse_args(arguments)
    problem = problem_of(options.address, options.service, options.timeout_s)
    if problem is None:
        return HEALTHY
    print(f"{options.address}: {problem}", file=sys.stderr)
    return UNHEALTHY


def problem_of(address: str, service: str, timeout_s: float) -> str | None:
    """Why the service at `address` ("host:port") does not serve, None if it does."""
    request = health_pb2.HealthCheckRequest(service=service)
    # a proxy of the environment is for the way out, not for the server next door
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout_s)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return None
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    port = environment.get("RNNSERVE_GRPC_PORT", DEFAULT_PORT)
    parser = argparse.ArgumentParser(
        "python -m server.healthcheck",
        description="Ask a server by gRPC's health protocol whether it serves.",
    )
    parser.add_argument(
        "--address", default=f"127.0.0.1:{port}", help="host:port (default: %(default)s)"
    )
    parser.add_argument("--service", default="", help="of the server; empty: all of it")
    parser.add_argument("--timeout-s", type=float, default=3.0, help="(default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
