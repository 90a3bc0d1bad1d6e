"""The way to the other processes, and what is on its way there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

from rnnserve.v1 import session_pb2_grpc
from server.processes.failures import error_of, lost
from server.stubs.inference import grpc_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Coroutine, Hashable, Iterable
    from pathlib import Path

    from server.processes.claims import Claims
    from server.rpc.methods import Cancel, Respond

READY = grpc.ChannelConnectivity.READY
OPTIONS = [
    ("grpc.max_receive_message_length", -1),  # the port that clients use has the limits
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),  # a process that has died is soon there again
    ("grpc.max_reconnect_backoff_ms", 200),
]
REACH_LIMIT_S = 1.0


def socket_of(directory: Path, number: int) -> str:
    """Where the process listens for the others, as a target of gRPC."""
    return f"unix:{directory / str(number)}.socket"


class Peer:
    """Another process, by both services."""

    def __init__(self, directory: Path, number: int) -> None:
        self.number = number
        self._channel = grpc.aio.insecure_channel(socket_of(directory, number), OPTIONS)
        self.sessions = session_pb2_grpc.SessionServiceStub(self._channel)
        self.inference = grpc_service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    async def reach(self) -> None:
        """Wait until it is connected: it may have been started anew a moment ago. Raises
        SessionNotFound where it is not there.
        """
        if self._channel.get_state(try_to_connect=True) is not READY:
            try:
                await asyncio.wait_for(self._channel.channel_ready(), REACH_LIMIT_S)
            except TimeoutError:
                raise lost(self.number) from None

    async def close(self) -> None:
        await self._channel.close()


class Routes:
    """From the process `number` of `count`. `quiet` is set while nothing is passed on."""

    def __init__(self, claims: Claims, number: int, count: int) -> None:
        self._claims = claims
        self._number = number
        self._count = count
        self.mark = f".{number}"  # with which the ids end that this process makes
        self.peers: dict[int, Peer] = {}
        self._busy: set[Any] = set()
        self.quiet = asyncio.Event()
        self.quiet.set()

    def connect(self, directory: Path) -> None:
        """The others need not be there yet."""
        others = (number for number in range(self._count) if number != self._number)
        self.peers = {number: Peer(directory, number) for number in others}

    async def close(self) -> None:
        for peer in self.peers.values():
            await peer.close()

    def elsewhere(self, ids: Iterable[Hashable]) -> Peer | None:
        """The process that holds the first of these sessions that another one holds."""
        for id in ids:
            peer = self.peers.get(self._holder(id))
            if peer is not None:
                return peer
        return None

    def _holder(self, id: Hashable) -> int:
        holder = self._claims.holder(id)
        if holder is not None:
            return holder
        _, dot, number = id.rpartition(".") if isinstance(id, str) else ("", "", "")
        return int(number) if dot and number.isdecimal() and len(number) < 4 else self._number

    def enter(self, what: Any) -> None:
        """Something is passed on from now on."""
        self._busy.add(what)
        self.quiet.clear()

    def leave(self, what: Any) -> None:
        self._busy.discard(what)
        if not self._busy:
            self.quiet.set()

    def pass_on(self, peer: Peer, method: Any, request: Any, respond: Respond) -> Cancel:
        """A unary call, to a method of one of the peer's stubs. Its answer, be it an error, goes to
        `respond`; the function that comes back cancels it.
        """
        return self.in_task(_answer(peer, method, request), respond)

    def in_task(self, answer: Coroutine[Any, Any, Any], respond: Respond) -> Cancel:
        """Wait for the answer beside everything else."""

        def done(task: asyncio.Task[Any]) -> None:
            self.leave(task)
            if not task.cancelled():
                respond(task.exception() or task.result())

        task = asyncio.get_running_loop().create_task(answer)
        self.enter(task)
        task.add_done_callback(done)
        return task.cancel  # type: ignore[return-value]

    async def present(self) -> list[Peer]:
        """The other processes that are there. One that is not begins anew when it is."""
        peers = list(self.peers.values())
        missing = await asyncio.gather(*(peer.reach() for peer in peers), return_exceptions=True)
        return [peer for peer, why in zip(peers, missing, strict=True) if why is None]

    async def tell(self, method: str, request: Any) -> None:
        """Call this method of GRPCInferenceService in the other processes that are there. Raises
        RequestError.
        """
        peers = await self.present()
        await self.ask([getattr(peer.inference, method) for peer in peers], request)

    async def ask(self, methods: Iterable[Any], request: Any) -> list[Any]:
        """What the processes answer that are there. Raises RequestError."""
        answers = await asyncio.gather(
            *(method(request) for method in methods), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, grpc.aio.AioRpcError):
                if answer.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise error_of(answer, self._number)
            elif isinstance(answer, BaseException):
                raise answer
        return [answer for answer in answers if not isinstance(answer, BaseException)]


async def _answer(peer: Peer, method: Any, request: Any) -> Any:
    """Raises RequestError."""
    await peer.reach()
    try:
        return await method(request)
    except grpc.aio.AioRpcError as error:
        raise error_of(error, peer.number) from None
