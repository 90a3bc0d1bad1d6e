"""A server process as one of several: what differs from one that is alone.

For the others and for the parent it listens on a socket in the shared directory, where it answers
for itself only; on the port for clients it answers for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from prometheus_client import generate_latest

from rnnserve.v1 import session_pb2_grpc
from server.processes.claims import Claims
from server.processes.inference_service import RoutedInferenceService
from server.processes.operators import METRICS, OPERATORS, READY
from server.processes.routes import OPTIONS, Routes, socket_of
from server.processes.serving import SharedServing
from server.processes.session_service import RoutedSessionService
from server.rpc.inference_service import InferenceService
from server.rpc.session_service import SessionService
from server.stubs.inference import grpc_service_pb2 as oip
from server.stubs.inference import grpc_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

    from server.control import ModelControl
    from server.processes.letter import Letter


class Member:
    """`announce` tells the parent that this process serves."""

    def __init__(self, letter: Letter, announce: Callable[[], None]) -> None:
        self._directory = letter.directory
        self._number = letter.number
        self._limits = letter.config.limits
        self._caller_header = letter.config.caller_header
        self._shared_memory = letter.config.shared_memory
        self._server = grpc.aio.server(options=OPTIONS)
        claims = Claims(letter.directory, letter.number)
        self.announce = announce
        self.routes = Routes(claims, letter.number, letter.count)
        self.serving = SharedServing(self._limits.max_sessions, claims, self.routes)

    def services(
        self, control: ModelControl
    ) -> tuple[RoutedSessionService, RoutedInferenceService]:
        """For clients."""
        self._control = control
        shared = self.serving, self._limits.max_pending_per_session, self.routes
        inference = RoutedInferenceService(
            *shared,
            control=control,
            caller_header=self._caller_header,
            shared_memory=self._shared_memory,
        )
        return RoutedSessionService(*shared), inference

    async def models_elsewhere(self) -> set[str]:
        """What the other processes serve: more than at the start, if this one follows another."""
        self.routes.connect(self._directory)
        index = [peer.inference.RepositoryIndex for peer in self.routes.peers.values()]
        answers = await self.routes.ask(index, oip.RepositoryIndexRequest(ready=True))
        return {model.name for answer in answers for model in answer.models}

    async def join(self, registry: CollectorRegistry, is_ready: Callable[[], bool]) -> None:
        """Listen for the others."""
        own = self.serving, self._limits.max_pending_per_session
        session_pb2_grpc.add_SessionServiceServicer_to_server(SessionService(*own), self._server)
        inference = InferenceService(
            *own,
            control=self._control,
            caller_header=self._caller_header,
            shared_memory="all",  # who asked another process may use it
        )
        grpc_service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(inference, self._server)
        handlers = {
            METRICS: _handler(lambda: generate_latest(registry)),
            READY: _handler(lambda: b"ready" if is_ready() else b""),
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(OPERATORS, handlers),)
        )
        self._server.add_insecure_port(socket_of(self._directory, self._number))
        await self._server.start()

    async def leave(self, grace_s: float | None) -> None:
        await self._server.stop(grace_s)
        await self.routes.close()


def _handler(answer: Callable[[], bytes]) -> Any:
    async def method(request: bytes, context: Any) -> bytes:
        return answer()

    return grpc.unary_unary_rpc_method_handler(method)
