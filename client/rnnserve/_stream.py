"""The synchronous client's stream: a thread of gRPC's takes the items and sends them, the
consumer's thread reads the answers.

A stream that breaks is started again, see `_steps`. Leaving early keeps what was sent: no new item
is taken, the answers under way are waited for, and only then does the stream end.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

import grpc

from rnnserve._retry import Mending
from rnnserve.errors import RnnserveError

if TYPE_CHECKING:
    from collections.abc import Generator

    from rnnserve._codec import Output
    from rnnserve._feed import Feed
    from rnnserve._steps import Steps
    from rnnserve.client import Client


class Streaming:
    """One stream of a session, over all the calls that it takes.

    Args:
        timeout_s: for all of it; None: no limit.
        patience_s: how long leaving waits for answers, and how long a server that cannot be
            reached is tried; None: no limit.
    """

    def __init__(
        self,
        client: Client,
        feed: Feed,
        steps: Steps,
        timeout_s: float | None,
        patience_s: float | None,
    ) -> None:
        self._client = client
        self._feed = feed
        self._steps = steps
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._mending = Mending(client._retries, patience_s)
        self._reader = 0
        self._call: Any = None
        self._end: float | None = None
        self._ended = False
        self._waiting = False
        self._given_up = False

    def outputs(self) -> Generator[Output, None, None]:
        """In order; see `Session.stream`."""
        if self._timeout_s is not None:
            self._end = monotonic() + self._timeout_s
        steps, feed = self._steps, self._feed
        self._reader = threading.get_ident()
        self._begin()
        self._client._watch.add(self)
        try:
            while self._receive():
                while steps.ready:
                    yield steps.pop()
                    feed.consumed()
            feed.raise_failure()
            steps.check_complete()
        finally:
            self._leave()
            steps.settle()
            self._client._watch.remove(self)

    def is_read_here(self) -> bool:
        """By the thread that asks, so that it would wait for answers in vain."""
        return threading.get_ident() == self._reader

    def catch_up(self) -> bool:
        """Reads the answers to what was sent; False: there are none to come."""
        if not self._steps.unanswered:
            return False
        with suppress(RnnserveError):  # the consumer's to see, in the place of an output
            while self._steps.unanswered and self._receive():
                pass
        return True

    def look(self, now: float) -> None:
        """Ends a call that has not been answered for too long; on any thread."""
        waiting = self._waiting and self._steps.awaited
        if self._mending.overdue(now, self._steps.received, waiting):
            self._call.cancel()

    def _begin(self) -> None:
        left_s = None if self._end is None else self._end - monotonic()
        self._call = self._client._start("Stream", self._feed.requests(), left_s)

    def _receive(self) -> bool:
        """Reads an answer, if need be of another call than before; False: there are no more."""
        while True:
            self._waiting = True
            try:
                answer = next(self._call, None)
            except grpc.RpcError as reason:
                self._mend(reason)
            else:
                if answer is None:
                    self._ended = True
                    return False
                self._steps.receive(answer)
                return True
            finally:
                self._waiting = False

    def _mend(self, reason: grpc.RpcError) -> None:
        """Starts again after what has broken the call, or raises it."""
        error = self._client._error(reason, self._timeout_s)
        steps = self._steps
        pause_s = self._mending.pause(error, monotonic(), steps.received, steps.answered)
        try:
            if pause_s is None or self._given_up:
                raise error from reason
            self._client._pause(pause_s)
            self._begin()
        except BaseException:
            self._ended = True
            raise
        if self._given_up:  # meanwhile
            self._call.cancel()

    def _leave(self) -> None:
        """Waits for the answers to what was sent, then ends the call."""
        item_awaited = self._feed.leave()
        if self._ended:
            return
        timer = threading.Timer(self._patience_s or 0.0, self._give_up)
        if self._patience_s is not None:
            timer.start()
        try:
            with suppress(RnnserveError):  # what comes next on the session will tell what is wrong
                # The call ends by itself once the feed has, which an awaited item keeps it from.
                while (self._steps.unanswered or not item_awaited) and self._receive():
                    pass
        finally:
            if self._patience_s is not None:
                timer.cancel()
                timer.join()
            self._call.cancel()

    def _give_up(self) -> None:
        self._given_up = True
        self._call.cancel()
