"""Groups: a step of many sessions with one call, sync and asyncio, against a server in memory."""

from __future__ import annotations

import asyncio
import gc
import inspect
import random
import threading
import time
from collections import deque

import grpc
import numpy as np
import pytest

import rnnserve
from rnnserve import GroupStepFailed, Retries
from rnnserve.v1 import session_pb2 as pb
from tests.client.frame_server import serving

QUICK = Retries(attempt_s=0.3, first_pause_s=0.005, longest_pause_s=0.05)
FAULTS = ("lose", "cut", "hang up", "mute")


class Blocking:
    """An object of `rnnserve.aio` whose coroutines are run to their end at once."""

    def __init__(self, target, runner):
        self.target = target
        self.runner = runner

    def __getattr__(self, name):
        value = getattr(self.target, name)
        return value if not callable(value) else lambda *a, **k: self._wrapped(value(*a, **k))

    def __len__(self):
        return len(self.target)

    def __repr__(self):
        return repr(self.target)

    def __enter__(self):
        self.runner.run(self.target.__aenter__())
        return self

    def __exit__(self, *error):
        return self.runner.run(self.target.__aexit__(*error))

    def _wrapped(self, value):
        if inspect.iscoroutine(value):
            value = self.runner.run(value)
        if value is self.target:
            return self
        if inspect.isasyncgen(value):
            return BlockingStream(value, self.runner)
        return Blocking(value, self.runner) if isinstance(value, rnnserve.aio.Group) else value


class BlockingStream:
    def __init__(self, stream, runner):
        self._stream = stream
        self._runner = runner

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return self._runner.run(self._following())
        except StopAsyncIteration:
            raise StopIteration from None

    async def _following(self):
        return await anext(self._stream)

    def close(self):
        self._runner.run(self._stream.aclose())


async def connect_aio(target, **options):
    return rnnserve.aio.connect(target, **options)


def until(condition, limit_s=5):
    give_up_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.005)


def tasks(runner):
    """What is left in the loop after a turn: gRPC ends its own tasks a little later."""
    runner.run(asyncio.sleep(0))
    return asyncio.all_tasks(runner.get_loop())


def client_threads():
    ours = {t for t in threading.enumerate() if not t.name.startswith("fake-server")}
    return {t for t in ours if "_poll_wrapper" not in t.name}


@pytest.fixture
def fake():
    with serving() as fake:
        yield fake


@pytest.fixture(params=["sync", "aio"])
def connect(request, fake):
    """`connect()` of either client. Afterwards no thread and no task may be left."""
    before = client_threads()
    clients = []
    with asyncio.Runner() as runner:

        def connect(**options):
            options = {"timeout_s": 10, "retries": QUICK} | options
            if request.param == "sync":
                client = rnnserve.connect(fake.target, **options)
            else:
                client = Blocking(runner.run(connect_aio(fake.target, **options)), runner)
            clients.append(client)
            return client

        yield connect
        for client in clients:
            client.close()
        until(lambda: not tasks(runner))
    until(lambda: not client_threads() - before)


@pytest.fixture
def client(connect):
    return connect()


def ticks(length, count, seed=0):
    """(length, count, 3) of small whole numbers: sums of them are exact."""
    return np.random.default_rng(seed).integers(-9, 9, (length, count, 3)).astype(np.float32)


def totals(frames):
    """What "sums" makes of (time, …, 3) frames: (time, …, 2)."""
    return np.cumsum(frames.sum(axis=-1), axis=0)[..., None] * np.float32([1, 2])


# ---- inputs and outputs --------------------------------------------------------------------------


def test_a_frame_each(fake, client):
    frames = ticks(4, 5)
    with client.group("sums", 5) as group:
        got = [group.step(tick) for tick in frames]
        assert group.step_counts.tolist() == [4] * 5
        assert group.step_counts.dtype == np.uint64
    assert np.array_equal(np.stack(got), totals(frames))
    assert {array.dtype.str for array in got} == {"<f4"}
    got[0][:] = 0  # the caller's own
    assert fake.received == ["open_many", *["frame"] * 4, "close_many"]
    assert (fake.streams, fake.sessions) == (1, {})


