"""The port that several processes share."""

from __future__ import annotations

import socket

from server.errors import StartupError


def reserve(host: str, port: int) -> socket.socket:
    """A socket that keeps the port for processes of this user, and never listens itself; where
    `port` is 0, any free one. Raises StartupError where somebody else has it.
    """
    family, kind, protocol, _, address = _resolved(host, port)
    try:
        # sharing it with a stranger would be allowed: two servers, each with half of the clients
        with socket.socket(family, kind, protocol) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(address)
        shared = socket.socket(family, kind, protocol)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind(address)
    except OSError:
        raise StartupError(
            f"cannot listen on {host}:{port} for gRPC: the port is in use or the address is not "
            "this machine's; choose others with --grpc-port and --host"
        ) from None
    return shared


def _resolved(host: str, port: int) -> tuple[int, int, int, str, tuple[object, ...]]:
    """Raises StartupError."""
    try:
        return socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise StartupError(f"cannot listen on {host}: {error.strerror}; see --host") from None
