"""The stream behind a group of the synchronous client."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import grpc

from rnnserve.errors import RnnserveError, Unavailable

if TYPE_CHECKING:
    from rnnserve.client import Client
    from rnnserve.v1 import session_pb2 as pb


class Link:
    """One stream. A thread of gRPC's sends what is put into it, one of its own reads the answers,
    because only a queue can be waited for until some time.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._outbox: SimpleQueue[pb.StreamRequest | None] = SimpleQueue()
        self._inbox: SimpleQueue[pb.StreamResponse | RnnserveError] = SimpleQueue()
        self._call: Any = client._start("Stream", iter(self._outbox.get, None), None)
        threading.Thread(target=self._read, daemon=True, name="rnnserve-group").start()

    def send(self, request: pb.StreamRequest) -> None:
        self._outbox.put(request)

    def receive(self, timeout_s: float | None) -> pb.StreamResponse:
        """The next answer. RnnserveError: there will be none; TimeoutError: it is late."""
        try:
            answer = self._inbox.get(timeout=timeout_s)
        except Empty:
            raise TimeoutError from None
        if isinstance(answer, RnnserveError):
            raise answer
        return answer

    @property
    def has_answers(self) -> bool:
        return not self._inbox.empty()

    def close(self) -> None:
        """Answers that have not been received are lost."""
        self._call.cancel()

    def _read(self) -> None:
        try:
            for answer in self._call:
                self._inbox.put(answer)
            self._inbox.put(ended_early(self._client.target))
        except grpc.RpcError as error:
            self._inbox.put(self._client._error(error, None))
        finally:
            self._outbox.put(None)  # lets gRPC's thread go, too


def ended_early(target: str) -> RnnserveError:
    return Unavailable(f"{target} ended the stream before it had answered")
