"""The port that processes share, and that strangers do not."""

from __future__ import annotations

import socket

import pytest

from server.errors import StartupError
from server.processes.port import reserve


def shared(port: int) -> socket.socket:
    """A listening socket as a worker's, with the options that gRPC sets."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen()
    return listening


def test_several_may_listen_and_the_one_who_keeps_it_does_not() -> None:
    with reserve("127.0.0.1", 0) as kept:
        port = kept.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with shared(port), shared(port), socket.create_connection(("127.0.0.1", port)):
            pass


def test_a_port_that_others_share_is_taken() -> None:
    with reserve("127.0.0.1", 0) as kept:
        port = kept.getsockname()[1]
        with shared(port), pytest.raises(StartupError, match=f"127.0.0.1:{port} for gRPC"):
            reserve("127.0.0.1", port)


def test_a_port_that_was_closed_a_moment_ago_is_free() -> None:
    """Connections that linger from before do not keep a server from starting again."""
    with reserve("127.0.0.1", 0) as kept:
        port = kept.getsockname()[1]
        with shared(port) as listening:
            client = socket.create_connection(("127.0.0.1", port))
            accepted, _ = listening.accept()
            accepted.close()  # it is the server that closes first, and lingers
            client.close()
    with reserve("127.0.0.1", port) as again:
        assert again.getsockname()[1] == port


@pytest.mark.parametrize("host", ["nowhere.invalid", "203.0.113.7"])
def test_an_address_that_is_not_ours(host: str) -> None:
    with pytest.raises(StartupError, match=f"cannot listen on {host}"):
        reserve(host, 0)
