"""Exactly once, whatever the network does: clients of every kind step sessions through a proxy that
delays, stalls and cuts connections, and everything is as if nothing had happened, bit for bit.

Two models: "vowels", which the server runs for one session at a time, so that its floats do not
depend on who else is there; and "leaky", `h ← 0.75 h + x`, whose every element is computed by
itself in any batch. A step that is lost, doubled or out of turn shows in every later answer.

RNNSERVE_FAULT_STEPS: steps of each session (48 by default). RNNSERVE_FAULT_SEED: another course.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import rnnserve
from tests.endtoend.fault_players import GROUP, GROUPS, SINGLE, Outcome
from tests.endtoend.fault_proxy import PREFACE, DataFrames, FaultProxy, Faults

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

STEPS = int(os.environ.get("RNNSERVE_FAULT_STEPS", "48"))
SEED = int(os.environ.get("RNNSERVE_FAULT_SEED", "5"))
WIDTH = {"vowels": 12, "leaky": 8}
LIMIT_S = 60.0 + STEPS / 2  # nobody waits longer for a call, nor for a player
RETRIES = rnnserve.Retries(attempt_s=0.4, first_pause_s=0.01, longest_pause_s=0.1)
FAULTS = Faults(mean_chunks=40, stall=0.003, stall_s=(0.05, 1.2))
OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own for every client
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 100),
]

LEAKY_CONFIG = """
max_batch_size: 16
sequence_batching {
  max_sequence_idle_microseconds: 600000000
  state [ { input_name: "h" output_name: "h_next" data_type: TYPE_FP32 dims: [ 8 ] } ]
}
"""


@dataclass(frozen=True)
class Task:
    """Somebody with something to do: see `fault_players`."""

    play: Callable[..., Any]
    model: str
    inputs: NDArray[Any]


def tasks() -> list[Task]:
    chance = np.random.default_rng(SEED)

    def inputs(model: str, *sessions: int) -> NDArray[np.float32]:
        return chance.normal(size=(STEPS, *sessions, WIDTH[model])).astype(np.float32)

    return [
        *(Task(play, model, inputs(model)) for model in WIDTH for play in SINGLE),
        *(Task(play, model, inputs(model, GROUP)) for model in WIDTH for play in GROUPS),
    ]


def play_all(address: str, wanted: list[Task]) -> list[Outcome]:
    """Of everybody's sessions, which stay open; one client for each task would be too easy."""
    connect = {"timeout_s": LIMIT_S, "retries": RETRIES, "options": OPTIONS}
    loops = [task for task in wanted if inspect.iscoroutinefunction(task.play)]
    threads = [task for task in wanted if not inspect.iscoroutinefunction(task.play)]

    async def play_in_loop() -> list[list[Outcome]]:
        async with rnnserve.aio.connect(address, **connect) as client:
            await meet_in_loop(client)
            return await asyncio.gather(*(t.play(client, t.model, t.inputs) for t in loops))

    with (
        rnnserve.connect(address, **connect) as client,
        ThreadPoolExecutor(len(threads) + 1) as pool,
    ):
        meet(client)
        looped = pool.submit(asyncio.run, play_in_loop())
        futures = [pool.submit(t.play, client, t.model, t.inputs) for t in threads]
        outcomes = [future.result(LIMIT_S) for future in futures]
        return list(chain.from_iterable(outcomes + looped.result(LIMIT_S)))


def meet(client: Any) -> None:
    """From here on the client knows that there is a server; before, it does not wait for one."""
    while True:
        try:
            client.model("leaky")
            return
        except rnnserve.Unavailable:
            time.sleep(0.05)


