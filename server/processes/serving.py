"""Models and sessions of one process among several: every id lives in one of them only."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from server.core.sessions import MAX_TOMBSTONES
from server.errors import RequestError, SessionExists
from server.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Hashable

    from server.core.session import Session
    from server.processes.claims import Claims
    from server.processes.routes import Routes
    from server.serving import ServedModel

# Ended sessions that others still find here: to be told that they have expired, or, of a sequence,
# to be given the answer to their last request once more. As many as are remembered, of both kinds.
MAX_ENDED = 2 * MAX_TOMBSTONES


class SharedServing(Serving):
    """Claims the ids that clients choose. Those made here end with the number of the process, and
    need no claim.
    """

    def __init__(
        self, max_sessions: int, claims: Claims, routes: Routes, max_ended: int = MAX_ENDED
    ) -> None:
        super().__init__(max_sessions)
        self._claims = claims
        self._routes = routes
        self._max_ended = max_ended
        self._claimed: set[Hashable] = set()
        self._ended: OrderedDict[Hashable, None] = OrderedDict()

    def open(self, model: ServedModel, *, id: Hashable = None, **rest: Any) -> Session:
        if id is None:
            made = f"{secrets.token_urlsafe(16)}{self._routes.mark}"
            return super().open(model, id=made, **rest)
        if not isinstance(id, (str, tuple)):  # of a request without a session to come back to
            return super().open(model, id=id, **rest)
        if not self._claims.claim(id):
            raise SessionExists(f"session {id!r} exists; choose another id or none")
        self._claimed.add(id)
        try:
            return super().open(model, id=id, **rest)
        except RequestError:
            self._give_back(id)
            raise

    def closed(self, session: Session) -> None:
        super().closed(session)
        if session.id in self._claimed:
            # whoever closes it may have something to note of it yet
            asyncio.get_running_loop().call_soon(self._give_back, session.id)

    async def idle(self) -> None:
        await super().idle()
        await self._routes.quiet.wait()

    def _give_back(self, id: Hashable) -> None:
        """Nobody need look for the id here any more, unless there is something to say of it."""
        if self.sessions.find(id) is not None or id not in self._claimed:
            return
        if self._is_remembered(id):
            self._ended[id] = None
            self._ended.move_to_end(id)
            if len(self._ended) <= self._max_ended:
                return
            id, _ = self._ended.popitem(last=False)
            if self.sessions.find(id) is not None:
                return
        self._ended.pop(id, None)
        self._claimed.discard(id)
        self._claims.give_back(id)

    def _is_remembered(self, id: Hashable) -> bool:
        if self.sessions.why_gone(id):
            return True
        return isinstance(id, tuple) and bool(self.sessions.last_answers(id))