@pytest.mark.parametrize("count", [1, 2, 5])
def test_several_timesteps(client, count):
    frames = ticks(12, count)
    expected = totals(frames)
    with client.group("sums", count) as group:
        whole = group.step(frames[:5].swapaxes(0, 1), return_sequences=True)
        assert whole.shape == (count, 5, 2)
        assert np.array_equal(whole.swapaxes(0, 1), expected[:5])
        last = group.step(frames[5:9].swapaxes(0, 1))
        assert np.array_equal(last, expected[8])
        one = group.step(frames[9], return_sequences=True)
        assert np.array_equal(one, expected[9])
        assert group.step_counts.tolist() == [3] * count


@pytest.mark.parametrize("convert", [np.float64, np.float16, np.int64, np.ndarray.tolist])
def test_what_can_be_converted(client, convert):
    (tick,) = ticks(1, 3)
    with client.group("sums", 3) as group:
        got = group.step(convert(tick) if convert is np.ndarray.tolist else tick.astype(convert))
        assert np.array_equal(got, totals(tick[None])[0])


def test_an_array_in_any_order_of_memory(client):
    frames = ticks(1, 6)[0]
    with client.group("sums", 3) as group:
        assert np.array_equal(group.step(frames[::2]), totals(frames[None, ::2])[0])
        assert np.array_equal(
            group.step(np.asfortranarray(frames[:3])),
            totals(np.stack([frames[::2], frames[:3]]))[1],
        )


@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (np.zeros((4, 3), np.float32), ValueError, "a first axis of 5, one for each session"),
        (np.zeros((5, 4), np.float32), ValueError, "input 'frames': expected shape"),
        (np.zeros(3, np.float32), ValueError, "expected shape"),
        (np.zeros((5, 0, 3), np.float32), ValueError, "at least one timestep"),
        (np.zeros((5, 3), complex), TypeError, "expected float32, given complex128"),
        ({"noise": np.zeros((5, 3))}, ValueError, "expected the inputs frames, given noise"),
        ([[1.0], [1.0, 2.0]], ValueError, "not an array"),
    ],
)
def test_what_does_not_fit_is_not_sent(fake, client, x, error, text):
    with client.group("sums", 5) as group:
        with pytest.raises(error, match=text):
            group.step(x)
        assert fake.received == ["open_many"]
        group.step(np.zeros((5, 3), np.float32))
        assert group.step_counts.tolist() == [1] * 5


def test_some_of_the_sessions(client):
    frames = ticks(3, 5)
    with client.group("sums", 5) as group:
        group.step(frames[0])
        some = group.step(frames[1][[3, 1]], sessions=[3, 1])
        assert np.array_equal(some, totals(frames[:2])[1][[3, 1]])
        last = group.step(frames[2][4:], sessions=np.array([4], np.int16))
        assert np.array_equal(last, totals(frames[[0, 2]])[1][4:])
        assert group.step_counts.tolist() == [1, 2, 1, 2, 2]
        assert repr(group).endswith("Group of 5 sessions of 'sums' version 1, steps 1 to 2, open>")


@pytest.mark.parametrize(
    ("sessions", "error", "text"),
    [
        ([0, 5], ValueError, "positions from 0 to 4, given 0 to 5"),
        ([-1, 2], ValueError, "positions from 0 to 4, given -1 to 2"),
        ([2, 2], ValueError, "each position once"),
        ([], ValueError, r"expected positions, \(n,\), given shape \(0,\)"),
        (2, ValueError, r"given shape \(\)"),
        ([0.0, 1.0], TypeError, "expected integers, given float64"),
        ([True, False], TypeError, "expected integers, given bool"),
    ],
)
def test_positions_that_are_none(fake, client, sessions, error, text):
    with client.group("sums", 5) as group:
        with pytest.raises(error, match=text):
            group.step(np.zeros((2, 3), np.float32), sessions=sessions)
        assert "frame" not in fake.received


