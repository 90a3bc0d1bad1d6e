"""Several processes on one port: whichever of them a connection reaches, a request gets what it
would get from a server that is alone. Outputs are compared bit for bit.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import numpy as np
import pytest

import rnnserve
from rnnserve.v1 import session_pb2 as pb
from rnnserve.v1 import session_pb2_grpc
from server.stubs.inference import grpc_service_pb2 as oip
from server.stubs.inference import grpc_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

PROCESSES = ("--processes", "2", "--max-chunk", "1")
FRAMES = np.random.default_rng(5).normal(size=(12, 12)).astype(np.float32)
LONG = np.random.default_rng(3).normal(size=(15_000, 12)).astype(np.float32)
OPTIONS = [("grpc.use_local_subchannel_pool", 1)]  # or channels would share a connection


class Door(NamedTuple):
    """A connection to one of the processes."""

    channel: grpc.Channel
    sessions: Any
    inference: Any


@contextlib.contextmanager
def doors(address: str, count: int = 2) -> Iterator[list[Door]]:
    """One into each process, in the order of their numbers."""
    with contextlib.ExitStack() as stack:
        found: dict[int, Door] = {}
        for _ in range(100):
            channel = stack.enter_context(grpc.insecure_channel(address, OPTIONS))
            door = Door(
                channel,
                session_pb2_grpc.SessionServiceStub(channel),
                grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel),
            )
            key = opened(door)
            door.sessions.CloseSession(pb.CloseSessionRequest(session=key))
            found.setdefault(process_of(key), door)
            if len(found) == count:
                break
        yield [found[number] for number in range(count)]


def opened(door: Door, **fields: Any) -> pb.SessionKey:
    request = pb.OpenSessionRequest(model_name="vowels", **fields)
    return door.sessions.OpenSession(request, timeout=10).session


def process_of(key: pb.SessionKey) -> int:
    """Which process has made this id."""
    return int(key.session_id.rpartition(".")[2])


def tensor(frames: NDArray[Any]) -> pb.Tensor:
    """(time, 12) as the input of a session with one row."""
    shape = (1, *frames.shape)
    return pb.Tensor(name="frames", datatype="FP32", shape=shape, contents=frames.tobytes())


def step_request(frames: NDArray[Any], key: Any = None, **fields: Any) -> pb.StepRequest:
    return pb.StepRequest(session=key, inputs=[tensor(frames)], **fields)


def step(door: Door, key: pb.SessionKey, frames: NDArray[Any], **fields: Any) -> bytes:
    """The output of the last timestep."""
    answer = door.sessions.Step(step_request(frames, key, **fields), timeout=10)
    return bytes(answer.outputs[0].contents)


def refused(call: Callable[[], Any]) -> tuple[Any, ...]:
    """How the call fails: status, text, and what the trailing metadata say."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    metadata = {k: v for k, v in error.trailing_metadata() if not k.startswith("grpc-")}
    return error.code(), error.details(), metadata


def infer(id: Any, frames: NDArray[Any], *flags: str, number: int = 0) -> oip.ModelInferRequest:
    """One request of a sequence; `flags` are "start" and "end"."""
    request = oip.ModelInferRequest(model_name="vowels", id=f"{id}")
    request.inputs.add(name="frames", datatype="FP32", shape=(1, *frames.shape))
    request.raw_input_contents.append(frames.tobytes())
    kind = "string_param" if isinstance(id, str) else "int64_param"
    setattr(request.parameters["sequence_id"], kind, id)
    for flag in flags:
        request.parameters[f"sequence_{flag}"].bool_param = True
    if number:
        request.parameters["rnnserve_step"].int64_param = number
    return request


def output(response: oip.ModelInferResponse) -> bytes:
    return bytes(response.raw_output_contents[0])


def listed(door: Door, **fields: Any) -> list[str]:
    answer = door.sessions.ListSessions(pb.ListSessionsRequest(**fields))
    return [session.session_id for session in answer.sessions]


