"""The synchronous client's stream: a thread of gRPC's takes the items and sends them, the
consumer's thread reads the answers.

Leaving early keeps what was sent: no new item is taken, the answers under way are waited for, and
only then does the call end.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from rnnserve._codec import Output
    from rnnserve._steps import Steps
    from rnnserve.errors import RnnserveError
    from rnnserve.v1 import session_pb2 as pb


class Feed:
    """The requests of a stream, as the iterator that gRPC's thread consumes."""

    def __init__(self, steps: Steps, items: Iterator[Any], window: int) -> None:
        self._steps = steps
        self._items = items
        self._slots = threading.Semaphore(window)
        self._lock = threading.Lock()
        self._resumed = False
        self._taking = False
        self._left = False
        self._failure: BaseException | None = None

    def __iter__(self) -> Iterator[pb.StreamRequest]:
        return self

    def __next__(self) -> pb.StreamRequest:
        if not self._resumed:
            self._resumed = True
            return self._steps.resume()
        self._slots.acquire()
        try:
            return self._take()
        except StopIteration:
            raise
        except BaseException as error:  # the consumer's to see: gRPC would only log it
            self._failure = error
            raise StopIteration from None

    def _take(self) -> pb.StreamRequest:
        with self._lock:
            if self._left:
                raise StopIteration
            self._taking = True
        try:
            item = next(self._items)
        except StopIteration:
            self._steps.end()
            raise
        finally:
            with self._lock:
                self._taking = False
        with self._lock:
            if self._left:
                raise StopIteration
            return self._steps.request(item)

    def consumed(self) -> None:
        """The consumer is done with an output: another item may be taken."""
        self._slots.release()

    def leave(self) -> bool:
        """Sends nothing more. True: an item is being waited for, nobody knows how long."""
        with self._lock:
            self._left = True
            taking = self._taking
        self._slots.release()
        return taking

    def raise_failure(self) -> None:
        """What the iterable raised, or the item that could not be encoded."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure


def stream(
    start: Callable[[], Any],
    feed: Feed,
    steps: Steps,
    error: Callable[[grpc.RpcError], RnnserveError],
    grace_s: float | None,
) -> Generator[Output, None, None]:
    """The outputs in order. `start` makes the call; leaving waits for answers up to `grace_s`."""
    call = start()
    try:
        while (answer := _read(call, error)) is not None:
            steps.receive(answer)
            while steps.ready:
                yield steps.pop()
                feed.consumed()
        feed.raise_failure()
        steps.check_complete()
    finally:
        _leave(call, feed, steps, grace_s)


def _read(
    call: Iterable[pb.StreamResponse], error: Callable[[grpc.RpcError], RnnserveError]
) -> pb.StreamResponse | None:
    try:
        return next(iter(call), None)
    except grpc.RpcError as reason:
        raise error(reason) from reason


def _leave(call: Any, feed: Feed, steps: Steps, grace_s: float | None) -> None:
    """Waits for the answers to what was sent, then ends the call."""
    item_awaited = feed.leave()
    if not call.is_active():
        return
    timer = threading.Timer(grace_s or 0.0, call.cancel)
    if grace_s is not None:
        timer.start()
    try:
        # The call ends by itself once the feed has, which an awaited item keeps it from.
        while steps.unanswered or not item_awaited:
            steps.receive(next(call))
    except (StopIteration, grpc.RpcError):
        pass  # the consumer has left; what comes next on the session will tell what is wrong
    finally:
        if grace_s is not None:
            timer.cancel()
            timer.join()
        call.cancel()
