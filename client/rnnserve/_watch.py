"""The synchronous client's watch over its streams: gRPC waits for a stream's next answer without
end, and what it waits for may have been lost.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rnnserve._retry import Retries


class Watched(Protocol):
    def look(self, now: float) -> None: ...


class Watch:
    """Looks at streams now and then, on a thread that lives as long as there are any."""

    def __init__(self, retries: Retries | None) -> None:
        self._every_s = None if retries is None else retries.attempt_s / 4
        self._streams: set[Watched] = set()
        self._changed = threading.Condition()
        self._running = False
        self._over = False

    def add(self, stream: Watched) -> None:
        if self._every_s is None:
            return
        with self._changed:
            self._streams.add(stream)
            if not self._running and not self._over:
                self._running = True
                threading.Thread(target=self._run, name="rnnserve-watch", daemon=True).start()

    def remove(self, stream: Watched) -> None:
        with self._changed:
            self._streams.discard(stream)

    def close(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait(self._every_s)
                if self._over or not self._streams:
                    self._running = False
                    return
                streams = list(self._streams)
            for stream in streams:
                stream.look(monotonic())