def test_several_inputs_and_outputs(client):
    up, gain = np.arange(6, dtype=np.float32).reshape(3, 2, 1), np.array([1, 2, 3])
    expected = np.cumsum(up * gain[:, None, None], axis=1) * np.ones(2)
    with client.group("pair", 3) as group:
        got = group.step(up, gain=gain, return_sequences=True)
        assert got.keys() == {"up", "down"}
        assert np.array_equal(got["up"], expected)
        assert np.array_equal(got["down"], -expected[:, -1])
        again = group.step({"frames": up[:1, 0], "gain": gain[:1]}, sessions=[0])
        assert again["up"].shape == (1, 2)
        with pytest.raises(ValueError, match="input 'gain': expected a first axis of 3"):
            group.step(up, gain=[1])
        with pytest.raises(TypeError, match="expected a dict with the inputs frames, gain"):
            group.step(up)


def test_constants_and_inputs_that_may_be_left_out(fake, client):
    frames, mask = ticks(2, 3), np.array([True, False, True])
    with client.group("scaled", 3, constants=[2, 3]) as group:
        group.step(frames[0])
        got = group.step(frames[1], mask=mask)
        sums = frames[0].sum(axis=1) + frames[1].sum(axis=1) * mask
        assert np.array_equal(got, sums[:, None] * np.float32([2, 3]))
        assert [spec.name for spec in group.constants_spec] == ["gain"]
    assert fake.received[:2] == ["describe", "open_many"]
    with pytest.raises(ValueError, match="expected the constants gain, given loss"):
        client.group("scaled", 3, constants={"loss": 1.0}).open()


def test_a_model_without_a_batch_axis(client):
    frames = ticks(4, 3)
    with client.group("alone", 3) as group:
        got = group.step(frames[:3].swapaxes(0, 1), return_sequences=True)
        assert np.array_equal(got.swapaxes(0, 1), totals(frames[:3]))
        assert np.array_equal(group.step(frames[3]), totals(frames)[3])


# ---- what a group knows --------------------------------------------------------------------------


def test_what_a_group_knows(fake, client):
    group = client.group("sums", 3, idle_ttl_s=7.5)
    assert repr(group).endswith("Group of 3 sessions, not open>")
    for name in ("keys", "ids", "step_counts", "model", "idle_ttl_s"):
        with pytest.raises(RuntimeError, match="the group is not open"):
            getattr(group, name)
    with pytest.raises(RuntimeError, match="the group is not open"):
        group.step(np.zeros((3, 3)))
    with group:
        assert len(group) == 3
        assert (group.model, group.version, group.digest) == ("sums", "1", "ab" * 32)
        assert group.idle_ttl_s == 7.5
        assert [spec.name for spec in group.inputs + group.outputs] == ["frames", "totals"]
        assert [spec.name for spec in group.states_spec] == ["total"]
        assert group.ids == [session_id for session_id, _ in group.keys] == list(fake.sessions)
        assert [row.token for row in fake.sessions.values()] == [token for _, token in group.keys]
        assert repr(group).endswith("steps 0 to 0, open>")
        assert not any(token in repr(group) for _, token in group.keys)
        with pytest.raises(RuntimeError, match="can be opened only once"):
            group.open()
    assert group.closed
    assert repr(group).endswith("closed>")
    group.close()
    with pytest.raises(rnnserve.SessionClosed):
        group.step(np.zeros((3, 3)))
    assert fake.received.count("close_many") == 1


def test_groups_do_not_share_ids(client):
    with client.group("sums", 2) as one, client.group("sums", 2) as other:
        assert not set(one.keys) & set(other.keys)