def children(pid: int) -> dict[int, int]:
    """The processes by their numbers: their ids."""
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        command = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
        found[int(command[command.index("server.processes.worker") + 1])] = int(child)
    return found


def until(condition: Callable[[], object], limit_s: float = 20.0) -> None:
    give_up_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.02)


@pytest.fixture(scope="module")
def shared(start: Any, one_at_a_time: Path) -> Any:
    """Two processes; tests leave no session behind."""
    return start(one_at_a_time, *PROCESSES).wait_until_serving()


@pytest.fixture(scope="module")
def both(shared: Any) -> Iterator[list[Door]]:
    with doors(shared.grpc) as found:
        yield found


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "both" in request.fixturenames:
        here, there = request.getfixturevalue("both")
        assert listed(here) == listed(there) == []


# ---- SessionService, unary -----------------------------------------------------------------------


def test_a_session_is_found_over_any_connection(both: list[Door], alone: Any) -> None:
    key = opened(both[0])
    got = [step(both[t % 2], key, FRAMES[t : t + 1]) for t in range(len(FRAMES))]
    assert got == [row.tobytes() for row in alone(FRAMES)]
    for door in both:
        described = door.sessions.DescribeSession(pb.DescribeSessionRequest(session=key))
        assert described.step == len(FRAMES)
    both[1].sessions.CloseSession(pb.CloseSessionRequest(session=key))


def test_what_comes_of_a_session_elsewhere(both: list[Door], alone: Any) -> None:
    """Forks are born where the session is, restored ones where they are asked for."""
    expected = [row.tobytes() for row in alone(FRAMES)]
    here, there = both
    key = opened(here)
    for t in range(3):
        step(here, key, FRAMES[t : t + 1])
    fork = there.sessions.Fork(pb.ForkRequest(session=key)).session
    snapshot = there.sessions.Snapshot(pb.SnapshotRequest(session=key)).snapshot
    restored = there.sessions.Restore(pb.RestoreRequest(snapshot=snapshot)).session
    source = pb.StatesOf(session=key)
    heir = opened(there, states_of=source)
    assert [process_of(k) for k in (fork, restored, heir)] == [0, 1, 0]
    for one in (key, fork, restored, heir):
        assert step(there, one, FRAMES[3:4]) == expected[3]
        there.sessions.ResetStates(pb.ResetStatesRequest(session=one))
        assert step(here, one, FRAMES[:1]) == expected[0]
        there.sessions.CloseSession(pb.CloseSessionRequest(session=one))


def test_errors_are_the_same_over_any_connection(both: list[Door]) -> None:
    key = opened(both[0])
    stranger = pb.SessionKey(session_id=key.session_id, token="guessed")
    requests = [
        step_request(FRAMES[:1], stranger),
        step_request(FRAMES[:1, :3], key),
        step_request(FRAMES[:1], key, step=7),
        step_request(FRAMES[:1], pb.SessionKey(session_id="nobody's")),
    ]
    errors = [
        [refused(lambda d=door, r=request: d.sessions.Step(r)) for request in requests]
        for door in both
    ]
    assert errors[0] == errors[1]
    assert [code.name for code, _, _ in errors[0]] == [
        *("NOT_FOUND", "INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND")
    ]
    assert errors[0][2][2] == {"rnnserve-error": "StepGap", "expected-step": "1"}
    both[1].sessions.CloseSession(pb.CloseSessionRequest(session=key))
    gone = [refused(lambda d=door: step(d, key, FRAMES[:1])) for door in both]
    assert gone[0] == gone[1]


def test_a_chosen_id_is_there_once(both: list[Door]) -> None:
    here, there = both
    key = opened(here, session_id="mine", token="secret")
    assert opened(there, session_id="mine", token="secret") == key  # the same client asks again
    for door in both:
        code, text, _ = refused(lambda d=door: opened(d, session_id="mine", token="another"))
        assert (code.name, "exists" in text) == ("ALREADY_EXISTS", True)
    assert listed(there) == ["mine"]
    there.sessions.CloseSession(pb.CloseSessionRequest(session=key))
    again = opened(there, session_id="mine")  # lives there now
    assert step(here, again, FRAMES[:1])
    here.sessions.CloseSession(pb.CloseSessionRequest(session=again))


