"""Frames over random sessions: pipelined, overlapping, sent again, cancelled."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from server.core.phases import Phase
from server.errors import LimitReached, RequestError, SessionClosed, SessionNotFound
from tests.server.core.asked import Asked
from tests.server.core.machine import spoil
from tests.server.core.machine_sessions import SessionRules
from tests.server.core.reference import Client, SentFrame

if TYPE_CHECKING:
    from tests.server.core.driven import ShownFrame

SEEDS = st.integers(0, 2**32)
TIMESTEPS = [1, 1, 1, 2, 5]


class FrameRules(SessionRules):
    @precondition(lambda self: self.clients)
    @rule(seed=SEEDS, pipelined=st.integers(1, 3))
    def frames(self, seed: int, pipelined: int) -> None:
        for index in range(pipelined):
            self.frame(Random(seed + index))

    def frame(self, random: Random) -> None:
        clients = [client for client in self.clients if client.session.batch_size == 1]
        there = [client for client in clients if not client.session.closed]
        among = there if random.random() < 0.8 else clients
        if among:
            chosen = random.sample(among, random.randint(1, len(among)))
            timesteps = random.choice(TIMESTEPS)
            steps = [_draw_step(random, client, timesteps) for client in chosen]
            self.send_frame(random, chosen, steps)

    @precondition(lambda self: self.sent)
    @rule(seed=SEEDS)
    def frame_again(self, seed: int) -> None:
        random = Random(seed)
        sent = random.choice(self.sent[-4:])
        indices, values = sent.frame.indices.tolist(), sent.frame.inputs["x"].tolist()
        steps = list(zip(indices, values, strict=True))
        self.send_frame(random, sent.clients, steps)

    def send_frame(
        self, random: Random, clients: list[Client], steps: list[tuple[int, list[int]]]
    ) -> None:
        core, timesteps = self.core, len(steps[0][1])
        sessions = [client.session for client in clients]
        errors: dict[int, RequestError] = {}
        for position, session in enumerate(sessions):
            if session.phase is Phase.CLOSED:
                errors[position] = SessionNotFound("gone")
                sessions[position] = random.choice(core.everyone)  # nobody looks
        before = core.ledger.pending, core.ledger.pending_bytes
        try:
            frame = core.frame(
                sessions,
                [values for _, values in steps],
                [index for index, _ in steps],
                errors,
                shapes=timesteps if core.limits.max_chunk is None else "red",
            )
        except LimitReached:
            assert self.is_crowded(sessions[0], len(sessions))
            assert before == (core.ledger.pending, core.ledger.pending_bytes)
        else:
            asked = [
                None if position in errors else self._note(frame, position, client)
                for position, client in enumerate(clients)
            ]
            self.sent.append(SentFrame(frame, clients, asked))

    def _note(self, frame: ShownFrame, position: int, client: Client) -> Asked | None:
        session = client.session
        if position in frame.errors:
            self._check_refusal(frame.errors[position], client)
            return None
        values = frame.inputs["x"][position].tolist()
        single = None if position in frame.enlisted_positions else session.pending[-1]
        asked = Asked("step", single, frame, position, values)
        self.by_request[single or (frame, position)] = asked
        client.asked.append(asked)
        if asked.index:
            client.steps.append((asked.index, values))
        return asked

    def _check_refusal(self, error: RequestError, client: Client) -> None:
        """Of a step that had to queue for itself."""
        if isinstance(error, SessionClosed):
            assert client.session.ending
        else:
            assert isinstance(error, LimitReached)
            assert self.is_crowded(client.session)

    @precondition(lambda self: any(not sent.over for sent in self.sent))
    @rule(seed=SEEDS)
    def cancel_frame(self, seed: int) -> None:
        sent = Random(seed).choice([sent for sent in self.sent if not sent.over])
        if not self.core.answered(sent.frame):
            self.silent.add(sent.frame)
        self.core.cancel_frame(sent.frame)
        for client, asked in zip(sent.clients, sent.asked, strict=True):
            if asked is not None and asked.request in (client.session.pending or ()):
                assert asked.request is client.session.first
                assert client.session.phase in (Phase.RUNNING, Phase.CLOSING)


def _draw_step(random: Random, client: Client, timesteps: int) -> tuple[int, list[int]]:
    """Its number and its values: a new one, one that was sent before, one that cannot be."""
    how = random.random()
    if how < 0.15:
        same = [step for step in client.steps[-4:] if len(step[1]) == timesteps]
        if same:
            return random.choice(same)
    values = spoil([random.randint(0, 3) for _ in range(timesteps)], random.random() < 0.05)
    if how < 0.22:
        return random.randint(1, client.next_step), values
    if how < 0.25:
        return client.next_step + 2, values
    return (0 if how < 0.5 else client.next_step), values