@pytest.mark.parametrize(
    ("arguments", "text"), [(("sums", 0), "count: expected 1 or more"), (("sums", -3), "given -3")]
)
def test_what_cannot_be_a_group(client, arguments, text):
    with pytest.raises(ValueError, match=text):
        client.group(*arguments)


def test_a_group_that_cannot_be_opened(fake, client):
    with pytest.raises(rnnserve.ModelNotFound):
        client.group("unknown", 3).open()
    with pytest.raises(rnnserve.Unsupported, match="no numpy dtype for 'BYTES'"):
        client.group("texts", 3).open()
    assert fake.sessions == {}


# ---- resuming ------------------------------------------------------------------------------------


def test_others_go_on(fake, connect):
    frames = ticks(6, 4)
    first = connect()
    group = first.group("sums", 4).open()
    group.step(frames[0])
    group.step(frames[1][:2], sessions=[0, 1])
    keys = group.keys
    first.close()
    with connect().resume_group(keys) as resumed:
        assert resumed.keys == keys
        assert resumed.step_counts.tolist() == [2, 2, 1, 1]
        got = resumed.step(frames[2])
        assert np.array_equal(got[:2], totals(frames[:3])[2][:2])
        assert np.array_equal(got[2:], totals(frames[[0, 2]])[1][2:])
    assert fake.sessions == {}


def test_some_cannot_be_resumed(fake, client):
    with client.group("sums", 4) as group:
        keys = group.keys
        wrong = [keys[0], (keys[1][0], "guess"), keys[2], ("nobody", "guess")]
        text = "2 of 4 sessions cannot be resumed; the first, at position 1: it is gone"
        with pytest.raises(rnnserve.SessionExpired, match=text):
            client.resume_group(wrong).open()
        assert len(fake.sessions) == 4
        group.step(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="at least one pair of id and token"):
        client.resume_group([])
    with pytest.raises(ValueError, match="resuming needs the session's id and its token"):
        client.resume_group([("id", "")])


# ---- errors --------------------------------------------------------------------------------------


def test_errors_of_single_sessions(client):
    frames = ticks(3, 5)
    bad = frames[1].copy()
    bad[[1, 3]] = np.inf
    with client.group("sums", 5) as group:
        group.step(frames[0])
        text = "2 of 5 sessions failed; the first, at position 1: StepFailed: infinity is too much"
        with pytest.raises(GroupStepFailed, match=text) as caught:
            group.step(bad)
        error = caught.value
        assert {p: type(e) for p, e in error.errors.items()} == dict.fromkeys(
            (1, 3), rnnserve.StepFailed
        )
        assert (error.code, error.kind) == (grpc.StatusCode.INVALID_ARGUMENT, "StepFailed")
        expected = totals(frames[:2])[1]
        expected[[1, 3]] = 0
        assert np.array_equal(error.outputs, expected)
        assert group.step_counts.tolist() == [2, 1, 2, 1, 2]
        # those that have failed step again by themselves; then all together
        again = group.step(frames[1][[3, 1]], sessions=[3, 1])
        assert np.array_equal(again, totals(frames[:2])[1][[3, 1]])
        assert np.array_equal(group.step(frames[2]), totals(frames)[2])
        assert group.step_counts.tolist() == [3] * 5


def test_positions_of_errors_are_those_in_the_group(client):
    with client.group("sums", 5) as group:
        x = np.zeros((3, 3))
        x[1] = np.inf
        with pytest.raises(GroupStepFailed, match="1 of 3 sessions failed") as caught:
            group.step(x, sessions=[4, 2, 0])
        assert list(caught.value.errors) == [2]
        assert group.step_counts.tolist() == [1, 0, 0, 0, 1]
        with pytest.raises(GroupStepFailed) as caught:
            group.step(np.full((2, 3), np.inf), sessions=[1, 3])
        assert list(caught.value.errors) == [1, 3]
        assert caught.value.outputs.tolist() == [[0, 0]] * 2
        with pytest.raises(GroupStepFailed, match="5 of 5") as caught:
            group.step(np.full((5, 4, 3), np.inf), return_sequences=True)
        assert caught.value.outputs.shape == (5, 0, 2)
    with client.group("pair", 2) as group:
        with pytest.raises(GroupStepFailed) as caught:
            group.step(np.full((2, 1), np.inf), gain=[1, 1])
        assert {name: a.tolist() for name, a in caught.value.outputs.items()} == {
            "up": [[0, 0]] * 2,
            "down": [[0, 0]] * 2,
        }