def test_many_race_for_one_id(both: list[Door]) -> None:
    def open_one(number: int) -> pb.SessionKey | None:
        with contextlib.suppress(grpc.RpcError):
            return opened(both[number % 2], session_id="race")
        return None

    with ThreadPoolExecutor(8) as threads:
        for _ in range(5):
            winners = [key for key in threads.map(open_one, range(8)) if key is not None]
            assert len(winners) == 1
            assert listed(both[0]) == ["race"]
            both[1].sessions.CloseSession(pb.CloseSessionRequest(session=winners[0]))


def test_expiry_is_told_over_any_connection(both: list[Door]) -> None:
    keys = [opened(both[0], idle_ttl_s=0.1), opened(both[0], session_id="brief", idle_ttl_s=0.1)]
    until(lambda: not listed(both[1]))
    for key in keys:
        code, _, metadata = refused(lambda k=key: step(both[1], k, FRAMES[:1]))
        assert (code.name, metadata["rnnserve-error"]) == ("FAILED_PRECONDITION", "SessionExpired")
    again = opened(both[1], session_id="brief")
    both[1].sessions.CloseSession(pb.CloseSessionRequest(session=again))


def test_deadlines_travel(shared: Any, both: list[Door]) -> None:
    key = opened(both[0])
    request = step_request(np.concatenate([LONG] * 10), key)
    code, _, _ = refused(lambda: both[1].sessions.Step(request, timeout=0.5))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    until(lambda: shared.metric("rnnserve_pending_requests") == 0, 3)  # else it runs for longer
    described = both[1].sessions.DescribeSession(pb.DescribeSessionRequest(session=key))
    assert described.step == 0
    both[1].sessions.CloseSession(pb.CloseSessionRequest(session=key))


# ---- streams of SessionService -------------------------------------------------------------------


