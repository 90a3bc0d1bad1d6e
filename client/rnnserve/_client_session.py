"""The synchronous client's session."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from rnnserve._calls import Call
from rnnserve._client_steps import Stepping
from rnnserve._session import ALREADY_GONE
from rnnserve.errors import RnnserveError, StepGap
from rnnserve.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from rnnserve._codec import States
    from rnnserve._start import Start
    from rnnserve.specs import SessionInfo


class Session(Stepping):
    """A state on the server, and the steps that move it on.

    >>> with client.session("vowels") as session:
    ...     for frame in frames:  # (12,) each
    ...         probabilities = session.step(frame)  # (9,)
    """

    def open(self) -> Self:
        """Starts the session, or takes it up again; `with` does the same and closes it, too."""
        self._must_be_new()
        begins = self._start
        if isinstance(begins, pb.SessionKey):
            self._resume(begins)
            return self
        try:
            if isinstance(begins, pb.RestoreRequest):
                self._make(Call("Restore", begins, self._read_opened))
            else:
                self._begin(begins)
        except BaseException:
            with suppress(RnnserveError):  # what went wrong first says more
                self.close()
            raise
        return self

    def reset_states(self, states: Mapping[str, object] | None = None) -> None:
        """Back to the model's initial state, or to the given states."""
        with self._turn:
            self._replace(lambda: self._reset_call(states))

    def get_states(self) -> States:
        """State name to `(batch_size, …)` array; copies, which do not change the session."""
        return self._make(self._get_call())

    def set_states(self, states: Mapping[str, object]) -> None:
        """Every state of the model, `(batch_size, …)` each."""
        with self._turn:
            self._replace(lambda: self._set_call(states))

    @property
    def states(self) -> States:
        """`get_states()`; assigning is `set_states()`."""
        return self.get_states()

    @states.setter
    def states(self, states: Mapping[str, object]) -> None:
        self.set_states(states)

    def fork(self, *, idle_ttl_s: float | None = None) -> Session:
        """A new session, open already, that starts from this one's state after the steps that were
        sent before; no array is copied. `with` closes it.

        Args:
            idle_ttl_s: seconds without a request until the server ends it; None: this session's.
        """
        answer = self._make(self._fork_call(idle_ttl_s))
        forked = Session(self._client, answer.session, self._timeout_s)
        forked._read_opened(answer)
        return forked

    def snapshot(self) -> bytes:
        """The session as bytes to keep, of which `Client.restore` makes one that goes on."""
        return self._make(self._snapshot_call())

    def keep_alive(self) -> None:
        """Keeps the session from expiring: its time to live begins anew."""
        self._make(self._keep_alive_call())

    def describe(self) -> SessionInfo:
        """What the server knows of the session."""
        return self._make(self._describe_call())

    def close(self) -> None:
        """Ends the session; its memory is free at once. Does nothing where it has ended."""
        if self._is_open:
            with suppress(*ALREADY_GONE):
                self._make(self._close_call())
            self._mark_closed()

    def __enter__(self) -> Self:
        return self if self._is_open else self.open()

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

    def _replace(self, call: Callable[[], Call[None]]) -> None:
        """Replaces the states, at whatever step the session turns out to be."""
        try:
            self._make(call())
        except StepGap:  # somebody else has stepped it
            self._make(self._count_call())
            self._make(call())

    def _begin(self, begins: Start) -> None:
        if (call := begins.describe_call) is not None:
            self._make(call)
        self._make(Call("OpenSession", begins.complete(), self._read_opened))
        if begins.initial_state is not None:  # only now are the dtypes known
            self.set_states(begins.initial_state)

    def _resume(self, key: pb.SessionKey) -> None:
        request = self._resume_request(key)

        def attempt(timeout_s: float | None) -> list[pb.StreamResponse]:
            return list(self._client._start("Stream", iter([request]), timeout_s))

        self._read_resumed(self._client._repeat(attempt, self._timeout_s))