def test_an_error_of_the_whole_frame(fake, client):
    frames = ticks(2, 3)
    with client.group("sums", 3) as group:
        group.step(frames[0])
        code = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        fake.faults.append(
            pb.Error(code=code, kind="LimitReached", message="later", retry_after_s=0.25)
        )
        with pytest.raises(rnnserve.LimitReached, match="later") as caught:
            group.step(frames[1])
        assert caught.value.retry_after_s == 0.25
        assert group.step_counts.tolist() == [1] * 3
        assert np.array_equal(group.step(frames[1]), totals(frames)[1])
    assert fake.streams == 1


# ---- pipelining ----------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 2, 16])
def test_a_stream(fake, client, window):
    frames = ticks(40, 3)
    with client.group("sums", 3) as group:
        got = list(group.stream(iter(frames), window=window))
        assert np.array_equal(np.stack(got), totals(frames))
        assert group.step_counts.tolist() == [40] * 3
    assert fake.streams == 1


def test_a_stream_of_sequences(client):
    frames = ticks(12, 3)
    parts = [frames[start : start + 4].swapaxes(0, 1) for start in (0, 4, 8)]
    with client.group("sums", 3) as group:
        got = np.concatenate(list(group.stream(parts, return_sequences=True)), axis=1)
        assert np.array_equal(got.swapaxes(0, 1), totals(frames))


@pytest.mark.parametrize("window", [1, 3])
def test_a_window(client, window):
    taken = []

    def items():
        for tick in ticks(20, 2):
            taken.append(1)
            yield tick

    with client.group("sums", 2) as group:
        for number, _ in enumerate(group.stream(items(), window=window)):
            assert number < len(taken) <= number + window
        assert len(taken) == 20
        with pytest.raises(ValueError, match="window: expected 1 or more"):
            group.stream(items(), window=0)


def test_frames_are_sent_ahead(fake, client):
    """The server answers nothing before it has three frames."""
    frames = ticks(10, 2)
    with client.group("sums", 2) as group:
        fake.lag = 2
        stream = group.stream(frames, window=3)
        got = [next(stream) for _ in range(7)]
        fake.lag = 0
        got += stream
        assert np.array_equal(np.stack(got), totals(frames))


def test_leaving_a_stream(client):
    frames = ticks(10, 2)
    with client.group("sums", 2) as group:
        stream = group.stream(frames, window=4)
        first = next(stream)
        assert np.array_equal(first, totals(frames)[0])
        stream.close()
        gone = int(group.step_counts[0])
        assert 1 <= gone <= 5
        assert np.array_equal(group.step(frames[gone]), totals(frames)[gone])


def test_a_step_between_those_of_a_stream(client):
    """Nothing is lost, and the order is that in which they were sent."""
    frames = ticks(6, 2)
    with client.group("sums", 2) as group:
        stream = group.stream(frames[:3], window=2)
        got = [next(stream)]
        sent = (
            int(group._sent[0]) if isinstance(group, rnnserve.Group) else int(group.target._sent[0])
        )
        between = group.step(frames[5])
        assert np.array_equal(between, totals(np.stack([*frames[:sent], frames[5]]))[-1])
        got += stream
        assert len(got) == 3
        assert group.step_counts.tolist() == [4, 4]


