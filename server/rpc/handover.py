"""How a session begins that has constants, or the states of another session: requests of ours go
before its first one.

The states of another session never leave the server. They are fetched by a request that waits its
turn there, or shared, row by row, where both are of one model; meanwhile the new session is held:
it is open, and whatever it is asked waits.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from server.core.requests import Read, Request, Share, States, Write
from server.errors import InvalidRequest, RequestError, SessionClosed
from server.rpc.states import to_write
from server.serving import home_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from server.core.requests import Arrays, Result
    from server.core.session import Session
    from server.serving import ServedModel


class Source:
    """The session whose states another one, of `model`, is to begin with.

    `names` maps every state of the model to one of that session's; empty: by name where that
    session has all of them, else in order. A session of the same model has `constants` to offer,
    too. `count_on`: the new one's steps follow those of the other. Raises InvalidRequest,
    SessionClosed.
    """

    def __init__(
        self,
        session: Session,
        model: ServedModel,
        batch_size: int,
        names: Mapping[str, str],
        *,
        count_on: bool = False,
    ) -> None:
        if session.ending:
            raise SessionClosed(f"session {session.id!r} is closed, its states are gone")
        if session.batch_size != batch_size:
            raise InvalidRequest(
                f"session {session.id!r} has batch size {session.batch_size}: one that begins with "
                f"its states must have the same, got {batch_size}"
            )
        self._session = session
        self._count_on = count_on
        same_model = home_of(session) is model
        self._theirs = {} if count_on else _pairs(model, home_of(session), names)
        self.constants = session.constants if same_model else None
        self.shares = same_model and all(own == their for own, their in self._theirs.items())

    def share(self, target: Session, then: Callable[[RequestError | None], None]) -> None:
        """Let `target` have the state, after what the session was asked before, or tell what went
        wrong.
        """

        def shared(result: Result) -> None:
            error = result if isinstance(result, RequestError) else None
            asyncio.get_running_loop().call_soon(then, error)

        share = Share(target=target, count_on=self._count_on, answer=shared)
        try:
            self._session.home.submit(self._session, share)
        except RequestError as error:
            then(error)

    def fetch(self, then: Callable[[Arrays | RequestError], None]) -> None:
        """The states by the model's names, after what the session was asked before, or what went
        wrong.
        """

        def fetched(result: Result) -> None:
            # Not at once: this is called in the middle of an engine's turn.
            asyncio.get_running_loop().call_soon(then, self._renamed(result))

        try:
            self._session.home.submit(self._session, Read(answer=fetched))
        except RequestError as error:
            then(error)

    def _renamed(self, result: Result) -> Arrays | RequestError:
        if isinstance(result, RequestError):
            return result
        assert isinstance(result, States)
        return {own: result.states[their] for own, their in self._theirs.items()}


def begin(session: Session, first: Request, source: Source | None) -> None:
    """Submit the first request of a session after what must come before it: the states of `source`
    are fetched, then states and constants are written, which `first` itself may do.

    If any of that fails the session is closed, and `first` is answered with what went wrong. Raises
    as `submit` does.
    """
    failed: list[RequestError] = []

    def note(result: Result) -> None:
        if isinstance(result, RequestError):
            failed.append(result)

    answer = first.answer
    first.answer = lambda result: answer(failed[0] if failed else result)
    requests: list[Request] = [first]
    if isinstance(first, Write):
        write = first
    else:
        write = Write(answer=note, start=True, initial=True, states=to_write(session, None))
        requests.insert(0, write)
    if source is not None:
        return _behind(source, session, write, requests, note)
    try:
        for request in requests:
            session.home.submit(session, request)
    except RequestError as error:  # the one before may have failed at once
        raise (failed[0] if failed else error) from None


def _behind(
    source: Source,
    session: Session,
    write: Write,
    requests: Iterable[Request],
    note: Callable[[Result], None],
) -> None:
    """Submit `requests`, which wait until `write`, one of them, has the states of `source`."""
    home = home_of(session)
    hold = Read(answer=note, start=True)

    def release(result: Arrays | RequestError) -> None:
        if isinstance(result, RequestError):
            return home.release(session, result)
        write.states, write.initial = to_write(session, result), False
        home.release(session, None)

    def shared(error: RequestError | None) -> None:
        write.keep = True
        home.release(session, error)

    home.hold(session, hold)
    try:
        for request in requests:
            home.submit(session, request)
    except RequestError as error:
        release(error)
        raise
    if source.shares and session.constants is source.constants:
        source.share(session, shared)
    else:
        source.fetch(release)


def _pairs(model: ServedModel, other: ServedModel, names: Mapping[str, str]) -> dict[str, str]:
    """Each state of `model` → the state of `other` that it begins with. Raises InvalidRequest."""
    own, theirs = model.states, other.states
    if names or own.keys() <= theirs.keys():
        pairs = dict(names) or {name: name for name in own}
    else:
        pairs = dict(zip(own, theirs, strict=False)) if len(own) == len(theirs) else {}
    fit = pairs.keys() == own.keys() and all(
        their in theirs
        and (theirs[their].datatype, theirs[their].shape) == (own[name].datatype, own[name].shape)
        for name, their in pairs.items()
    )
    if not own or not fit:
        asked = f" as {dict(sorted(pairs.items()))}" if pairs else ""
        raise InvalidRequest(
            f"model '{model.spec.name}' cannot begin with the states of model '{other.spec.name}'"
            f"{asked}: it has {_described(model)}, that one "
            f"{_described(other)}; say for every state which one of that session, of the same "
            "datatype and shape, it begins with"
        )
    return pairs


def _described(model: ServedModel) -> str:
    states = [f"'{s.name}' {s.datatype} {list(s.shape)}" for s in model.spec.states]
    return ", ".join(states) or "no states"
