"""The asyncio client: the same names as `rnnserve`, with `await`, `async with`, `async for`.

>>> async with rnnserve.aio.connect("localhost:8001") as client:
...     async with client.session("vowels") as session:
...         async for probabilities in session.stream(frames):
...             print(probabilities.argmax())
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from rnnserve import _channel
from rnnserve._aio_caller import Caller
from rnnserve._aio_group import Group
from rnnserve._aio_session import Session
from rnnserve._aio_stream import Stream
from rnnserve._calls import describe_call, list_call, restore_request, resume_key
from rnnserve._group_start import group_keys, group_start
from rnnserve._retry import RETRIES, Retries
from rnnserve._start import start

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rnnserve._start import StatesOf
    from rnnserve.specs import ModelInfo, SessionInfo

__all__ = ["Client", "Group", "Session", "Stream", "connect"]


def connect(
    target: str,
    *,
    timeout_s: float | None = _channel.DEFAULT_TIMEOUT_S,
    retries: Retries | None = RETRIES,
    credentials: grpc.ChannelCredentials | None = None,
    options: Sequence[tuple[str, Any]] = (),
) -> Client:
    """As `rnnserve.connect`. To be called where an event loop runs, which the client then uses."""
    _channel.check_target(target)
    asyncio.get_running_loop()  # its error is clearer than what grpc would say later
    arguments = _channel.options(options)
    if credentials is None:
        channel = grpc.aio.insecure_channel(target, arguments)
    else:
        channel = grpc.aio.secure_channel(target, credentials, arguments)
    return Client(channel, target, timeout_s, retries)


class Client(Caller):
    """A connection to a server, for one event loop. Tasks may share it; `connect` makes it.

    Closing it leaves its open sessions on the server until they expire.
    """

    def session(
        self,
        model: str,
        *,
        version: str = "",
        batch_size: int = 1,
        session_id: str = "",
        idle_ttl_s: float | None = None,
        initial_state: Mapping[str, object] | None = None,
        constants: object = None,
        states_of: StatesOf | None = None,
        timeout_s: float | None = None,
    ) -> Session:
        """A new session, for `async with` or `await open()`; see `rnnserve.Client.session`."""
        begins = start(
            *(model, version, batch_size, session_id, idle_ttl_s),
            *(initial_state, constants, states_of),
        )
        return Session(self, begins, timeout_s or self.timeout_s)

    def resume(self, session_id: str, token: str, *, timeout_s: float | None = None) -> Session:
        """Takes up a session that is already there; see `rnnserve.Client.resume`."""
        key = resume_key(session_id, token)
        return Session(self, key, timeout_s or self.timeout_s)

    def restore(
        self,
        snapshot: bytes,
        model: str = "",
        version: str = "",
        *,
        session_id: str = "",
        idle_ttl_s: float | None = None,
        timeout_s: float | None = None,
    ) -> Session:
        """A session that goes on where a snapshot was taken; see `rnnserve.Client.restore`."""
        request = restore_request(snapshot, model, version, session_id, idle_ttl_s)
        return Session(self, request, timeout_s or self.timeout_s)

    def group(
        self,
        model: str,
        count: int,
        *,
        version: str = "",
        idle_ttl_s: float | None = None,
        constants: object = None,
        timeout_s: float | None = None,
    ) -> Group:
        """`count` new sessions that step together; see `rnnserve.Client.group`."""
        begins = group_start(model, count, version, idle_ttl_s, constants)
        return Group(self, begins, timeout_s or self.timeout_s)

    def resume_group(
        self, keys: Iterable[tuple[str, str]], *, timeout_s: float | None = None
    ) -> Group:
        """Takes up sessions that are already there; see `rnnserve.Client.resume_group`."""
        return Group(self, group_keys(keys), timeout_s or self.timeout_s)

    async def model(self, name: str, *, version: str = "") -> ModelInfo:
        """What a model takes, gives and keeps; by default its latest version."""
        return await self._make(describe_call(name, version), self.timeout_s)

    async def sessions(self, model: str | None = None) -> list[SessionInfo]:
        """The sessions that the server holds, of one model or of all."""
        found: list[SessionInfo] = []
        page_token = ""
        while True:
            page = await self._make(list_call(model, page_token), self.timeout_s)
            found += page.sessions
            if not page.next_page_token:
                return found
            page_token = page.next_page_token
