"""The synchronous client. `rnnserve.aio` has the same names for asyncio."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from rnnserve import _channel
from rnnserve._calls import Call, check_window, describe_call, list_call, resume_key
from rnnserve._session import ALREADY_GONE, SessionBase
from rnnserve._start import Start, start
from rnnserve._stream import Feed, stream
from rnnserve.errors import ClientClosed, RnnserveError, from_call
from rnnserve.v1.session_pb2_grpc import SessionServiceStub

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from rnnserve._codec import Output, States
    from rnnserve._start import StatesOf
    from rnnserve.specs import ModelInfo, SessionInfo
    from rnnserve.v1 import session_pb2 as pb

__all__ = ["Client", "Session", "connect"]

T = TypeVar("T")


def connect(
    target: str,
    *,
    timeout_s: float | None = _channel.DEFAULT_TIMEOUT_S,
    credentials: grpc.ChannelCredentials | None = None,
    options: Sequence[tuple[str, Any]] = (),
) -> Client:
    """A client of the server at `target`, "host:port".

    Nothing is sent yet: a server that is not there shows at the first call, as `Unavailable`.

    Args:
        timeout_s: how long a call may take; None: as long as it likes.
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
    return Client(channel, target, timeout_s)


class Client:
    """A connection to a server. Threads may share it; `connect` makes it.

    Closing it leaves its open sessions on the server until they expire.
    """

    def __init__(self, channel: grpc.Channel, target: str, timeout_s: float | None) -> None:
        self._channel = channel
        self._stub = SessionServiceStub(channel)
        self._closed = False
        self.target = target
        self.timeout_s = timeout_s

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

    def close(self) -> None:
        """Ends the connection; calls under way fail with `ClientClosed`. May be called twice."""
        self._closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {self.target}{', closed' if self._closed else ''}>"

    def _make(self, call: Call[T], timeout_s: float | None) -> T:
        """Makes the call and reads its answer, or raises what went wrong."""
        try:
            answer = self._start(call.method, call.request, timeout_s)
        except grpc.RpcError as error:
            raise self._error(error, timeout_s) from error
        return call.read(answer)

    def _start(self, method: str, request: object, timeout_s: float | None) -> Any:
        self._must_be_open()
        try:
            return getattr(self._stub, method)(request, timeout=timeout_s)
        except ValueError:  # how grpc says that another thread has closed the channel just now
            self._must_be_open()
            raise

    def _error(self, error: grpc.RpcError, timeout_s: float | None) -> RnnserveError:
        if self._closed:
            return ClientClosed(f"{self!r} was closed while the call was under way")
        assert isinstance(error, grpc.Call)  # as those are that end a call
        return from_call(error, self.target, timeout_s)

    def _must_be_open(self) -> None:
        if self._closed:
            raise ClientClosed(f"{self!r}: connect again")


