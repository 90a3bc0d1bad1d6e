"""A service as grpcio takes it, in place of the generated function that does this.

grpcio says UNKNOWN to a client whose bytes are no message, and ends a stream without a word. Here
what reads the bytes gives the error on as if it were the message, so that it is answered as every
other mistake of a client's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
from google.protobuf.message_factory import GetMessageClass

from server.errors import InvalidRequest
from server.rpc.methods import decoded

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
    from google.protobuf.message import Message


class Registered(NamedTuple):
    path: str
    request_type: type[Message]


def add_to_server(service: Any, descriptor: ServiceDescriptor, server: grpc.aio.Server) -> None:
    """All methods of the service."""
    name = descriptor.full_name
    handlers = {method.name: _handler(service, name, method) for method in descriptor.methods}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    server.add_registered_method_handlers(name, handlers)


def _handler(service: Any, name: str, method: MethodDescriptor) -> grpc.RpcMethodHandler[Any, Any]:
    streams = method.client_streaming
    assert streams == method.server_streaming, "our methods stream both ways or neither"
    handler = (
        grpc.stream_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
    )
    registered = Registered(f"/{name}/{method.name}", GetMessageClass(method.input_type))
    return handler(
        getattr(service, method.name),
        request_deserializer=_reader(registered),
        response_serializer=GetMessageClass(method.output_type).SerializeToString,
    )


def _reader(method: Registered) -> Callable[[bytes], Message | InvalidRequest]:
    def read(message: bytes) -> Message | InvalidRequest:
        try:
            return decoded(method, message)
        except InvalidRequest as unreadable:
            return unreadable

    return read
