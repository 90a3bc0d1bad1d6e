"""What a model is told of its sessions: when START and END are true, and which number an id is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from server.core.batch import Batch, Layout
from server.core.controls import Control, number_of
from server.core.frame import Frame, FrameRun
from server.core.ledger import Limits
from server.core.requests import Step, Write
from server.core.scheduler import Scheduler
from server.core.session import Session
from server.errors import StepFailed

if TYPE_CHECKING:
    from collections.abc import Hashable

FLOAT = np.dtype(np.float32)
START = Control("start", "start", np.dtype(np.int32), (-1, 1), false=0, true=1)
END = Control("end", "end", FLOAT, (-1,), false=-1.5, true=2.5)
READY = Control("ready", "ready", np.dtype(np.bool_), (-1, 1), false=False, true=True)
ID = Control("id", "id", np.dtype(np.uint64), (-1, 1))
CHUNK = 4


class Sequence(NamedTuple):
    """As the Open Inference protocol's sessions are called."""

    model: str
    id: int | str


class Sessions:
    """A scheduler, and an engine that only notes its inputs."""

    def __init__(self, *, max_chunk: int | None = CHUNK) -> None:
        layout = Layout({"x": 1}, {"y": None}, (START, END, READY, ID))
        self.scheduler = Scheduler(
            layout, Limits(max_batch_size=8, max_rows=16, max_chunk=max_chunk)
        )
        self.table = self.scheduler.table

    def open(self, id: Hashable, batch_size: int = 1) -> Session:
        session = Session(id, self, batch_size=batch_size)  # type: ignore[arg-type]
        self.scheduler.admit(session)
        return session

    def step(self, session: Session, timesteps: int = 1, **how: Any) -> None:
        x = np.zeros((session.batch_size, timesteps), np.float32)
        step = Step(inputs={"x": x}, timesteps=timesteps, **how)
        self.scheduler.submit(session, step, 0.0)

    def write(self, session: Session, **how: Any) -> None:
        self.scheduler.submit(session, Write(**how), 0.0)

    def run(self, fails: bool = False) -> list[dict[str, Any]]:
        """The control inputs of all runs until nothing is left to do."""
        runs = []
        while (job := self.scheduler.next_job()) is not None:
            if isinstance(job, Batch | FrameRun):
                inputs = job.inputs()
                assert len(inputs["x"]) == job.size
                runs.append({name: inputs[name] for name in ("start", "end", "ready", "id")})
            if fails:
                self.scheduler.fail(job, StepFailed("no"), 0.0)
            else:
                size = job.size if isinstance(job, Batch | FrameRun) else 1
                self.scheduler.complete(job, {"y": np.zeros(size)}, 0.0)
        self.scheduler.take_answers()
        return runs


def flags(runs: list[dict[str, Any]], name: str) -> list[list[Any]]:
    return [run[name].ravel().tolist() for run in runs]


def test_values_types_and_shapes_are_as_declared() -> None:
    sessions = Sessions()
    first, second = sessions.open(7, batch_size=2), sessions.open(9)
    sessions.step(first, end=True)
    sessions.step(second)
    [run] = sessions.run()
    expected = {
        "start": np.array([[1], [1], [1]], np.int32),
        "end": np.array([2.5, 2.5, -1.5], np.float32),
        "ready": np.array([[True], [True], [True]]),
        "id": np.array([[7], [7], [9]], np.uint64),
    }
    for name, array in expected.items():
        assert run[name].dtype == array.dtype
        np.testing.assert_array_equal(run[name], array)


def test_a_model_without_batch_axis_has_no_axis_for_it() -> None:
    sessions = Sessions()
    session = sessions.open(1)
    sessions.step(session)
    batch = sessions.scheduler.next_job()
    assert isinstance(batch, Batch)
    for shape in ((), (1,), (1, 1)):
        control = Control("start", "start", FLOAT, shape)
        assert control.array(batch.entries, 1).shape == shape


def test_start_is_true_once_after_opening_and_after_each_reset() -> None:
    sessions = Sessions()
    session = sessions.open(1)
    for _ in range(3):
        sessions.step(session)
    assert flags(sessions.run(), "start") == [[1], [0], [0]]
    sessions.write(session)
    sessions.step(session)
    sessions.step(session)
    assert flags(sessions.run(), "start") == [[1], [0]]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"start": True}, 0),  # opening with states that somebody gives
        ({"start": True, "initial": True}, 1),  # opening with constants alone
        ({"initial": True}, 1),  # a reset that writes constants along
        ({}, 0),  # the sequence goes on from what is given
    ],
)
def test_states_that_are_written(how: dict[str, Any], expected: int) -> None:
    sessions = Sessions()
    session = sessions.open(1)
    sessions.write(session, states={"s": np.zeros(1)}, **how)
    sessions.step(session)
    assert flags(sessions.run(), "start") == [[expected]]