def test_what_the_items_raise(client):
    def items():
        yield np.ones((2, 3))
        raise LookupError("no more")

    with client.group("sums", 2) as group:
        with pytest.raises(LookupError, match="no more"):
            list(group.stream(items(), window=1))
        with pytest.raises(ValueError, match="expected shape"):
            list(group.stream([np.ones((2, 3)), np.ones((2, 7))]))
        assert group.step_counts.tolist() == [2, 2]


def test_an_error_in_a_stream(client):
    frames = ticks(8, 3)
    frames[3][1] = np.inf
    with client.group("sums", 3) as group:
        got = []
        with pytest.raises(GroupStepFailed) as caught:
            got.extend(group.stream(frames, window=4))
        assert list(caught.value.errors) == [1]
        counts = group.step_counts
        assert counts[1] == 3
        assert counts[0] == counts[2]
        assert 4 <= counts[0] <= 8
        # and the session that was left behind goes on where it is
        got = group.step(frames[4][1:2], sessions=[1])
        assert np.array_equal(got, totals(frames[[0, 1, 2, 4]])[3][1:2])


# ---- streams that break --------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_while_opening(fake, client, fault):
    client.model("sums")  # there is a server
    fake.faults.append(fault)
    with client.group("sums", 3) as group:
        assert len(fake.sessions) == 3
        group.step(np.ones((3, 3)))
        assert group.step_counts.tolist() == [1] * 3
    assert fake.sessions == {}
    assert fake.received.count("open_many") == 2


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("moment", [0, 1, 4])
def test_broken_at_a_step(fake, client, fault, moment):
    frames = ticks(5, 3)
    with client.group("sums", 3) as group:
        fake.faults.extend([""] * moment + [fault])
        got = [group.step(tick) for tick in frames]
        assert np.array_equal(np.stack(got), totals(frames))
        assert group.step_counts.tolist() == [5] * 3
    assert fake.committed == 15
    assert fake.streams == 2
    assert fake.received.count("frame") == 6
    assert fake.sessions == {}


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_again_while_resuming(fake, client, fault):
    frames = ticks(3, 3)
    with client.group("sums", 3) as group:
        fake.faults.extend(["", "cut", fault, "", "cut", fault])
        got = [group.step(tick) for tick in frames]
        assert np.array_equal(np.stack(got), totals(frames))
    assert (fake.committed, fake.streams) == (9, 5)


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_while_closing(fake, client, fault):
    group = client.group("sums", 3).open()
    fake.faults.append(fault)
    group.close()
    assert fake.sessions == {}
    assert group.closed


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_with_several_frames_under_way(fake, client, fault):
    frames = ticks(20, 3)
    with client.group("sums", 3) as group:
        fake.faults.extend([""] * 7 + [fault])
        got = list(group.stream(frames, window=5))
        assert np.array_equal(np.stack(got), totals(frames))
    assert (fake.committed, fake.streams) == (60, 2)


@pytest.mark.parametrize("seed", range(4))
def test_broken_at_random(fake, client, seed):
    chance = random.Random(seed)
    frames = ticks(150, 7, seed)
    with client.group("sums", 7) as group:
        fake.faults = deque(
            chance.choices(["", "lose", "cut", "hang up"], [0.9, 0.04, 0.04, 0.02], k=400)
        )
        got = [group.step(tick) for tick in frames[:50]]
        got += group.stream(frames[50:], window=6)
        assert fake.streams > 10
        assert np.array_equal(np.stack(got), totals(frames))
        assert group.step_counts.tolist() == [150] * 7
        assert fake.committed == 150 * 7
        fake.faults.clear()


