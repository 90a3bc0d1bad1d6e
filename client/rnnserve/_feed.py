"""What the synchronous client sends on a stream: the iterators that gRPC's threads consume."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rnnserve._steps import Steps
    from rnnserve.v1 import session_pb2 as pb


class Feed:
    """The requests of a stream, over all the calls that it may take.

    An item that the thread of a call which has broken still waits for is kept when it comes, and
    sent by the call that is there then.

    Args:
        window: how many items may be taken whose outputs are not consumed.
        turn: held while a step of the session's runs outside of the stream.
    """

    def __init__(
        self, steps: Steps, items: Iterator[Any], window: int, turn: threading.Lock
    ) -> None:
        self._steps = steps
        self._items = items
        self._free = window
        self._turn = turn
        # Of one thread more than once: the garbage collector may end a stream that was left.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._waiting = 0  # threads that want to know of changes
        self._call: object = None  # whose requests count
        self._taking = False
        self._left = False
        self._failure: BaseException | None = None

    def requests(self) -> Iterator[pb.StreamRequest]:
        """For a new call, which takes the place of the one before."""
        call = object()
        with self._lock:
            self._call = call
            self._steps.restart()
            self._changed.notify_all()
        return self._requests(call)

    def _requests(self, call: object) -> Iterator[pb.StreamRequest]:
        yield self._steps.resume()
        position = 0
        while (following := self._following(call, position)) is not None:
            position, message = following
            yield message

    def _following(self, call: object, position: int) -> tuple[int, pb.StreamRequest] | None:
        """What `call` sends after `position`, as soon as it may; None: no more."""
        steps = self._steps
        while True:
            with self._lock:
                if self._call is not call:
                    return None
                if (kept := steps.after(position)) is not None:
                    return kept
                if self._left or self._failure is not None or steps.ended:
                    return None
                if self._taking or not self._free or steps.cautious:
                    self._wait()
                    continue
                self._taking = True
                self._free -= 1
            if (taken := self._take(call)) is not None:
                return taken

    def _take(self, call: object) -> tuple[int, pb.StreamRequest] | None:
        """The next item as a request, if it is for `call` to send it."""
        taken = None
        try:
            item = next(self._items)
            with self._turn, self._lock:
                if not self._left:
                    taken = self._steps.put(item)
                self._taking = False
                if self._waiting:
                    self._changed.notify_all()
                return taken if self._call is call else None
        except StopIteration:
            self._steps.end()
        except BaseException as error:  # the consumer's to see: gRPC would only log it
            self._failure = error
        with self._lock:
            self._taking = False
            self._changed.notify_all()
        return None

    def _wait(self) -> None:
        self._waiting += 1
        self._changed.wait()
        self._waiting -= 1

    def consumed(self) -> None:
        """The consumer is done with an output: another item may be taken."""
        with self._lock:
            self._free += 1
            if self._waiting:
                self._changed.notify_all()

    def leave(self) -> bool:
        """Takes nothing more. True: an item is being waited for, nobody knows how long."""
        with self._lock:
            self._left = True
            self._changed.notify_all()
            return self._taking

    def raise_failure(self) -> None:
        """What the iterable raised, or the item that could not be encoded."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
