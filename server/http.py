"""Health and metrics over HTTP, for load balancers and Prometheus."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from server.errors import StartupError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import CollectorRegistry


class HttpServer:
    """`/healthz` answers 200 while `healthy()`, else 503; `/metrics` shows the registry.

    Runs on a thread of its own from construction on. `port` is the one that was bound. Raises
    StartupError where it cannot listen.
    """

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, healthy: Callable[[], bool]
    ) -> None:
        self._metrics = make_wsgi_app(registry)
        self._healthy = healthy
        try:
            self._server = make_server(
                host, port, self._answer, ThreadingWSGIServer, handler_class=_QuietHandler
            )
        except OSError as error:
            raise StartupError(
                f"cannot listen on {host}:{port} for HTTP: {error.strerror}; "
                "choose another port with --http-port"
            ) from None
        self.port: int = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            page: Iterable[bytes] = self._metrics(environ, start_response)
            return page
        if path == "/healthz":
            healthy = self._healthy()
            return _text(
                start_response,
                "200 OK" if healthy else "503 Service Unavailable",
                "ok\n" if healthy else "not ready\n",
            )
        return _text(start_response, "404 Not Found", "see /healthz and /metrics\n")


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """A probe every few seconds is no news."""


def _text(start_response: Any, status: str, text: str) -> list[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode()]