def test_sessions_that_are_gone_when_the_stream_is_replaced(fake, client):
    """They fail, with the reason, and nobody else does."""
    frames = ticks(3, 4)
    with client.group("sums", 4) as group:
        group.step(frames[0])
        del fake.sessions[group.ids[2]]
        fake.faults.append("lose")
        text = "1 of 4 sessions failed; the first, at position 2: SessionExpired: it is gone"
        with pytest.raises(GroupStepFailed, match=text) as caught:
            group.step(frames[1])
        assert np.array_equal(
            np.delete(caught.value.outputs, 2, 0), np.delete(totals(frames)[1], 2, 0)
        )
        assert group.step_counts.tolist() == [2, 2, 1, 2]
        got = group.step(frames[2][[0, 1, 3]], sessions=[0, 1, 3])
        assert np.array_equal(got, totals(frames)[2][[0, 1, 3]])
    assert fake.sessions == {}


def test_nobody_has_ever_been_there(fake, client):
    fake.faults.extend(["lose"] * 100)
    with pytest.raises(rnnserve.Unavailable):
        client.group("sums", 2).open()
    assert fake.streams == 1


def test_nobody_is_there(fake, client):
    with client.group("sums", 2) as group:
        group.step(np.ones((2, 3)))
        fake.faults.extend(["lose"] * 1000)
        begun_s = time.monotonic()
        with pytest.raises((rnnserve.Unavailable, rnnserve.DeadlineExceeded)):
            group.step(np.ones((2, 3)), timeout_s=0.5)
        assert time.monotonic() - begun_s < 2
        assert group.step_counts.tolist() == [1, 1]
        fake.faults.clear()
        group.step(np.ones((2, 3)))
        assert group.step_counts.tolist() == [2, 2]
    assert fake.committed == 4


def test_without_retries(fake, connect):
    with connect(retries=None).group("sums", 2) as group:
        fake.faults.append("cut")
        with pytest.raises(rnnserve.Unavailable):
            group.step(np.ones((2, 3)))
        group.step(np.ones((2, 3)))  # the same step
        assert group.step_counts.tolist() == [1, 1]
    assert fake.committed == 2


# ---- steps that were given up --------------------------------------------------------------------


def give_up(fake, group, x):
    """The step runs once nobody waits for it any more."""
    fake.gate.clear()
    with pytest.raises(rnnserve.DeadlineExceeded, match=r"no answer from .* within 0\.2 s$"):
        group.step(x, timeout_s=0.2)
    before = fake.committed
    fake.gate.set()
    until(lambda: fake.committed > before)


def test_the_same_again_is_the_same_step(fake, client):
    frames = ticks(3, 2)
    with client.group("sums", 2) as group:
        group.step(frames[0])
        give_up(fake, group, frames[1])
        assert group.step_counts.tolist() == [1, 1]
        assert np.array_equal(group.step(frames[1]), totals(frames)[1])
        assert np.array_equal(group.step(frames[2]), totals(frames)[2])
        assert group.step_counts.tolist() == [3, 3]
    assert fake.committed == 6


def test_something_else_is_a_conflict_that_is_said_once(fake, client):
    frames = ticks(3, 2)
    with client.group("sums", 2) as group:
        group.step(frames[0])
        give_up(fake, group, frames[1])
        other = frames[1].copy()
        other[1] += 1  # only one of the two notices
        with pytest.raises(GroupStepFailed, match=r"1 of 2 .* StepConflict: 2 was another"):
            group.step(other)
        assert group.step_counts.tolist() == [2, 2]
        assert np.array_equal(group.step(frames[2]), totals(frames)[2])


def test_several_steps_in_doubt_are_one_conflict(fake, client):
    frames = ticks(6, 2)
    with client.group("sums", 2) as group:
        group.step(frames[0])
        fake.lag = 10  # so many answers never come
        with pytest.raises(rnnserve.DeadlineExceeded):
            list(group.stream(frames[1:4], window=3, timeout_s=0.2))
        fake.lag = 0
        assert fake.committed == 8
        assert group.step_counts.tolist() == [1, 1]
        with pytest.raises(GroupStepFailed, match="StepConflict"):
            group.step(frames[4][:1], sessions=[0])
        got = group.step(frames[4][:1], sessions=[0])
        assert np.array_equal(got, totals(frames[:5])[4][:1])
        assert group.step_counts.tolist() == [5, 4]
        assert np.array_equal(group.step(frames[5])[1], totals(frames[[0, 1, 2, 3, 5]])[4][1])


