"""The synchronous client's group: many sessions, one call for a step of all of them."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from rnnserve import _channel
from rnnserve._calls import check_window
from rnnserve._group_base import GroupBase, GroupStepFailed, UnderWay, given_up, late
from rnnserve._group_start import GroupStart, group_keys, group_start
from rnnserve._link import Link
from rnnserve._retry import LOST, Attempts
from rnnserve.errors import RnnserveError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from rnnserve._codec import Output
    from rnnserve._retry import Retries
    from rnnserve.client import Client
    from rnnserve.v1 import session_pb2 as pb

__all__ = ["Group", "GroupStepFailed", "group_keys", "group_start"]


class Group(GroupBase):
    """Sessions with one model that step together. Threads may share it.

    >>> with client.group("vowels", 1000) as group:
    ...     for frames in ticks:  # (1000, 12) each
    ...         probabilities = group.step(frames)  # (1000, 9)
    """

    def __init__(
        self,
        client: Client,
        start: GroupStart | tuple[pb.SessionKey, ...],
        timeout_s: float | None,
    ) -> None:
        super().__init__(start, timeout_s)
        self._client = client
        # Of one thread more than once: the garbage collector may end a stream that was left.
        self._lock = threading.RLock()
        self._link: Link | None = None

    def open(self) -> Self:
        """Opens the sessions, or takes them up again; `with` closes them, too."""
        with self._lock:
            self._must_be_new()
            if (call := self._describe_call) is not None:
                self._client._make(call, self._timeout_s)
            self._exchange(lambda: self._link is not None, self._timeout_s)
        try:
            self._read_opened()
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
        sessions: object = None,
        return_sequences: bool = False,
        timeout_s: float | None = None,
        **inputs: object,
    ) -> Output:
        """Runs one request of one or more timesteps of each session.

        `x` and `inputs` are as those of `Session.step`, with the sessions as first axis, which is
        never left out; for an input `(batch, time, *features)` and an output `(batch, time, *out)`:

        | x | answer | with return_sequences |
        |---|---|---|
        | `(count, time, *features)` | `(count, *out)` | `(count, time, *out)` |
        | `(count, *features)`, a frame each | `(count, *out)` | `(count, *out)` |

        Every step has a number, by which the server runs it once, however often connections break.
        One that was given up (the time was over, the server could not be reached) may have been
        run all the same: the same call again has the same number, and gets its answer in either
        case; with other inputs it fails as `StepConflict` for the sessions that have run it.

        Args:
            sessions: positions in the group, each at most once, of those that step; `count` above
                is how many they are. None: all.
            return_sequences: the outputs of every timestep instead of the last one's.
            timeout_s: for this call; None: the group's.

        Returns:
            An array; for a model of several outputs, or none, a dict from names to arrays.

        Raises:
            TypeError, ValueError: an input does not fit the model. Nothing was sent.
            GroupStepFailed: some sessions have an error; the others have moved on.
            RnnserveError: see `rnnserve.errors`. No session has moved on, or it was given up.
        """
        with self._lock:
            sent = self._send_frame(x, inputs, sessions, return_sequences)
            self._exchange(lambda: sent.done, timeout_s or self._timeout_s)
        return self._output(sent)

    def stream(
        self,
        items: Iterable[object],
        *,
        return_sequences: bool = False,
        window: int = _channel.DEFAULT_WINDOW,
        timeout_s: float | None = None,
    ) -> Generator[Output, None, None]:
        """One step of every session per item, one output per step, in order.

        Items are taken, and sent ahead, when you ask for an output that is not there yet, but never
        more than `window` whose outputs you have not yet consumed. An error is raised in the place
        of the output that it prevented and ends the stream. Leaving early waits for the answers to
        what was sent: `step_counts` counts it then.

        Args:
            timeout_s: for each output; None: the group's.

        >>> for probabilities in group.stream(ticks):
        ...     print(probabilities.argmax(axis=1))
        """
        check_window(window)
        return self._stream(iter(items), return_sequences, window, timeout_s or self._timeout_s)

    def _stream(
        self, items: Iterator[object], return_sequences: bool, window: int, timeout_s: float | None
    ) -> Generator[Output, None, None]:
        ahead: deque[UnderWay] = deque()
        more = True
        try:
            while True:
                while more and len(ahead) < window:
                    if ahead and self._arrived(ahead[0], timeout_s):
                        break
                    try:
                        item = next(items)
                    except StopIteration:
                        more = False
                    else:
                        with self._lock:
                            sent = self._send_frame(item, {}, None, return_sequences)
                            ahead.append(sent)
                if not ahead:
                    return
                yield self._finish(ahead.popleft(), timeout_s)
        finally:
            for sent in ahead:
                with suppress(RnnserveError):  # the next call will tell
                    self._finish(sent, self._timeout_s)

    def _finish(self, sent: UnderWay, timeout_s: float | None) -> Output:
        with self._lock:
            self._exchange(lambda: sent.done, timeout_s)
        return self._output(sent)

    def close(self) -> None:
        """Ends the sessions; their memory is free at once. Does nothing where they have ended."""
        with self._lock:
            if self._must_close:
                sent = self._send(self._closing())
                self._exchange(lambda: sent.done, self._timeout_s)
                self._mark_closed()
            self._drop()

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

    # The stream behind it; all with the lock

    @property
    def _retries(self) -> Retries | None:
        """None at first: a server that has never answered is not waited for."""
        return self._client._retries if self._client._answered else None

    def _send_frame(
        self, x: object, named: Mapping[str, object], sessions: object, return_sequences: bool
    ) -> UnderWay:
        if self._must_ask:
            self._drop()
            self._exchange(lambda: self._link is not None, self._timeout_s)
        return self._send(self._frame(x, named, sessions, return_sequences))

    def _send(self, sent: UnderWay) -> UnderWay:
        if self._link is not None:
            self._link.send(sent.request)
        return sent

    def _exchange(self, done: Callable[[], bool], timeout_s: float | None) -> None:
        """Receives answers until `done`, over as many streams as it takes."""
        attempts = Attempts(self._retries, timeout_s, monotonic())
        try:
            while not done():
                lost: RnnserveError
                try:
                    self._turn(attempts.timeout(monotonic()))
                    continue
                except TimeoutError:
                    lost = late(self._client.target, timeout_s)
                except LOST as error:
                    lost = error
                self._drop()
                if (pause_s := attempts.pause(monotonic())) is None:
                    raise lost
                self._client._pause(pause_s)
        except BaseException as error:
            self._drop()
            self._fail(given_up(error))
            raise

    def _turn(self, timeout_s: float | None) -> None:
        if self._link is None:
            self._connect(timeout_s)
        else:
            self._receive(self._link.receive(timeout_s))

    def _arrived(self, sent: UnderWay, timeout_s: float | None) -> bool:
        """Whether its answer is there, without waiting for it."""

        def nothing_to_read() -> bool:
            return sent.done or self._link is None or not self._link.has_answers

        with self._lock:
            self._exchange(nothing_to_read, timeout_s)
        return sent.done

    def _connect(self, timeout_s: float | None) -> None:
        """A new stream with the group's sessions and all that is under way."""
        link = Link(self._client)
        try:
            link.send(self._greeting())
            answer = link.receive(timeout_s)
            self._client._answered = True
            self._greeted(answer)
        except BaseException:
            link.close()
            raise
        for sent in self._under_way.values():
            link.send(sent.request)
        self._link = link

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
