from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, Counter

from server.errors import StartupError
from server.http import HttpServer

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"


class Health:
    good = True


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def server(health: Health) -> Iterator[HttpServer]:
    registry = CollectorRegistry()
    Counter("breaths", "Breaths taken", registry=registry).inc(3)
    server = HttpServer(HOST, 0, registry, lambda: health.good)
    yield server
    server.stop()


def get(server: HttpServer, path: str) -> tuple[int, str, str]:
    try:
        with urlopen(f"http://{HOST}:{server.port}{path}", timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_health_is_200_or_503(server: HttpServer, health: Health) -> None:
    assert get(server, "/healthz")[::2] == (200, "ok\n")
    health.good = False
    assert get(server, "/healthz")[::2] == (503, "not ready\n")


def test_metrics_are_text_for_prometheus(server: HttpServer) -> None:
    status, kind, text = get(server, "/metrics")
    assert status == 200
    assert kind.startswith("text/plain")
    assert "breaths_total 3.0" in text


def test_any_other_page_names_the_two(server: HttpServer) -> None:
    status, _, text = get(server, "/")
    assert status == 404
    assert "/healthz" in text
    assert "/metrics" in text


def test_slow_clients_hold_nobody_up(server: HttpServer) -> None:
    with socket.create_connection((HOST, server.port)) as silent:
        silent.send(b"GET /heal")
        assert get(server, "/healthz")[0] == 200


def test_requests_are_not_written_to_stderr(
    server: HttpServer, capfd: pytest.CaptureFixture[str]
) -> None:
    get(server, "/healthz")
    assert capfd.readouterr().err == ""


def test_a_port_in_use_is_said_in_one_line(server: HttpServer) -> None:
    with pytest.raises(StartupError, match=f"{HOST}:{server.port} .*in use.*--http-port") as caught:
        HttpServer(HOST, server.port, CollectorRegistry(), lambda: True)
    assert "\n" not in str(caught.value)


def test_an_address_of_another_machine_is_said_in_one_line() -> None:
    with pytest.raises(StartupError, match=r"cannot listen on 192\.0\.2\.1:0 for HTTP"):
        HttpServer("192.0.2.1", 0, CollectorRegistry(), lambda: True)


def test_stop_frees_the_port_and_ends_the_thread() -> None:
    server = HttpServer(HOST, 0, CollectorRegistry(), lambda: True)
    before = threading.active_count()
    server.stop()
    assert threading.active_count() == before - 1
    again: Any = HttpServer(HOST, server.port, CollectorRegistry(), lambda: True)
    assert again.port == server.port
    again.stop()
