"""Calls with one message and one answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn

from server.http2.calls import Call
from server.http2.refusals import Refused
from server.rpc.methods import decoded
from server.rpc.status import Failure, failure

if TYPE_CHECKING:
    import grpc
    from google.protobuf.message import Message

    from server.http2.connection import Connection
    from server.http2.headers import Asked
    from server.http2.methods import TaskMethod
    from server.rpc.methods import Answer, Method


class UnaryCall(Call):
    """Its method answers at once or later."""

    __slots__ = ("_asked", "_method")

    def __init__(
        self, method: Method, max_bytes: int, connection: Connection, stream_id: int
    ) -> None:
        super().__init__(max_bytes, connection, stream_id)
        self._method = method

    def _start(self, asked: Asked) -> None:
        self._asked = asked

    def _take(self) -> None:
        if not self._half_closed:
            return self._messages.check()
        message = self._messages.only()
        caller = self._connection.caller(self._asked)
        try:
            self._cancel = self._method.begin(decoded(self._method, message), self._respond, caller)
        except Exception as error:
            self._respond(error)

    def _respond(self, answer: Answer) -> None:
        if self._over:
            return
        if isinstance(answer, Exception):
            return self._fail(failure(answer))
        try:
            self._send(answer.SerializeToString())
        except Refused as refused:
            return self._fail(refused.failure)
        except Exception as error:
            return self._fail(failure(error))
        self._finish()


class TaskCall(Call):
    """Its method is a coroutine, as servicers of grpc.aio have them; it may write several answers.
    It is for what is called now and then.
    """

    __slots__ = ("_method", "_task")

    def __init__(
        self, method: TaskMethod, max_bytes: int, connection: Connection, stream_id: int
    ) -> None:
        super().__init__(max_bytes, connection, stream_id)
        self._method = method

    def _take(self) -> None:
        if not self._half_closed:
            return self._messages.check()
        try:
            request = decoded(self._method, self._messages.only())
        except Exception as error:
            raise Refused(failure(error)) from None
        self._task = asyncio.get_running_loop().create_task(self._run(request))

        def cancel() -> None:
            self._task.cancel()

        self._cancel = cancel

    async def _run(self, request: Message) -> None:
        try:
            answer = await self._method.run(request, self)
            if answer is not None:
                await self.write(answer)
        except Refused as refused:
            self._end_with(refused.failure)
        except Exception as error:
            self._end_with(failure(error))
        else:
            if not self._over:
                self._send_begin()
                self._finish()

    def _end_with(self, failed: Failure) -> None:
        if not self._over:
            self._fail(failed)

    # what the coroutine takes for its context

    async def write(self, message: Any) -> None:
        if not self._over:
            self._send(message.SerializeToString())

    async def abort(self, code: grpc.StatusCode, details: str = "") -> NoReturn:
        raise Refused(Failure(code, details, ()))