async def meet_in_loop(client: Any) -> None:
    while True:
        try:
            await client.model("leaky")
            return
        except rnnserve.Unavailable:
            await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def faulted_server(
    start: Callable[..., Any], one_at_a_time: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """Has fewer sessions on the device than there are: the others come and go."""
    repository = tmp_path_factory.mktemp("faults") / "repository"
    shutil.copytree(one_at_a_time, repository)
    entry = repository / "leaky"
    (entry / "1").mkdir(parents=True)
    (entry / "config.pbtxt").write_text(LEAKY_CONFIG)
    onnx.save(leaky(), str(entry / "1" / "model.onnx"))
    options = ("--max-resident", "50", "--drain-limit-s", "1")
    return start(repository, *options).wait_until_serving()


def leaky() -> onnx.ModelProto:
    def value(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH["leaky"]])

    nodes = [
        helper.make_node("Mul", ["h", "keep"], ["kept"]),
        helper.make_node("Add", ["kept", "x"], ["h_next"]),
        helper.make_node("Neg", ["h_next"], ["y"]),
    ]
    keep = numpy_helper.from_array(np.array(0.75, np.float32), "keep")
    inputs, outputs = [value("x"), value("h")], [value("y"), value("h_next")]
    graph = helper.make_graph(nodes, "leaky", inputs, outputs, [keep])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def leaked(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """The outputs of "leaky" as numpy computes them."""
    h = np.zeros_like(inputs[0])
    return np.stack([-(h := np.float32(0.75) * h + x) for x in inputs])


@pytest.fixture(scope="module")
def lone(alone: Any) -> dict[str, Callable[[Any], Any]]:
    """What each model makes of a session's inputs, somewhere else."""
    return {"vowels": alone, "leaky": leaked}


def states_of(address: str, outcomes: list[Outcome]) -> list[tuple[int, dict[str, bytes]]]:
    """What the server has of the sessions; they are closed then."""
    found = []
    with rnnserve.connect(address) as client:
        for outcome in outcomes:
            with client.resume(*outcome.key) as session:
                states = {name: array.tobytes() for name, array in session.states.items()}
                found.append((session.step_count, states))
    return found


@pytest.mark.timeout(3 * LIMIT_S)
def test_as_if_nothing_had_happened(faulted_server: Any, lone: Any) -> None:
    wanted = tasks()
    with FaultProxy(faulted_server.grpc, seed=SEED, faults=FAULTS) as proxy:
        got = play_all(proxy.address, wanted)
        print(proxy.counts)
    got_states = states_of(faulted_server.grpc, got)
    expected = play_all(faulted_server.grpc, wanted)
    expected_states = states_of(faulted_server.grpc, expected)

    for outcome in got + expected:
        who = f"{outcome.player} of {outcome.model}"
        assert outcome.step_count == STEPS, who
        reference = lone[outcome.model](outcome.inputs)
        wrong = [n for n, y in outcome.outputs.items() if y.tobytes() != reference[n].tobytes()]
        assert not wrong, f"{who}: wrong outputs"
    assert got_states == expected_states
    assert {count for count, _ in got_states} == {STEPS}
    assert faulted_server.metric("rnnserve_sessions") == 0
    assert faulted_server.metric("rnnserve_pending_requests") == 0

    counts = proxy.counts
    assert counts.cuts >= 20, counts
    assert min(counts.answers_lost, counts.requests_unanswered) >= 3, counts
    assert min(counts.stalls, counts.refused, counts.trickles, counts.delays) > 0, counts


def test_steps_that_take_longer_than_an_attempt(faulted_server: Any) -> None:
    """Asked for again and again while they run, and run once."""
    long = np.random.default_rng(1).normal(size=(3, 8_000, WIDTH["vowels"])).astype(np.float32)
    outcomes, retries, begun_s = [], None, time.monotonic()
    for _ in range(2):
        with rnnserve.connect(faulted_server.grpc, retries=retries) as client:
            client.model("vowels")
            with client.session("vowels") as session, client.group("vowels", 3) as sessions:
                outputs = [session.step(long[0], return_sequences=True)]
                took_s = time.monotonic() - begun_s
                outputs += session.stream(long[1:], return_sequences=True, window=2)
                outputs += [sessions.step(long, return_sequences=True)]
                outputs += sessions.stream([long, long[::-1]], window=2)
                assert session.step_count == 3
                assert sessions.step_counts.tolist() == [3] * 3
                states = [*session.states.values(), sessions.step(long[:, :1])]
        outcomes.append([array.tobytes() for array in outputs + states])
        retries = rnnserve.Retries(took_s / 8, first_pause_s=took_s / 100)
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("size", [1, 2, 5, 9, 10, 100])
def test_the_proxy_tells_data_from_all_else(size: int) -> None:
    """However the bytes of the frames are cut into chunks."""
    frames = [(4, 12), (0, 7), (8, 4), (0, 0), (0, 30), (1, 15), (0, 1)]  # kind and length
    wire = PREFACE + b"".join(
        length.to_bytes(3, "big") + bytes([kind, 0, 0, 0, 0, 1]) + b"\0" * length
        for kind, length in frames
    )
    counter = DataFrames(PREFACE)
    chunks = [wire[start : start + size] for start in range(0, len(wire), size)]
    found = [chunk for chunk in chunks if counter.count(chunk)]
    touched, start = set(), len(PREFACE)
    for kind, length in frames:
        start += 9
        if kind == 0:
            touched |= {position // size for position in range(start, start + length)}
        start += length
    assert len(found) == len(touched)
