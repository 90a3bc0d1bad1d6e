"""`rnnserve serve`: from the command line to a running server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer

from server import config as configuration


def serve(
    repository: Annotated[
        Path | None, typer.Option(help="Directory of models.", show_default="repository")
    ] = None,
    model_control_mode: Annotated[
        Literal["none", "poll", "explicit"] | None,
        typer.Option(
            help="Which models: those there at the start; changes, too; as clients ask.",
            show_default="none",
        ),
    ] = None,
    load_model: Annotated[
        list[str] | None,
        typer.Option(help="With explicit: load this at the start, * for all. May be repeated."),
    ] = None,
    repository_poll_s: Annotated[
        float | None,
        typer.Option(help="With poll: seconds between two looks.", show_default="15"),
    ] = None,
    exit_on_error: Annotated[
        bool | None,
        typer.Option(help="Do not start if a model cannot be served.", show_default="yes"),
    ] = None,
    model_drain_limit_s: Annotated[
        float | None,
        typer.Option(
            help="Seconds that sessions of a replaced or unloaded model have.", show_default="300"
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on, 0.0.0.0 for all.", show_default="127.0.0.1"),
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help="For clients; 0 takes any free port.", show_default="8001")
    ] = None,
    http_port: Annotated[
        int | None,
        typer.Option(help="For /healthz and /metrics; 0 takes any.", show_default="8002"),
    ] = None,
    provider: Annotated[
        Literal["auto", "cuda", "cpu"] | None,
        typer.Option(help="Where models run; auto takes CUDA if there.", show_default="auto"),
    ] = None,
    intra_op_threads: Annotated[
        int | None,
        typer.Option(help="Threads per model; 0 leaves it to ONNX Runtime.", show_default="1"),
    ] = None,
    max_sessions: Annotated[
        int | None, typer.Option(help="Sessions open at a time.", show_default="100000")
    ] = None,
    max_pending: Annotated[
        int | None, typer.Option(help="Requests waiting, per model.", show_default="65536")
    ] = None,
    max_pending_per_session: Annotated[
        int | None,
        typer.Option(help="Requests waiting, per session and per stream.", show_default="256"),
    ] = None,
    max_resident: Annotated[
        int | None,
        typer.Option(
            help="Sessions whose state is on the device at a time; others wait in host memory.",
            show_default="max-sessions",
        ),
    ] = None,
    max_pending_bytes: Annotated[
        int | None,
        typer.Option(help="Bytes that requests waiting carry, per model.", show_default="1 GiB"),
    ] = None,
    max_remembered_bytes: Annotated[
        int | None,
        typer.Option(
            help="Answers kept for clients that ask again, per model.", show_default="256 MiB"
        ),
    ] = None,
    max_message_bytes: Annotated[
        int | None, typer.Option(help="Size of one gRPC message.", show_default="67108864")
    ] = None,
    max_chunk: Annotated[
        int | None,
        typer.Option(help="Timesteps that run before others get a turn.", show_default="measured"),
    ] = None,
    engine_thread: Annotated[
        Literal["auto", "own", "shared"] | None,
        typer.Option(help="The engine's thread; auto measures the model.", show_default="auto"),
    ] = None,
    transport: Annotated[
        Literal["auto", "http2", "grpcio", "native"] | None,
        typer.Option(
            help="What takes calls; auto: http2, or grpcio without h2. native needs [fast].",
            show_default="auto",
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(help="That share the port; every limit is of each.", show_default="1"),
    ] = None,
    caller_header: Annotated[
        str | None,
        typer.Option(
            help="Header that gives a caller sequence ids of its own.",
            show_default="rnnserve-caller",
        ),
    ] = None,
    shared_memory: Annotated[
        Literal["local", "all", "off"] | None,
        typer.Option(
            help="Whose tensors may lie in it: of clients on this host, of all clients, of none.",
            show_default="local",
        ),
    ] = None,
    drain_limit_s: Annotated[
        float | None,
        typer.Option(help="Seconds that SIGTERM leaves to open sessions.", show_default="30"),
    ] = None,
    log_format: Annotated[
        Literal["console", "json"] | None, typer.Option(show_default="console")
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None, typer.Option(show_default="info")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with these settings, in snake_case.")
    ] = None,
) -> None:
    """Serve a repository of models over gRPC, each client's hidden state kept between requests.

    Every option may also come from the environment (RNNSERVE_GRPC_PORT=9001,
    RNNSERVE_LIMITS__MAX_SESSIONS=500) or from the file given by --config; the command line wins.
    SIGTERM lets open sessions go on until they are closed or the drain limit has passed.
    """
    given = {name: value for name, value in locals().items() if name != "config"}
    settings = configuration.load(config, **given)
    from server import logs

    logs.configure(settings.log_format, settings.log_level)
    if settings.processes > 1:
        from server.processes.parent import supervise

        asyncio.run(supervise(settings))
    else:
        _run(settings)


def _run(settings: configuration.ServerConfig) -> None:
    from server import app

    try:
        import uvloop
    except ImportError:  # where there is none: slower, otherwise the same
        asyncio.run(app.serve(settings))
    else:
        uvloop.run(app.serve(settings))
