"""The synchronous client. `rnnserve.aio` has the same names for asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from rnnserve import _channel
from rnnserve._caller import Caller
from rnnserve._calls import describe_call, list_call, restore_request, resume_key
from rnnserve._client_session import Session
from rnnserve._group import Group
from rnnserve._group_start import group_keys, group_start
from rnnserve._retry import RETRIES, Retries
from rnnserve._start import start

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rnnserve._start import StatesOf
    from rnnserve.specs import ModelInfo, SessionInfo

__all__ = ["Client", "Group", "Session", "connect"]


def connect(
    target: str,
    *,
    timeout_s: float | None = _channel.DEFAULT_TIMEOUT_S,
    retries: Retries | None = RETRIES,
    credentials: grpc.ChannelCredentials | None = None,
    options: Sequence[tuple[str, Any]] = (),
) -> Client:
    """A client of the server at `target`, "host:port".

    Nothing is sent yet: a server that is not there shows at the first call, as `Unavailable`. Once
    it has answered, calls are repeated when the server cannot be reached or an answer is lost; a
    step is run once all the same.

    Args:
        timeout_s: how long a call may take, all its attempts together; None: as long as it likes.
        retries: the rhythm of the attempts; None: there is but one.
        credentials: for TLS, e.g. `grpc.ssl_channel_credentials()`; None: plain text.
        options: gRPC channel arguments, over the client's own.

    >>> with connect("localhost:8001") as client, client.session("vowels") as session:
    ...     probabilities = session.step(frames)
    """
    _channel.check_target(target)
    arguments = _channel.options(options)
    if credentials is None:
        channel = grpc.insecure_channel(target, arguments)
    else:
        channel = grpc.secure_channel(target, credentials, arguments)
    return Client(channel, target, timeout_s, retries)


class Client(Caller):
    """A connection to a server. Threads may share it; `connect` makes it.

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
        """A new session with `model`, opened by `with` or by `open()`.

        Args:
            version: of the model; empty: the latest.
            batch_size: rows, each with a state of its own, that step together.
            session_id: a name of your choice; empty: the server makes one.
            idle_ttl_s: seconds without a request until the server ends it; None: the model's.
            initial_state: state name to `(batch_size, …)`; None: the model's own.
            constants: what the model's steps are given along with their inputs, once and for all:
                constant name to `(batch_size, …)`, or the array of the only constant. None where
                the model has none, or where `states_of` is of the same model and has them.
            states_of: a session, open when this one is opened, of any model of this server and of
                the same batch size. This one begins with the states that it has then; the arrays do
                not travel. States are taken by name, or in order where they are alike, or with
                `(session, {"this model's state": "that session's"})` as you say.
            timeout_s: for the session's calls; None: the client's.
        """
        begins = start(
            *(model, version, batch_size, session_id, idle_ttl_s),
            *(initial_state, constants, states_of),
        )
        return Session(self, begins, timeout_s or self.timeout_s)

    def resume(self, session_id: str, token: str, *, timeout_s: float | None = None) -> Session:
        """Takes up a session that is already there; its `id` and `token` come from its maker.

        Leaving `with` ends the session as ever: where others go on with it, use `open()`.
        """
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
        """A new session that goes on where `Session.snapshot` was taken, on whatever server; opened
        by `with` or by `open()`.

        Args:
            model: as the server names it; empty: as the snapshot does.
            version: of the model; empty: any of the same files as the snapshot's.
            session_id: a name of your choice; empty: one is made.
            idle_ttl_s: seconds without a request until the server ends it; None: the model's.
            timeout_s: for the session's calls; None: the client's.

        Raises, when it is opened:
            SnapshotRefused: damaged, or of other model files than the server's.
        """
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
        """`count` new sessions of one row with `model`, which step together by one call; opened by
        `with` or by `open()`, all of them or none.

        Args:
            version: of the model; empty: the latest.
            idle_ttl_s: seconds without a request until the server ends them; None: the model's.
            constants: as of `session`; the same for all.
            timeout_s: for the group's calls; None: the client's.
        """
        begins = group_start(model, count, version, idle_ttl_s, constants)
        return Group(self, begins, timeout_s or self.timeout_s)

    def resume_group(
        self, keys: Iterable[tuple[str, str]], *, timeout_s: float | None = None
    ) -> Group:
        """Takes up sessions of one model that are already there, as a group in the order of `keys`,
        pairs of id and token.
        """
        return Group(self, group_keys(keys), timeout_s or self.timeout_s)

    def model(self, name: str, *, version: str = "") -> ModelInfo:
        """What a model takes, gives and keeps; by default its latest version."""
        return self._make(describe_call(name, version), self.timeout_s)

    def sessions(self, model: str | None = None) -> list[SessionInfo]:
        """The sessions that the server holds, of one model or of all."""
        found: list[SessionInfo] = []
        page_token = ""
        while True:
            page = self._make(list_call(model, page_token), self.timeout_s)
            found += page.sessions
            if not page.next_page_token:
                return found
            page_token = page.next_page_token