def test_only_the_first_piece_starts_and_only_the_last_one_ends() -> None:
    sessions = Sessions()
    session = sessions.open(1)
    sessions.step(session, timesteps=2 * CHUNK + 1, end=True)
    runs = sessions.run()
    assert flags(runs, "start") == [[1], [0], [0]]
    assert flags(runs, "end") == [[-1.5], [-1.5], [2.5]]


def test_who_joins_a_batch_half_way_has_flags_of_his_own() -> None:
    sessions = Sessions()
    long, short = sessions.open(1), sessions.open(2)
    sessions.step(long, timesteps=CHUNK + 2)
    job = sessions.scheduler.next_job()
    assert isinstance(job, Batch)
    sessions.scheduler.complete(job, {"y": np.zeros(1)}, 0.0)
    sessions.step(short, timesteps=2, end=True)
    [run] = sessions.run()
    assert dict(zip(run["id"].ravel().tolist(), run["start"].ravel().tolist(), strict=True)) == {
        1: 0,
        2: 1,
    }
    assert dict(zip(run["id"].ravel().tolist(), run["end"].tolist(), strict=True)) == {
        1: -1.5,
        2: 2.5,
    }


def test_requests_that_run_whole_end_at_once() -> None:
    sessions = Sessions(max_chunk=None)
    session = sessions.open(1)
    sessions.step(session, timesteps=9, end=True)
    runs = sessions.run()
    assert (flags(runs, "start"), flags(runs, "end")) == ([[1]], [[2.5]])


def test_a_step_that_failed_was_no_start() -> None:
    sessions = Sessions()
    session = sessions.open(1)
    sessions.step(session)
    assert flags(sessions.run(fails=True), "start") == [[1]]
    sessions.step(session)
    assert flags(sessions.run(), "start") == [[1]]


def test_sequences_are_numbered_as_their_clients_do_and_others_by_their_name() -> None:
    assert number_of(Sequence("lstm", 42)) == 42
    named = number_of(Sequence("lstm", "camera-7"))
    assert named == number_of("camera-7")  # the model does not count
    assert named == 4_858_869_477_855_794_739  # in every process
    assert number_of("camera-8") != named
    assert 0 <= number_of(object()) < 1 << 63


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.uint64, 2**64 - 3),
        (np.int64, -3),
        (np.uint32, 2**32 - 3),
        (np.int32, -3),
    ],
)
def test_a_narrow_id_takes_the_low_bits(dtype: type, expected: int) -> None:
    sessions = Sessions()
    session = sessions.open(Sequence("lstm", 2**64 - 3))
    sessions.step(session)
    batch = sessions.scheduler.next_job()
    assert isinstance(batch, Batch)
    control = Control("id", "id", np.dtype(dtype), (-1, 1))
    array = control.array(batch.entries, 1)
    assert (array.dtype, array.tolist()) == (np.dtype(dtype), [[expected]])


# ---- frames -------------------------------------------------------------------------------------


def framed(sessions: Sessions, *stand: Session, timesteps: int = 1) -> Frame:
    frame = Frame(
        inputs={"x": np.zeros((len(stand), timesteps), np.float32)},
        slots=np.array([session.slot for session in stand]),
        indices=np.zeros(len(stand), np.int64),
        timesteps=timesteps,
    )
    sessions.scheduler.submit_frame(frame, 0.0)
    return frame


def test_a_frame_tells_the_same_of_its_sessions() -> None:
    sessions = Sessions()
    old, new = sessions.open(7), sessions.open(9)
    sessions.step(old)
    sessions.run()
    framed(sessions, old, new)
    [run] = sessions.run()
    expected = {
        "start": np.array([[0], [1]], np.int32),
        "end": np.array([-1.5, -1.5], np.float32),
        "ready": np.array([[True], [True]]),
        "id": np.array([[7], [9]], np.uint64),
    }
    for name, array in expected.items():
        assert run[name].dtype == array.dtype
        np.testing.assert_array_equal(run[name], array)


def test_start_is_true_in_the_first_piece_of_a_frame_alone() -> None:
    sessions = Sessions()
    session = sessions.open(7)
    framed(sessions, session, timesteps=2 * CHUNK)
    framed(sessions, session)
    assert flags(sessions.run(), "start") == [[1], [0], [0]]


def test_the_parts_of_a_frame_know_their_own_sessions() -> None:
    sessions = Sessions()
    framed(sessions, *[sessions.open(id) for id in range(10)])
    assert flags(sessions.run(), "id") == [list(range(8)), [8, 9]]
