"""Those who step sessions while the network misbehaves, each in a way of its own: blocking, and as
coroutines.

A player gets a client, a model's name and inputs, `(steps, features)` or, for a group,
`(steps, GROUP, features)`. When it has made every step it leaves its sessions open and says what it
has seen.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing, closing, suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import rnnserve

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

GROUP = 24  # sessions
HALVES = np.arange(0, GROUP, 2), np.arange(GROUP - 1, 0, -2)
IMPATIENT_S = 0.08


class Outcome(NamedTuple):
    """What is left of a session when all its steps are done."""

    player: str
    model: str
    inputs: NDArray[Any]  # (steps, features)
    outputs: dict[int, NDArray[Any]]  # by step from 0; those that the player has seen
    step_count: int
    key: tuple[str, str]


class Seen:
    """The outputs of a session, or of the sessions of a group."""

    def __init__(self, player: str, model: str, inputs: NDArray[Any]) -> None:
        self._of = player, model
        self._inputs = inputs
        self._outputs: dict[int, NDArray[Any]] = {}

    def put(self, step: int, output: Any) -> None:
        """A step may be seen twice only if nothing has changed."""
        before = self._outputs.setdefault(step, output)
        assert before.tobytes() == output.tobytes(), f"step {step} had another output before"

    def of(self, session: Any) -> list[Outcome]:
        key = session.id, session.token
        return [Outcome(*self._of, self._inputs, self._outputs, session.step_count, key)]

    def of_group(self, group: Any) -> list[Outcome]:
        counts, keys = group.step_counts.tolist(), group.keys
        return [
            Outcome(
                *(*self._of, self._inputs[:, n]),
                *({step: output[n] for step, output in self._outputs.items()}, counts[n], keys[n]),
            )
            for n in range(GROUP)
        ]


# ---- blocking ---------------------------------------------------------------------------------


def steps(client: Any, model: str, inputs: NDArray[Any]) -> list[Outcome]:
    seen = Seen("steps", model, inputs)
    session = client.session(model).open()
    for n, x in enumerate(inputs):
        seen.put(n, session.step(x))
    return seen.of(session)


def streams(client: Any, model: str, inputs: NDArray[Any]) -> list[Outcome]:
    """Streams of different windows, and single steps between them."""
    seen = Seen("streams", model, inputs)
    session = client.session(model).open()
    third = len(inputs) // 3
    for n, output in enumerate(session.stream(inputs[:third], window=12)):
        seen.put(n, output)
    for n in range(third, third + 5):
        seen.put(n, session.step(inputs[n]))
    for n, output in enumerate(session.stream(inputs[third + 5 :], window=3), third + 5):
        seen.put(n, output)
    return seen.of(session)


def leaver(client: Any, model: str, inputs: NDArray[Any]) -> list[Outcome]:
    """Leaves streams early and goes on where the count says."""
    seen = Seen("leaver", model, inputs)
    chance = random.Random(len(model))
    session = client.session(model).open()
    while (done := session.step_count) < len(inputs):
        patience = chance.randrange(1, 30)
        with closing(session.stream(inputs[done:], window=6)) as stream:
            for n, output in enumerate(stream, done):
                seen.put(n, output)
                if n == done + patience:
                    break
    return seen.of(session)


def impatient(client: Any, model: str, inputs: NDArray[Any]) -> list[Outcome]:
    """Gives every step little time, and calls again when that is over."""
    seen = Seen("impatient", model, inputs)
    session = client.session(model).open()
    for n, x in enumerate(inputs):
        seen.put(n, at_last(partial(session.step, x)))
    return seen.of(session)


def branching(client: Any, model: str, inputs: NDArray[Any]) -> list[Outcome]:
    """Forks, copies by snapshot, looks ahead; every copy sees what the original sees."""
    seen = Seen("branching", model, inputs)
    session = client.session(model).open()
    for start in range(0, len(inputs), 20):
        ahead = session.step(inputs[start], peek=True)
        with session.fork() as fork, client.restore(session.snapshot()) as copy:
            for n in range(start, min(start + 5, len(inputs))):
                for each in (fork, session, copy):
                    seen.put(n, each.step(inputs[n]))
        seen.put(start, ahead)
        for n in range(start + 5, min(start + 20, len(inputs))):
            seen.put(n, session.step(inputs[n]))
        states = session.get_states()
        assert session.describe().step_count == session.step_count
        session.keep_alive()
        assert {name: a.tobytes() for name, a in session.get_states().items()} == {
            name: a.tobytes() for name, a in states.items()
        }
    return seen.of(session)


def group(client: Any, model: str, inputs: NDArray[Any]) -> list[Outcome]:
    """All together; then two halves of the sessions in turns; then ahead of the answers."""
    seen = Seen("group", model, inputs)
    sessions = client.group(model, GROUP).open()
    third = len(inputs) // 3
    for n in range(third):
        seen.put(n, sessions.step(inputs[n]))
    for n in range(third, 2 * third):
        parts = [sessions.step(inputs[n][half], sessions=half) for half in HALVES]
        seen.put(n, together(parts))
    for n, output in enumerate(sessions.stream(inputs[2 * third :], window=8), 2 * third):
        seen.put(n, output)
    return seen.of_group(sessions)


def group_leaver(client: Any, model: str, inputs: NDArray[Any]) -> list[Outcome]:
    """Leaves streams early; gives single steps little time, and calls again."""
    seen = Seen("group leaver", model, inputs)
    chance = random.Random(len(model))
    sessions = client.group(model, GROUP).open()
    while (done := count_of(sessions)) < len(inputs):
        patience = chance.randrange(1, 20)
        with closing(sessions.stream(inputs[done:], window=5)) as stream:
            for n, output in enumerate(stream, done):
                seen.put(n, output)
                if n == done + patience:
                    break
        if (done := count_of(sessions)) < len(inputs):
            seen.put(done, at_last(partial(sessions.step, inputs[done])))
    return seen.of_group(sessions)


# ---- coroutines -------------------------------------------------------------------------------


async def aio_steps(client: Any, model: str, inputs: NDArray[Any]) -> list[Outcome]:
    seen = Seen("aio steps", model, inputs)
    session = await client.session(model).open()
    for n, x in enumerate(inputs):
        seen.put(n, await session.step(x))
    return seen.of(session)


async def aio_stream(client: Any, model: str, inputs: NDArray[Any]) -> list[Outcome]:
    seen = Seen("aio stream", model, inputs)
    session = await client.session(model).open()
    n = 0
    async for output in session.stream(inputs):
        seen.put(n, output)
        n += 1
    return seen.of(session)


async def aio_cancelling(client: Any, model: str, inputs: NDArray[Any]) -> list[Outcome]:
    """Cancels what takes long, and calls again."""
    seen = Seen("aio cancelling", model, inputs)
    session = await client.session(model).open()
    for n, x in enumerate(inputs):
        seen.put(n, await at_last_in_loop(partial(session.step, x)))
    return seen.of(session)


async def aio_group(client: Any, model: str, inputs: NDArray[Any]) -> list[Outcome]:
    seen = Seen("aio group", model, inputs)
    sessions = await client.group(model, GROUP).open()
    half = len(inputs) // 2
    for n in range(half):
        seen.put(n, await sessions.step(inputs[n]))
    n = half
    async for output in sessions.stream(inputs[half:], window=8):
        seen.put(n, output)
        n += 1
    return seen.of_group(sessions)


async def aio_group_cancelling(client: Any, model: str, inputs: NDArray[Any]) -> list[Outcome]:
    """Cancels what takes long and calls again; leaves a stream early."""
    seen = Seen("aio group cancelling", model, inputs)
    sessions = await client.group(model, GROUP).open()
    half = len(inputs) // 2
    for n in range(half):
        seen.put(n, await at_last_in_loop(partial(sessions.step, inputs[n])))
    while (n := count_of(sessions)) < len(inputs):
        stop = n + 7
        async with aclosing(sessions.stream(inputs[n:], window=4)) as stream:
            async for output in stream:
                seen.put(n, output)
                n += 1
                if n == stop:
                    break
    return seen.of_group(sessions)


SINGLE = (steps, streams, leaver, impatient, branching, aio_steps, aio_stream, aio_cancelling)
GROUPS = (group, group_leaver, aio_group, aio_group_cancelling)


def at_last(step: Callable[..., Any]) -> Any:
    """The step's output; it is given little time and called again when that is over."""
    for tries in count(1):
        with suppress(rnnserve.DeadlineExceeded, rnnserve.Unavailable):
            return step(timeout_s=tries * IMPATIENT_S)
    raise AssertionError


async def at_last_in_loop(step: Callable[..., Any]) -> Any:
    """The same with a task that is cancelled."""
    for tries in count(1):
        with suppress(TimeoutError):
            return await asyncio.wait_for(step(), tries * IMPATIENT_S)
    raise AssertionError


def together(parts: list[NDArray[Any]]) -> NDArray[Any]:
    whole = np.empty((GROUP, *parts[0].shape[1:]), parts[0].dtype)
    for half, part in zip(HALVES, parts, strict=True):
        whole[half] = part
    return whole


def count_of(sessions: Any) -> int:
    """Of all sessions of a group, which have made the same steps."""
    (count,) = set(sessions.step_counts.tolist())
    return int(count)
