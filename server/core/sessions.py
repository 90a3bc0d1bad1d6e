"""The sessions that live: by id, with the time at which each expires.

Ids are the caller's business: strings that clients or the server choose, or `(model, sequence id)`.
An id whose session has expired is remembered for a while, so that its owner is told so.
"""

from __future__ import annotations

import heapq
import hmac
from collections import OrderedDict
from typing import TYPE_CHECKING

from server.core.session import Phase, Session
from server.errors import LimitReached, SessionExists, SessionExpired, SessionNotFound

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

MAX_TOMBSTONES = 100_000


class Sessions:
    """At most `max_sessions` sessions, of all models together."""

    def __init__(self, max_sessions: int) -> None:
        self.max_sessions = max_sessions
        self._by_id: dict[Hashable, Session] = {}
        self._expiries: list[Session] = []  # heap, by the time at which to look
        self._tombstones: OrderedDict[Hashable, tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_id.values()))

    def add(self, session: Session) -> None:
        """Take a new session in. Raises SessionExists, unless the other one is about to close, and
        LimitReached.
        """
        other = self._by_id.get(session.id)
        if other is not None and not other.ending:
            raise SessionExists(f"session {session.id!r} exists; choose another id or none")
        if other is None and len(self._by_id) >= self.max_sessions:
            raise LimitReached(
                f"{len(self._by_id)} sessions are open, the most this server takes; "
                "try again when others have closed"
            )
        session.home.admit(session)
        self._by_id[session.id] = session
        self._tombstones.pop(session.id, None)
        if session.idle_ttl_s != float("inf"):
            self._look_again(session, session.expires_s)

    def find(self, id: Hashable) -> Session | None:
        """The live session of that id, if there is one."""
        return self._by_id.get(id)

    def get(self, id: Hashable, token: str = "") -> Session:
        """The session, for whoever holds its token. Raises SessionNotFound or SessionExpired."""
        session = self._by_id.get(id)
        if session is not None and _same(session.token, token):
            return session
        tombstone = self._tombstones.get(id)
        if tombstone is not None and _same(tombstone[0], token):
            raise SessionExpired(
                f"session {id!r} has expired after {tombstone[1]:g} s without a request; "
                "open a new one"
            )
        raise SessionNotFound(f"no session {id!r} with this token; open one first")

    def expired_after_s(self, id: Hashable) -> float | None:
        """The idle time after which the session of that id has expired, None if it has not."""
        tombstone = self._tombstones.get(id)
        return None if tombstone is None else tombstone[1]

    def forget(self, session: Session) -> None:
        """The session is closed."""
        if self._by_id.get(session.id) is session:
            del self._by_id[session.id]
        if len(self._expiries) > 2 * len(self._by_id) + 1000:
            self._expiries = [each for each in self._expiries if not each.closed]
            heapq.heapify(self._expiries)

    def expire(self, now_s: float) -> list[Session]:
        """Close the sessions that nobody has used for too long, and tell which those were."""
        expired, busy = [], []
        while self._expiries and self._expiries[0].look_at_s <= now_s:
            session = heapq.heappop(self._expiries)
            if session.closed:
                continue
            if session.expires_s > now_s:
                self._look_again(session, session.expires_s)
            elif session.phase is Phase.IDLE:
                session.home.close(session)
                self._remember(session)
                expired.append(session)
            else:  # at work for longer than that
                busy.append(session)
        for session in busy:  # now, lest a very short time to live keep this loop going
            self._look_again(session, now_s + session.idle_ttl_s)
        return expired

    def _look_again(self, session: Session, at_s: float) -> None:
        session.look_at_s = at_s
        heapq.heappush(self._expiries, session)

    def _remember(self, session: Session) -> None:
        self._tombstones[session.id] = (session.token, session.idle_ttl_s)
        if len(self._tombstones) > MAX_TOMBSTONES:
            self._tombstones.popitem(last=False)

    def __repr__(self) -> str:
        return f"<Sessions {len(self)} of {self.max_sessions}>"


def _same(token: str, other: str) -> bool:
    return hmac.compare_digest(token.encode(), other.encode())