class Session(SessionBase):
    """A state on the server, and the steps that move it on.

    >>> with client.session("vowels") as session:
    ...     for frame in frames:  # (12,) each
    ...         probabilities = session.step(frame)  # (9,)
    """

    def __init__(
        self,
        client: Client,
        start: Start | pb.SessionKey,
        timeout_s: float | None,
    ) -> None:
        super().__init__(start, timeout_s)
        self._client = client

    def open(self) -> Self:
        """Starts the session, or takes it up again; `with` does the same and closes it, too."""
        self._must_be_new()
        if not isinstance(self._start, Start):
            self._resume()
            return self
        try:
            if (call := self._start.describe_call) is not None:
                self._make(call)
            self._make(self._open_call())
            if self._start.initial_state is not None:  # only now are the dtypes known
                self.set_states(self._start.initial_state)
        except BaseException:
            with suppress(RnnserveError):  # what went wrong first says more
                self.close()
            raise
        return self

    def step(
        self,
        x: object = None,
        /,
        *,
        return_sequences: bool = False,
        return_state: bool = False,
        timeout_s: float | None = None,
        **inputs: object,
    ) -> Output:
        """Runs one request of one or more timesteps; the server keeps the state after it.

        `x` is an array, or anything numpy makes one of; for a model with several inputs a dict
        from names to arrays. Inputs may also be given by name, `step(x, mask=mask)`: `x` is then
        the one that is left. Those that have a default may be left out.

        Arrays are converted to the input's dtype where nothing is lost but precision. Axes of size
        1 may be left out, and are left out of the answer, too; all inputs of a step leave out the
        same. For an input `(batch, time, *features)` and an output `(batch, time, *out)`:

        | batch_size | x | answer | with return_sequences |
        |---|---|---|---|
        | any | `(batch, time, *features)` | `(batch, *out)` | `(batch, time, *out)` |
        | 1 | `(time, *features)` | `(*out)` | `(time, *out)` |
        | 1 | `(*features)`, one frame | `(*out)` | `(*out)` |
        | > 1 | `(batch, *features)`, a frame each | `(batch, *out)` | `(batch, *out)` |

        The tensors of a model without a batch axis have none here either.

        Args:
            return_sequences: the outputs of every timestep instead of the last one's.
            return_state: the states after this request, too.
            timeout_s: for this call; None: the session's.

        Returns:
            An array; for a model of several outputs, or none, a dict from names to arrays; with
            `return_state` a pair of that and a dict from state names to `(batch_size, …)` arrays.

        Raises:
            TypeError, ValueError: an input does not fit the model. Nothing was sent.
            RnnserveError: see `rnnserve.errors`.
        """
        return self._make(self._step_call(x, inputs, return_sequences, return_state), timeout_s)

    def stream(
        self,
        items: Iterable[object],
        *,
        return_sequences: bool = False,
        window: int = _channel.DEFAULT_WINDOW,
        timeout_s: float | None = None,
    ) -> Generator[Output, None, None]:
        """One step per item, one output per step, in order, over one stream.

        Items are taken and sent ahead while earlier steps run, but never more than `window` whose
        outputs you have not yet consumed (asked for the next). With `window=1` an item is taken
        only once you have dealt with the output before it. The items are taken on another thread.

        An error is raised in the place of the output that it prevented: what the server refused,
        what `items` raised, an item that does not fit the model. It ends the stream.

        Leaving the loop early takes no further item and cancels nothing: steps already sent run,
        and leaving waits for their answers, at most the session's `timeout_s`. After that
        `step_count` counts them, and the session goes on from there. The same holds after an
        error. Other calls on the session while a stream is under way run somewhere between its
        steps.

        Args:
            timeout_s: for the whole stream; None: no limit.

        >>> for probabilities in session.stream(frames):
        ...     print(probabilities.argmax())
        """
        check_window(window)
        steps = self._steps(return_sequences)
        feed = Feed(steps, iter(items), window)
        return stream(
            partial(self._client._start, "Stream", feed, timeout_s),
            feed,
            steps,
            partial(self._client._error, timeout_s=timeout_s),
            self._timeout_s,
        )

    def reset_states(self, states: Mapping[str, object] | None = None) -> None:
        """Back to the model's initial state, or to the given states."""
        self._make(self._reset_call(states))

    def get_states(self) -> States:
        """State name to `(batch_size, …)` array; copies, which do not change the session."""
        return self._make(self._get_call())

    def set_states(self, states: Mapping[str, object]) -> None:
        """Every state of the model, `(batch_size, …)` each."""
        self._make(self._set_call(states))

    @property
    def states(self) -> States:
        """`get_states()`; assigning is `set_states()`."""
        return self.get_states()

    @states.setter
    def states(self, states: Mapping[str, object]) -> None:
        self.set_states(states)

    def close(self) -> None:
        """Ends the session; its memory is free at once. Does nothing where it has ended."""
        if self._must_close:
            with suppress(*ALREADY_GONE):
                self._make(self._close_call())
            self._mark_closed()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None:
            self.close()
        else:  # what went wrong in the body says more than that closing failed, too
            with suppress(RnnserveError):
                self.close()

    def _resume(self) -> None:
        request = iter([self._resume_request()])
        try:
            answers = list(self._client._start("Stream", request, self._timeout_s))
        except grpc.RpcError as error:
            raise self._client._error(error, self._timeout_s) from error
        self._read_resumed(answers)

    def _make(self, call: Call[T], timeout_s: float | None = None) -> T:
        return self._client._make(call, timeout_s or self._timeout_s)