def test_a_server_that_has_forgotten_steps(fake, client):
    """The sessions have gone back, as those of a server that has lost something: said once."""
    frames = ticks(3, 2)
    with client.group("sums", 2) as group:
        group.step(frames[0])
        before = {name: row.state.copy() for name, row in fake.sessions.items()}
        group.step(frames[1])
        for name, row in fake.sessions.items():
            row.step, row.state, row.remembered = 1, before[name], {}
        with pytest.raises(GroupStepFailed, match=r"2 of 2 .* StepGap") as caught:
            group.step(frames[2])
        assert [error.expected_step for error in caught.value.errors.values()] == [2, 2]
        assert np.array_equal(group.step(frames[1]), totals(frames)[1])
        assert group.step_counts.tolist() == [2, 2]


def test_as_long_as_it_takes(fake, connect):
    with connect(timeout_s=None).group("sums", 2) as group:
        fake.faults.extend(["mute", "", "mute"])
        group.step(np.ones((2, 3)))
        group.step(np.ones((2, 3)))
    assert fake.committed == 4


async def test_a_step_that_was_cancelled(fake):
    frames = ticks(2, 2)
    async with (
        rnnserve.aio.connect(fake.target, retries=QUICK) as client,
        client.group("sums", 2) as group,
    ):
        fake.gate.clear()
        step = asyncio.create_task(group.step(frames[0]))
        waiting = asyncio.create_task(group.step(frames[1]))
        await asyncio.sleep(0.05)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        fake.gate.set()
        # the one behind it has the number now; the server may have run the first one, too
        (second,) = await asyncio.gather(waiting, return_exceptions=True)
        if isinstance(second, GroupStepFailed):
            assert {type(e) for e in second.errors.values()} == {rnnserve.StepConflict}
            second = await group.step(frames[1])
            assert np.array_equal(second, totals(frames)[1])
        else:
            assert np.array_equal(second, totals(frames[1:])[0])
        assert (group.step_counts == [row.step for row in fake.sessions.values()]).all()


async def test_tasks_share_a_group(fake):
    frames = np.ones((40, 3, 3), np.float32)
    async with rnnserve.aio.connect(fake.target) as client, client.group("sums", 3) as group:
        got = await asyncio.gather(*(group.step(tick) for tick in frames))
        assert sorted(each[0, 0] for each in got) == [3 * n for n in range(1, 41)]


async def test_breaking_out_of_an_asynchronous_stream(fake):
    frames = ticks(10, 2)

    async def items():
        for tick in frames:
            await asyncio.sleep(0)
            yield tick

    async with rnnserve.aio.connect(fake.target) as client, client.group("sums", 2) as group:
        async for output in group.stream(items(), window=3):
            assert np.array_equal(output, totals(frames)[0])
            break
        gc.collect()
        await asyncio.sleep(0.05)
        gone = int(group.step_counts[0])
        assert 1 <= gone <= 4
        assert np.array_equal(await group.step(frames[gone]), totals(frames)[gone])


def test_threads_share_a_group(fake):
    got = []
    with rnnserve.connect(fake.target) as client, client.group("sums", 3) as group:

        def play():
            got.extend(group.step(np.ones((3, 3)))[0, 0] for _ in range(10))

        threads = [threading.Thread(target=play) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(got) == [3 * n for n in range(1, 41)]


def test_a_client_that_is_closed(fake, connect):
    client = connect()
    group = client.group("sums", 2).open()
    client.close()
    with pytest.raises(rnnserve.ClientClosed):
        group.step(np.ones((2, 3)))
    with pytest.raises(rnnserve.ClientClosed):
        group.close()