class Stream:
    """Messages to one door; answers by `request_id`, which may come in any order."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def play(self, messages: Iterable[pb.StreamRequest]) -> list[pb.StreamResponse]:
        """All messages at once; their answers in the order of the messages."""
        numbered = list(messages)
        for number, message in enumerate(numbered):
            message.request_id = number
        answers = list(self._door.sessions.Stream(iter(numbered), timeout=20))
        assert sorted(answer.request_id for answer in answers) == list(range(len(numbered)))
        return sorted(answers, key=lambda answer: answer.request_id)


def frame_of(numbers: list[int], frames: NDArray[Any]) -> pb.Frame:
    """The same timestep for each."""
    column = np.array(numbers, "<u4").tobytes()
    shape = (len(numbers), *frames.shape)
    contents = frames.tobytes() * len(numbers)
    inputs = [pb.Tensor(name="frames", datatype="FP32", shape=shape, contents=contents)]
    return pb.Frame(sessions=column, inputs=inputs)


def test_a_stream_with_sessions_of_both(both: list[Door], alone: Any) -> None:
    expected = [row.tobytes() for row in alone(FRAMES)]
    keys = [opened(both[0]), opened(both[1])]
    for door in both:
        messages = [pb.StreamRequest(session=n, resume=key) for n, key in enumerate(keys)]
        for t in range(len(FRAMES)):
            one = step_request(FRAMES[t : t + 1])
            messages += [pb.StreamRequest(session=n, step=one) for n in (0, 1)]
        messages += [pb.StreamRequest(session=n, reset=pb.ResetStatesRequest()) for n in (0, 1)]
        answers = Stream(door).play(messages)
        assert [a.WhichOneof("result") for a in answers[:2]] == ["open", "open"]
        got = [bytes(a.step.outputs[0].contents) for a in answers[2:-2]]
        assert got == [row for row in expected for _ in (0, 1)]
        assert {a.WhichOneof("result") for a in answers[-2:]} == {"reset"}
    closing = [pb.StreamRequest(session=n, resume=key) for n, key in enumerate(keys)]
    closing += [pb.StreamRequest(session=n, close=pb.CloseSessionRequest()) for n in (0, 1)]
    closing += [pb.StreamRequest(session=n, step=step_request(FRAMES[:1])) for n in (0, 1)]
    answers = Stream(both[0]).play(closing)
    kinds = [answer.WhichOneof("result") for answer in answers]
    assert kinds == ["open", "open", "close", "close", "error", "error"]


def test_numbers_of_sessions_elsewhere(both: list[Door]) -> None:
    """They are taken, and free again, as those of sessions that are here."""
    here, there = both
    open_one = pb.OpenSessionRequest(model_name="vowels")
    seen = []
    for home in (here, there):
        key = opened(home)
        messages = [
            pb.StreamRequest(session=3, resume=key),
            pb.StreamRequest(session=3, open=open_one),  # taken
            pb.StreamRequest(session=3, resume=key),  # taken
            pb.StreamRequest(session=3, close=pb.CloseSessionRequest()),
            pb.StreamRequest(session=3, open=open_one),
            pb.StreamRequest(session=3, step=step_request(FRAMES[:1])),
            pb.StreamRequest(session=3, close=pb.CloseSessionRequest()),
            pb.StreamRequest(session=4, resume=key),  # closed
        ]
        answers = Stream(here).play(messages)
        seen.append([(a.WhichOneof("result"), a.error.kind) for a in answers])
    assert seen[0] == seen[1]
    assert [kind for kind, _ in seen[0]] == [
        *("open", "error", "error", "close", "open", "step", "close", "error")
    ]
    key = opened(there)
    answers = Stream(here).play(
        [
            pb.StreamRequest(session=3, open=open_one),
            pb.StreamRequest(session=3, resume=key),  # taken by one that is here
            pb.StreamRequest(session=3, close=pb.CloseSessionRequest()),
            pb.StreamRequest(session=4, resume=key),
            pb.StreamRequest(session=4, close=pb.CloseSessionRequest()),
        ]
    )
    kinds = [answer.WhichOneof("result") for answer in answers]
    assert kinds == ["open", "error", "close", "open", "close"]


def test_frames(both: list[Door], alone: Any) -> None:
    expected = alone(FRAMES)[0].tobytes()
    here, there = both
    many = pb.OpenManyRequest(
        open=pb.OpenSessionRequest(model_name="vowels", session_id="group", token="secret"), count=3
    )
    first = Stream(here).play([pb.StreamRequest(session=0, open_many=many)])
    keys = list(first[0].open_many.sessions)
    assert [key.session_id for key in keys] == ["group/0", "group/1", "group/2"]
    own = opened(there)
    resume = pb.ResumeManyRequest(sessions=keys)
    column = np.arange(3, dtype="<u4").tobytes()
    answers = Stream(
        there
    ).play(
        [
            pb.StreamRequest(session=9, open_many=many),  # asked again, over another connection
            pb.StreamRequest(session=0, resume_many=resume),
            pb.StreamRequest(session=5, resume=own),
            pb.StreamRequest(frame=frame_of([0, 1, 2], FRAMES[:1])),
            pb.StreamRequest(frame=frame_of([5], FRAMES[:1])),
            pb.StreamRequest(frame=frame_of([0, 5], FRAMES[:1])),
            pb.StreamRequest(session=20, resume_many=pb.ResumeManyRequest(sessions=[*keys, own])),
            pb.StreamRequest(close_many=pb.CloseManyRequest(sessions=column)),
            pb.StreamRequest(session=1, open=pb.OpenSessionRequest(model_name="vowels")),
            pb.StreamRequest(session=1, close=pb.CloseSessionRequest()),
            pb.StreamRequest(session=5, close=pb.CloseSessionRequest()),
        ]
    )
    assert [key.session_id for key in answers[0].open_many.sessions] == [
        key.session_id for key in keys
    ]
    assert np.frombuffer(answers[1].resume_many.steps, "<u8").tolist() == [0, 0, 0]
    assert [bytes(a.frame.outputs[0].contents) for a in answers[3:5]] == [expected * 3, expected]
    for answer in answers[5:7]:
        assert answer.error.kind == "InvalidRequest"
        assert "several processes" in answer.error.message
    assert answers[7].close_many.closed == 3
    assert [a.WhichOneof("result") for a in answers[8:]] == ["open", "close", "close"]


def test_a_client_comes_back_over_another_connection(both: list[Door], shared: Any) -> None:
    """The library, which reconnects as it likes."""
    with rnnserve.connect(shared.grpc) as client:
        key = client.session("vowels").open()
        outputs = [key.step(FRAMES[0])]
        for t in range(1, 9):
            with rnnserve.connect(shared.grpc) as other:
                outputs.append(other.resume(key.id, key.token).open().step(FRAMES[t]))
        with rnnserve.connect(shared.grpc) as other, other.session("vowels") as fresh:
            expected = [fresh.step(frame) for frame in FRAMES[:9]]
        assert np.stack(outputs).tobytes() == np.stack(expected).tobytes()
        key.close()


# ---- Open Inference ------------------------------------------------------------------------------


@pytest.mark.parametrize("id", [7, "seven"])
def test_a_sequence_goes_on_over_another_connection(
    both: list[Door], alone: Any, id: int | str
) -> None:
    expected = [row.tobytes() for row in alone(FRAMES)]
    here, there = both
    for first, second in ((here, there), (there, here)):  # the second START begins anew, there
        got = [output(first.inference.ModelInfer(infer(id, FRAMES[:1], "start")))]
        got += [
            output((second, first)[t % 2].inference.ModelInfer(infer(id, FRAMES[t : t + 1])))
            for t in range(1, len(FRAMES))
        ]
        assert got == expected
        assert listed(here) == listed(there) == [f"sequence {id!r} of vowels/1"]
    there.inference.ModelInfer(infer(id, FRAMES[:1], "end"))
    for door in both:
        code, text, _ = refused(lambda d=door: d.inference.ModelInfer(infer(id, FRAMES[:1])))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "must specify the START flag" in text


def test_the_last_answer_is_given_again_over_another_connection(both: list[Door]) -> None:
    here, there = both
    here.inference.ModelInfer(infer(8, FRAMES[:1], "start", number=1))
    last = infer(8, FRAMES[1:2], "end", number=2)
    said = [output(door.inference.ModelInfer(last)) for door in (here, there)]
    assert said[0] == said[1]
    assert listed(there) == []
    there.inference.ModelInfer(infer(8, FRAMES[2:3], "start", "end"))  # begins anew all the same


def test_sequences_in_streams(both: list[Door], alone: Any) -> None:
    """Each has begun elsewhere, or begins here with the states of one elsewhere."""
    expected = [row.tobytes() for row in alone(FRAMES)]
    here, there = both
    here.inference.ModelInfer(infer(1, FRAMES[:1], "start"))
    there.inference.ModelInfer(infer(2, FRAMES[:1], "start"))
    heir = infer(3, FRAMES[1:2], "start")
    heir.parameters["rnnserve_states_of"].string_param = "vowels/2"
    requests = [heir, infer(3, FRAMES[2:3])]  # which goes on before it has begun, over there
    requests += [infer(id, FRAMES[t : t + 1]) for t in range(1, 11) for id in (1, 2)]
    requests += [infer(3, FRAMES[t : t + 1]) for t in range(3, 11)]
    requests += [infer(id, FRAMES[11:], "end") for id in (1, 2, 3)]
    requests += [infer(2, FRAMES[:1])]
    answers = list(here.inference.ModelStreamInfer(iter(requests), timeout=20))
    assert [a.infer_response.id for a in answers] == [r.id for r in requests]
    assert [a.error_message for a in answers[:-1]] == [""] * (len(requests) - 1)
    assert "must specify the START flag" in answers[-1].error_message
    got = [output(answer.infer_response) for answer in answers[:-1]]
    assert got[:2] == expected[1:3]
    assert got[2:22] == [row for row in expected[1:11] for _ in (1, 2)]
    assert got[22:30] == expected[3:11]
    assert got[30:] == [expected[11]] * 3


# ---- shared memory -------------------------------------------------------------------------------


@pytest.fixture
def segment() -> Iterator[Path]:
    """With the first frame, and room for an output behind it."""
    path = Path(f"/dev/shm/rnnserve-test-{secrets.token_hex(6)}")
    path.write_bytes(FRAMES[0].tobytes() + bytes(64))
    yield path
    path.unlink()


def register(door: Door, segment: Path, byte_size: int = 112) -> None:
    door.inference.SystemSharedMemoryRegister(
        oip.SystemSharedMemoryRegisterRequest(name="r", key=segment.name, byte_size=byte_size)
    )


def unregister(door: Door, name: str = "") -> None:
    door.inference.SystemSharedMemoryUnregister(oip.SystemSharedMemoryUnregisterRequest(name=name))


def regions(door: Door) -> dict[str, int]:
    answer = door.inference.SystemSharedMemoryStatus(oip.SystemSharedMemoryStatusRequest())
    return {name: region.byte_size for name, region in answer.regions.items()}


def infer_shared(id: Any, *flags: str) -> oip.ModelInferRequest:
    """The first frame, and the output behind it."""
    request = infer(id, FRAMES[:1], *flags)
    del request.raw_input_contents[:]
    wanted = request.outputs.add(name="probabilities")
    for tensor, byte_size, offset in ((request.inputs[0], 48, 0), (wanted, 36, 48)):
        tensor.parameters["shared_memory_region"].string_param = "r"
        tensor.parameters["shared_memory_byte_size"].int64_param = byte_size
        tensor.parameters["shared_memory_offset"].int64_param = offset
    return request


def test_a_region_is_known_over_any_connection(both: list[Door], segment: Path, alone: Any) -> None:
    expected = [row.tobytes() for row in alone(FRAMES[:1].repeat(4, axis=0))]
    for first, second in (both, both[::-1]):
        register(first, segment)
        assert regions(first) == regions(second) == {"r": 112}
        code, text, _ = refused(lambda door=second: register(door, segment))
        assert (code.name, text[:37]) == ("ALREADY_EXISTS", "shared memory region 'r' already in m")
        # a sequence that one of them holds, asked of both, with and without a stream
        requests = [infer_shared(5, *flags) for flags in (("start",), (), (), ("end",))]
        for t, door in enumerate((first, second, first)):
            door.inference.ModelInfer(requests[t])
            assert segment.read_bytes()[48:84] == expected[t]
        (answer,) = second.inference.ModelStreamInfer(iter(requests[3:]), timeout=10)
        assert answer.error_message == ""
        assert segment.read_bytes()[48:84] == expected[3]
        unregister(second)
        assert regions(first) == regions(second) == {}
        code, text, _ = refused(lambda d=first: d.inference.ModelInfer(infer_shared(5, "start")))
        assert (code.name, text[:37]) == ("NOT_FOUND", "Unable to find shared memory region: ")


def test_a_region_is_registered_in_all_processes_or_in_none(
    start: Any, repository: Path, segment: Path
) -> None:
    """One that was started anew knows none: what it is told of one, the others know already."""
    server = start(repository, *PROCESSES).wait_until_serving()
    with doors(server.grpc) as (here, there):
        register(there, segment)
        subprocess.run(["kill", "-9", str(children(server.process.pid)[1])], check=True)
        until(lambda: server.get("/metrics")[1].count("rnnserve_sessions{") == 1)
        until(lambda: server.get("/metrics")[1].count("rnnserve_sessions{") == 2)
        with doors(server.grpc) as (_, anew):
            assert (regions(here), regions(anew)) == ({"r": 112}, {})
            code, text, _ = refused(lambda: anew.inference.ModelInfer(infer_shared(5, "start")))
            assert (code.name, "was started anew" in text) == ("NOT_FOUND", True)
            code, text, _ = refused(lambda: register(anew, segment, 100))
            assert (code.name, "unregister it first" in text) == ("ALREADY_EXISTS", True)
            assert (regions(here), regions(anew)) == ({"r": 112}, {})
            unregister(anew, "r")
            register(anew, segment, 100)
            assert regions(here) == regions(anew) == {"r": 100}


# ---- all of them together ------------------------------------------------------------------------


def test_lists_and_counters_are_of_all(shared: Any, both: list[Door]) -> None:
    here, there = both
    request = oip.ModelStatisticsRequest(name="vowels")
    before = here.inference.ModelStatistics(request).model_stats[0]
    steps = shared.metric("rnnserve_steps_total")
    keys = [opened(door) for door in both for _ in range(3)]
    for key in keys:
        step(here, key, FRAMES[:1])
    ids = sorted(key.session_id for key in keys)
    assert listed(here) == listed(there) == ids
    page = there.sessions.ListSessions(pb.ListSessionsRequest(page_size=4))
    assert [session.session_id for session in page.sessions] == ids[:4]
    assert page.next_page_token == ids[3]
    assert listed(here, page_token=page.next_page_token) == ids[4:]
    after = [door.inference.ModelStatistics(request).model_stats[0] for door in both]
    assert after[0] == after[1]
    assert after[0].inference_count == before.inference_count + 6
    assert after[0].inference_stats.success.count == before.inference_stats.success.count + 6
    runs = sum(batch.compute_infer.count for batch in after[0].batch_stats)
    assert runs == after[0].execution_count
    assert shared.metric("rnnserve_steps_total") == steps + 6
    assert shared.metric("rnnserve_sessions") == 6
    page = shared.get("/metrics")[1]
    for number in (0, 1):
        assert f'rnnserve_sessions{{process="{number}"}} 3.0' in page
    for key in keys:
        there.sessions.CloseSession(pb.CloseSessionRequest(session=key))


# ---- life and death ------------------------------------------------------------------------------


def test_one_dies(start: Any, repository: Path) -> None:
    server = start(repository, *PROCESSES).wait_until_serving()
    with doors(server.grpc) as (here, there):
        kept, lost = opened(here), opened(there)
        named = opened(there, session_id="named")
        before = children(server.process.pid)
        sent: queue.SimpleQueue[Any] = queue.SimpleQueue()
        stream = here.sessions.Stream(iter(sent.get, None), timeout=60)
        sent.put(pb.StreamRequest(request_id=1, session=1, resume=lost))
        sent.put(pb.StreamRequest(request_id=2, session=1, step=step_request(LONG)))
        assert next(stream).WhichOneof("result") == "open"
        until(lambda: server.metric("rnnserve_pending_requests") == 1)
        subprocess.run(["kill", "-9", str(before[1])], check=True)
        answer = next(stream)
        assert (answer.request_id, answer.error.kind) == (2, "SessionNotFound")
        assert step(here, kept, FRAMES[:1])
        until(lambda: any(e["event"].startswith("process has ended") for e in server.events()))
        for key in (lost, named):
            code, text, metadata = refused(lambda k=key: step(here, k, FRAMES[:1]))
            assert (code.name, metadata["rnnserve-error"]) == ("NOT_FOUND", "SessionNotFound"), text
        assert server.get("/healthz")[0] == 200
        again = opened(here, session_id="named")
        assert step(here, again, FRAMES[:1])
        assert 'rnnserve_sessions{process="0"} 2.0' in server.get("/metrics")[1]
        until(lambda: server.get("/metrics")[1].count("rnnserve_sessions{") == 2)
        after = children(server.process.pid)
        assert (after[0], after.keys()) == (before[0], {0, 1})
        ended = [e for e in server.events() if e["event"].startswith("process has ended")]
        assert [(e["process"], e["by"]) for e in ended] == [(1, "signal 9")]
        with doors(server.grpc) as (_, anew):
            new = opened(anew)
            assert step(here, new, FRAMES[:1])
        # the stream from before goes on, with sessions of the new process, too
        sent.put(pb.StreamRequest(request_id=3, session=1, resume=new))
        sent.put(pb.StreamRequest(request_id=4, session=1, step=step_request(FRAMES[1:2])))
        assert [next(stream).WhichOneof("result") for _ in range(2)] == ["open", "step"]
        sent.put(None)
        assert list(stream) == []
        for key in (kept, again, new):
            here.sessions.CloseSession(pb.CloseSessionRequest(session=key))


def test_no_process_outlives_the_parent(start: Any, repository: Path) -> None:
    server = start(repository, *PROCESSES).wait_until_serving()
    orphans = list(children(server.process.pid).values())
    assert len(orphans) == 2
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(5)
    until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in orphans), 5)


def test_they_drain_together(start: Any, repository: Path, alone: Any) -> None:
    """A process without sessions of its own stays while it passes on."""
    server = start(repository, *PROCESSES).wait_until_serving()
    with doors(server.grpc) as (here, there), ThreadPoolExecutor(1) as threads:
        key = opened(here)
        answer = threads.submit(
            lambda: there.sessions.Step(step_request(LONG, key, return_sequences=True), timeout=30)
        )
        until(lambda: server.metric("rnnserve_pending_requests") == 1)
        server.terminate()
        until(lambda: server.get("/healthz")[0] == 503)
        assert not answer.done(), "the request was too short to show anything"
        contents = answer.result(30).outputs[0].contents
        got = np.frombuffer(contents, np.float32).reshape(len(LONG), -1)
        assert np.abs(got[:500] - alone(LONG[:500])).max() <= 1e-6
        assert server.process.poll() is None
        assert step(here, key, FRAMES[:1])
        here.sessions.CloseSession(pb.CloseSessionRequest(session=key))
        assert server.exit_code() == 0
    stopped = [e for e in server.events() if e["event"] == "stopped"]
    assert [e.get("sessions_left", 0) for e in stopped] == [0, 0, 0]
    assert not [e for e in server.events() if e["level"] == "error"]


def test_a_second_signal_ends_them(start: Any, repository: Path) -> None:
    server = start(repository, *PROCESSES, "--drain-limit-s", "60").wait_until_serving()
    with doors(server.grpc) as (here, there):
        opened(here), opened(there)
        server.terminate()
        until(lambda: sum(e["event"].startswith("draining") for e in server.events()) == 2)
        begun_s = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        assert server.exit_code() == 0
        assert time.monotonic() - begun_s < 3


def test_a_port_that_is_taken(start: Any, shared: Any, repository: Path) -> None:
    """By a stranger, or by other processes, who would share it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = [str(taken.getsockname()[1]), shared.grpc.rpartition(":")[2]]
        servers = [start(repository, *PROCESSES, "--grpc-port", port) for port in ports]
        for server, port in zip(servers, ports, strict=True):
            assert server.exit_code(30) == 1
            lines = server.stderr.splitlines()
            assert len(lines) == 1, lines
            assert f"{port} for gRPC: the port is in use" in lines[0]


def test_none_can_start(start: Any, repository: Path, tmp_path: Path) -> None:
    config = tmp_path / "vowels" / "config.pbtxt"
    config.parent.mkdir()
    config.write_text("max_batch_size: many\n")
    server = start(tmp_path, *PROCESSES)
    assert server.exit_code(30) == 1
    lines = [line for line in server.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, server.stderr
    assert lines[0].startswith("rnnserve: ")
    assert "max_batch_size" in lines[0]


def test_one_process_is_no_family(server: Any) -> None:
    assert children(server.process.pid) == {}
