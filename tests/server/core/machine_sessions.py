"""What random clients ask of their sessions, one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from server.core.requests import Share, Touch
from server.errors import LimitReached, SessionClosed
from tests.server.core.asked import Asked
from tests.server.core.machine import (
    MAX_SESSIONS,
    RARELY,
    SOMETIMES,
    SPOILED,
    VALUES,
    Machine,
    spoil,
)

if TYPE_CHECKING:
    from server.core.session import Session
    from tests.server.core.reference import Client

TTL = st.sampled_from([5.0, 50.0, float("inf")])
OPTIONS = st.fixed_dictionaries(
    {
        "return_state": st.booleans(),
        "start": RARELY,
        "end": RARELY,
        "shapes": st.sampled_from(["red", "red", "blue"]),
        "acknowledged": st.sampled_from([0, 0, 0, 1, 2, 5]),
        "priority": st.integers(0, 3),
        "timeout_s": st.sampled_from([0.0, 0.0, 4.0]),
    }
)


class SessionRules(Machine):
    @rule(batch_size=st.sampled_from([1, 1, 2, 3]), ttl=TTL)
    def open_one(self, batch_size: int, ttl: float) -> None:
        self.open(min(batch_size, self.core.limits.max_batch_size), ttl)

    @precondition(lambda self: self.clients)
    @rule(
        data=st.data(),
        values=VALUES,
        options=OPTIONS,
        how=st.sampled_from(["unnumbered", "numbered", "numbered", "numbered", "peek", "too far"]),
        spoiled=SPOILED,
    )
    def step_one(
        self, data: Any, values: list[int], options: dict[str, Any], how: str, spoiled: bool
    ) -> None:
        client = self.draw(data)
        index = {"numbered": client.next_step, "too far": client.next_step + 2}.get(how, 0)
        self.step(client, spoil(values, spoiled), **options, index=index, peek=how == "peek")

    @precondition(lambda self: any(client.steps for client in self.clients))
    @rule(data=st.data(), options=OPTIONS, other=VALUES, conflicts=SOMETIMES)
    def step_again(
        self, data: Any, options: dict[str, Any], other: list[int], conflicts: bool
    ) -> None:
        client = data.draw(st.sampled_from([each for each in self.clients if each.steps]))
        index, values = data.draw(st.sampled_from(client.steps[-3:]))
        if conflicts:
            index = data.draw(st.integers(1, client.next_step))
        self.step(client, other if conflicts else values, **options, index=index)

    @precondition(lambda self: any(client.asked for client in self.clients))
    @rule(data=st.data())
    def lose_and_step_again(self, data: Any) -> None:
        """The client does not wait any longer for its first answer, and asks once more."""
        first = {
            client: client.asked[0]
            for client in self.clients
            if client.asked and client.asked[0].kind == "step" and client.asked[0].frame is None
        }
        if first:
            client = data.draw(st.sampled_from(list(first)))
            asked = first[client]
            self.cancel_one(client, asked)
            how = {"shapes": "red", "return_state": asked.return_state}
            self.step(client, asked.values, **how, index=asked.index)

    def step(self, client: Client, values: list[int], **options: Any) -> None:
        if self.core.limits.max_chunk is None:
            options["shapes"] = len(values)
        asked = self.send(
            client,
            "peek" if options.get("peek") else "step",
            lambda: self.core.step(client.session, values, **options),
            values=values,
        )
        if asked is not None and asked.index:
            client.steps.append((asked.index, values))

    @precondition(lambda self: self.clients)
    @rule(lengths=st.lists(st.integers(0, 6), min_size=2, max_size=MAX_SESSIONS))
    def step_many(self, lengths: list[int]) -> None:
        """One of every session, but for those of length 0."""
        for client, length in zip(self.clients[::-1], lengths, strict=False):
            if length:
                index = client.next_step if length % 2 else 0
                how = {"return_state": length > 3, "shapes": "red", "index": index}
                self.step(client, list(range(length)), **how)

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), kind=st.sampled_from(["read", "read", "touch"]))
    def read_or_touch(self, data: Any, kind: str) -> None:
        client = self.draw(data)
        session = client.session
        if kind == "read":
            self.send(client, kind, lambda: self.core.read(session))
        else:
            self.send(client, kind, lambda: self.core.ask(session, Touch()))

    @precondition(lambda self: self.clients)
    @rule(
        data=st.data(),
        value=st.none() | st.integers(0, 50),
        initial=st.booleans(),
        step=st.sampled_from([None, None, None, 0, 3]),
        number=st.sampled_from([None, None, 1, 1, 2, 3]),
        after=st.sampled_from([0, 0, 0, 1]),
    )
    def write(self, data: Any, value: int | None, initial: bool, number: Any, **how: Any) -> None:
        client = self.draw(data)
        session, how = client.session, {"initial": initial, "step": how["step"], **how}
        if how["step"] is not None:  # as a session that is restored: later writes say no place
            self.recounted.add(session)
        if number is not None and session not in self.recounted:
            how["id"] = number
            how["after"] += client.next_step - 1
        self.send(client, "write", lambda: self.core.write(session, value, **how), value=value)

    @precondition(lambda self: self.leaving())
    @rule(data=st.data(), value=st.none() | st.integers(0, 50))
    def write_who_leaves(self, data: Any, value: int | None) -> None:
        leaving = [each for each in self.clients if each.session in self.leaving()]
        session = (client := data.draw(st.sampled_from(leaving))).session
        self.send(client, "write", lambda: self.core.write(session, value), value=value)

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), ttl=TTL, count_on=st.booleans())
    def fork(self, data: Any, ttl: float, count_on: bool) -> None:
        client, core = self.draw(data), self.core
        before = len(core.everyone)
        full = len(core.sessions) == MAX_SESSIONS or self.is_full(client.session.batch_size)
        crowded = self.is_crowded(client.session, 3)
        try:
            core.fork(client.session, count_on=count_on, idle_ttl_s=ttl)
        except SessionClosed:
            assert client.session.ending
        except LimitReached:
            assert full or crowded
        else:
            self._note_fork(client, core.everyone[-1])
            return
        for session in core.everyone[before:]:
            if not session.closed:
                core.close(session)

    def _note_fork(self, client: Client, session: Session) -> None:
        target = self.client_of(session)
        hold, write = session.pending
        share = self.core.shares[-1]
        assert isinstance(share, Share)
        for owner, kind, request in [
            (target, "hold", hold),
            (target, "kept", write),
            (client, "share", share),
        ]:
            self.by_request[request] = Asked(kind, request, target=target)
            owner.asked.append(self.by_request[request])

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), politely=st.booleans())
    def close(self, data: Any, politely: bool) -> None:
        client = self.draw(data)
        if politely:
            self.send(client, "close", lambda: self.core.end(client.session))
        elif not client.session.closed:
            self.core.close(client.session)

    @precondition(lambda self: any(client.asked for client in self.clients))
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        client = data.draw(st.sampled_from([each for each in self.clients if each.asked]))
        asked = data.draw(st.sampled_from(list(client.asked)))
        if asked.frame is None and asked.kind != "share":
            self.cancel_one(client, asked)

    def cancel_one(self, client: Client, asked: Asked) -> None:
        if not self.core.answered(asked.request):
            self.silent.add(asked.request)
        self.core.cancel(client.session, asked.request)

    @rule(seconds=st.sampled_from([1.0, 6.0, 60.0]))
    def expire(self, seconds: float) -> None:
        self.core.now_s += seconds
        idle = {
            session: session.last_used_s + session.idle_ttl_s
            for session in self.core.sessions
            if session.pending is None
        }
        for session in self.core.sessions.expire(self.core.now_s):
            assert idle[session] <= self.core.now_s
