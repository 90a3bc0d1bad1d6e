"""The sessions that live: by id, with the time at which each expires.

Ids are the caller's business: strings that clients or the server choose, or `(model, sequence id)`.
An id whose session has expired is remembered for a while, so that its owner is told so.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from typing import TYPE_CHECKING

from server.errors import (
    LimitReached,
    RequestError,
    SessionExists,
    SessionExpired,
    SessionNotFound,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from server.core.remembered import Answer
    from server.core.session import Session
    from server.core.table import Table

MAX_TOMBSTONES = 100_000


class Sessions:
    """At most `max_sessions` sessions, of all models together."""

    def __init__(self, max_sessions: int) -> None:
        self.max_sessions = max_sessions
        self._by_id: dict[Hashable, Session] = {}
        self._tables: dict[Table, None] = {}
        self._tombstones: OrderedDict[Hashable, tuple[bytes, str]] = OrderedDict()
        self._last_answers: OrderedDict[Hashable, Sequence[Answer]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_id.values()))

    def add(self, session: Session) -> None:
        """Take a new session in. Raises SessionExists, unless the other one is about to close, and
        LimitReached; then it is closed.
        """
        try:
            self._check(session)
            session.home.admit(session)
        except RequestError:
            session.leave_table()
            raise
        self._by_id[session.id] = session
        self._tables[session.table] = None
        self._tombstones.pop(session.id, None)
        self._last_answers.pop(session.id, None)

    def _check(self, session: Session) -> None:
        other = self._by_id.get(session.id)
        if other is not None and not other.ending:
            raise SessionExists(f"session {session.id!r} exists; choose another id or none")
        if other is None and len(self._by_id) >= self.max_sessions:
            raise LimitReached(
                f"{len(self._by_id)} sessions are open, the most this server takes; "
                "try again when others have closed"
            )

    def find(self, id: Hashable) -> Session | None:
        """The live session of that id, if there is one."""
        return self._by_id.get(id)

    def get(self, id: Hashable, token: str = "") -> Session:
        """The session, for whoever holds its token. Raises SessionNotFound or SessionExpired."""
        session = self._by_id.get(id)
        if session is not None and _same(session.secret, token):
            return session
        tombstone = self._tombstones.get(id)
        if tombstone is not None and _same(tombstone[0], token):
            raise SessionExpired(f"session {id!r} {tombstone[1]}; open a new one")
        raise SessionNotFound(f"no session {id!r} with this token; open one first")

    def why_gone(self, id: Hashable) -> str:
        """Why the session of that id is no more, "" if it did not end by itself."""
        tombstone = self._tombstones.get(id)
        return "" if tombstone is None else tombstone[1]

    def last_answers(self, id: Hashable) -> Sequence[Answer]:
        """Those to the last steps of a session that ended with one of them, for whoever asks for it
        again.
        """
        return self._last_answers.get(id, ())

    def forget(self, session: Session) -> None:
        """The session is closed."""
        if self._by_id.get(session.id) is session:
            del self._by_id[session.id]
            if session.answers:
                self._last_answers[session.id] = session.answers  # the list itself: drops leave it
                if len(self._last_answers) > MAX_TOMBSTONES:
                    self._last_answers.popitem(last=False)

    def expire(self, now_s: float, at_most: int | None = None) -> list[Session]:
        """Close sessions that nobody has used for too long, and tell which those were."""
        expired: list[Session] = []
        for table in self._tables:
            room = None if at_most is None else at_most - len(expired)
            for slot in table.idle_too_long(now_s)[:room]:
                session = table.sessions[slot]
                assert session is not None
                self.end(session, f"has expired after {session.idle_ttl_s:g} s without a request")
                expired.append(session)
        return expired

    def end(self, session: Session, why: str) -> None:
        """Close a session that its owner has not closed; the owner is told why."""
        session.home.close(session)
        self._tombstones[session.id] = (session.secret, why)
        while len(self._tombstones) > MAX_TOMBSTONES:
            self._tombstones.popitem(last=False)

    def forget_table(self, table: Table) -> None:
        """There will be no more sessions of that model."""
        self._tables.pop(table, None)

    def __repr__(self) -> str:
        return f"<Sessions {len(self)} of {self.max_sessions}>"


def _same(token: bytes, other: str) -> bool:
    return hmac.compare_digest(token, other.encode())
