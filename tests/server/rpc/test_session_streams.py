"""SessionService's stream: many sessions by the client's own numbers, errors as answers."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np

from rnnserve.v1 import session_pb2 as pb

Code = grpc.StatusCode
X = np.arange(1, 23).reshape(1, 11, 2)


class Stream:
    """The client's end of a stream; every answer is looked up by the request that it is for."""

    def __init__(self, rig: Any) -> None:
        self._rig = rig
        self._requests = 0
        self.call = rig.sessions.Stream()

    async def send(self, session: int = 0, **action: Any) -> int:
        self._requests += 1
        request = pb.StreamRequest(request_id=self._requests, session=session, **action)
        await self.call.write(request)
        return self._requests

    async def step(self, session: int, x: Any, **flags: bool) -> int:
        inputs = [self._rig.tensor("x", np.asarray(x))]
        return await self.send(session, step=pb.StepRequest(inputs=inputs, **flags))

    async def ask(self, session: int = 0, **action: Any) -> pb.StreamResponse:
        """Send and read, where nothing else is under way."""
        request_id = await self.send(session, **action)
        answer = await self.call.read()
        assert (answer.request_id, answer.session) == (request_id, session)
        return answer

    async def end(self) -> dict[int, pb.StreamResponse]:
        """Close our half; the answers that are left, by request."""
        await self.call.done_writing()
        answers = {}
        while (answer := await self.call.read()) is not grpc.aio.EOF:
            answers[answer.request_id] = answer
        assert await self.call.code() is Code.OK
        return answers


OPEN = pb.OpenSessionRequest(model_name="fold")


async def test_a_session_from_open_to_close(rig: Any) -> None:
    stream = Stream(rig)
    opened = (await stream.ask(7, open=OPEN)).open
    assert (opened.model_name, opened.step, len(opened.states)) == ("fold", 0, 1)
    for t in range(3):
        step = pb.StepRequest(inputs=[rig.tensor("x", X[:, t : t + 1])], return_state=True)
        answer = (await stream.ask(7, step=step)).step
        expected = rig.fold(X)[:, t]
        assert (rig.array_of(answer.outputs[0]) == expected).all()
        assert (rig.array_of(answer.states[0]) == expected).all()
        assert answer.step == t + 1
    assert (await stream.ask(7, reset=pb.ResetStatesRequest())).reset.step == 3
    step = pb.StepRequest(inputs=[rig.tensor("x", X)], return_sequences=True)
    answer = (await stream.ask(7, step=step)).step
    assert (rig.array_of(answer.outputs[0]) == rig.fold(X)).all()
    assert (await stream.ask(7, close=pb.CloseSessionRequest())).close.step == 4
    assert await stream.end() == {}
    assert len(rig.serving.sessions) == 0


async def test_everything_sent_at_once(rig: Any) -> None:
    stream = Stream(rig)
    await stream.send(1, open=OPEN)
    steps = [await stream.step(1, X[:, t : t + 1]) for t in range(11)]
    reset = await stream.send(1, reset=pb.ResetStatesRequest())
    again = await stream.step(1, X)
    close = await stream.send(1, close=pb.CloseSessionRequest())
    answers = await stream.end()
    assert not any(answer.HasField("error") for answer in answers.values())
    outputs = [rig.array_of(answers[number].step.outputs[0])[0] for number in steps]
    assert (np.stack(outputs) == rig.fold(X)[0]).all()
    assert answers[reset].reset.step == 11
    assert (rig.array_of(answers[again].step.outputs[0]) == rig.fold(X)[:, -1]).all()
    assert answers[close].close.step == 12
    assert len(rig.serving.sessions) == 0


async def test_many_sessions_on_one_stream(rig: Any) -> None:
    rng = np.random.default_rng(2)
    frames = rng.integers(-100, 100, (10, 1, 6, 2))
    stream = Stream(rig)
    for number in range(10):
        await stream.send(number, open=OPEN)
    steps = {}
    for t in range(6):
        for number in rng.permutation(10).tolist():
            steps[number, t] = await stream.step(number, frames[number, :, t : t + 1])
    answers = await stream.end()
    for (number, t), request_id in steps.items():
        answer = answers[request_id]
        assert (answer.session, answer.step.step) == (number, t + 1)
        expected = rig.fold(frames[number])[:, t]
        assert (rig.array_of(answer.step.outputs[0]) == expected).all()


async def test_sessions_do_not_wait_for_each_other(make_rig: Any) -> None:
    rig = await make_rig(hold="mixed")
    stream = Stream(rig)
    inputs = [rig.tensor("x", np.float32([[1, 2]])), rig.tensor("place", np.array([0]))]
    await stream.ask(1, open=pb.OpenSessionRequest(model_name="mixed"))
    await stream.ask(2, open=OPEN)
    slow = await stream.send(1, step=pb.StepRequest(inputs=inputs))
    fast = await stream.step(2, X)
    assert (await stream.call.read()).request_id == fast
    rig.held["mixed"].released.set()
    assert (await stream.call.read()).request_id == slow
    await stream.end()


async def test_sessions_outlive_the_stream(rig: Any) -> None:
    first = Stream(rig)
    key = (await first.ask(1, open=OPEN)).open.session
    await first.step(1, X[:, :5])
    await first.end()
    second = Stream(rig)
    opened = (await second.ask(3, resume=key)).open
    assert (opened.step, opened.model_name, opened.session.token) == (1, "fold", key.token)
    assert [spec.name for spec in (*opened.inputs, *opened.states)] == ["x", "h"]
    number = await second.step(3, X[:, 5:])
    answer = (await second.end())[number]
    assert (rig.array_of(answer.step.outputs[0]) == rig.fold(X)[:, -1]).all()
    assert (await rig.states(key)).step == 2


async def test_two_streams_and_calls_share_a_session(rig: Any) -> None:
    key = await rig.open()
    streams = [Stream(rig), Stream(rig)]
    for stream in streams:
        assert (await stream.ask(1, resume=key)).open.step == 0
    for t in range(6):
        answer = await streams[t % 2].ask(
            1, step=pb.StepRequest(inputs=[rig.tensor("x", X[:, t : t + 1])])
        )
        assert answer.step.step == t + 1
    answer = await rig.step(key, X[:, 6:])
    assert (rig.array_of(answer.outputs[0]) == rig.fold(X)[:, -1]).all()
    for stream in streams:
        await stream.end()


def check(answer: pb.StreamResponse, code: grpc.StatusCode, kind: str, text: str) -> None:
    error = answer.error
    assert (error.code, error.kind) == (code.value[0], kind)
    assert error.message.startswith(text)


async def test_an_error_is_an_answer(rig: Any) -> None:
    stream = Stream(rig)
    key = (await stream.ask(1, open=OPEN)).open.session
    await stream.ask(1, step=pb.StepRequest(inputs=[rig.tensor("x", X)]))
    before = await rig.snapshot()
    floats = rig.tensor("x", np.float32([[[1, 2]]]))
    wrong = [
        ({"session": 1}, Code.INVALID_ARGUMENT, "InvalidRequest", "a message of a stream must"),
        (
            {"session": 2, "step": pb.StepRequest(inputs=[rig.tensor("x", X)])},
            Code.INVALID_ARGUMENT, "InvalidRequest", "this stream has no session 2",
        ),
        (
            {"session": 1, "step": pb.StepRequest()},
            Code.INVALID_ARGUMENT, "InvalidRequest", "expected 1 inputs but got 0",
        ),
        (
            {"session": 1, "step": pb.StepRequest(inputs=[floats])},
            Code.INVALID_ARGUMENT, "InvalidRequest", "inference input 'x' data-type is 'FP32'",
        ),
        (
            {"session": 1, "reset": pb.ResetStatesRequest(states=[rig.tensor("c", X)])},
            Code.INVALID_ARGUMENT, "InvalidRequest", "unexpected inference state 'c'",
        ),
        (
            {"session": 3, "open": pb.OpenSessionRequest(model_name="other")},
            Code.NOT_FOUND, "ModelNotFound", "Request for unknown model: 'other'",
        ),
        (
            {"session": 1, "resume": pb.SessionKey(session_id=key.session_id, token="guess")},
            Code.NOT_FOUND, "SessionNotFound", "no session",
        ),
        (
            {"session": 3, "open": pb.OpenSessionRequest(
                model_name="fold", session_id=key.session_id)},
            Code.ALREADY_EXISTS, "SessionExists", "session",
        ),
    ]  # fmt: skip
    for request, code, kind, text in wrong:
        check(await stream.ask(**request), code, kind, text)
    assert await rig.snapshot() == before
    # number 1 still stands for the same session: a resume that failed has not moved it
    answer = await stream.ask(1, step=pb.StepRequest(inputs=[rig.tensor("x", X)]))
    assert answer.step.step == 2
    await stream.end()


async def test_a_failed_step_in_a_pipeline_fails_alone(rig: Any) -> None:
    stream = Stream(rig)
    await stream.send(1, open=pb.OpenSessionRequest(model_name="mixed"))
    numbers = []
    for place in (0, 1, 9, 1):
        inputs = [rig.tensor("x", np.float32([[1, 1]])), rig.tensor("place", np.array([place]))]
        numbers.append(await stream.send(1, step=pb.StepRequest(inputs=inputs)))
    answers = await stream.end()
    kinds = [answers[number].WhichOneof("result") for number in numbers]
    assert kinds == ["step", "step", "error", "step"]
    check(answers[numbers[2]], Code.INVALID_ARGUMENT, "StepFailed", "model 'mixed' failed: ")
    last = answers[numbers[3]].step
    assert (last.step, rig.arrays_of(last.outputs)["y"].tolist()) == (3, [[23, 43]])


async def test_after_close_the_number_is_free(rig: Any) -> None:
    stream = Stream(rig)
    first = (await stream.ask(1, open=OPEN)).open.session
    await stream.ask(1, step=pb.StepRequest(inputs=[rig.tensor("x", X)]))
    await stream.ask(1, close=pb.CloseSessionRequest())
    answer = await stream.ask(1, step=pb.StepRequest(inputs=[rig.tensor("x", X)]))
    assert answer.WhichOneof("result") == "error"
    second = (await stream.ask(1, open=OPEN)).open.session
    assert second.session_id != first.session_id
    answer = await stream.ask(1, step=pb.StepRequest(inputs=[rig.tensor("x", X)]))
    assert answer.step.step == 1
    await stream.end()


async def test_a_number_in_use_is_refused(rig: Any) -> None:
    stream = Stream(rig)
    opened = (await stream.ask(1, open=OPEN)).open
    again = (await stream.ask(1, open=OPEN)).error
    assert (again.code, again.kind) == (Code.INVALID_ARGUMENT.value[0], "InvalidRequest")
    assert again.message.startswith("this stream has a session 1 already")
    assert (await stream.ask(1, resume=opened.session)).error.message == again.message
    answered = await stream.ask(1, step=pb.StepRequest(inputs=[rig.tensor("x", X)]))
    assert answered.step.step == 1
    await stream.end()


async def test_expiry_is_said(rig: Any) -> None:
    stream = Stream(rig)
    opened = await stream.ask(1, open=pb.OpenSessionRequest(model_name="fold", idle_ttl_s=2.0))
    (session,) = rig.serving.sessions
    assert rig.serving.sessions.expire(session.last_used_s + 2.1) == [session]
    step = pb.StepRequest(inputs=[rig.tensor("x", X)])
    for action in ({"step": step}, {"resume": opened.open.session}, {"step": step}):
        answer = await stream.ask(1, **action)
        check(answer, Code.FAILED_PRECONDITION, "SessionExpired", "session")
        assert "expired after 2 s" in answer.error.message
    await stream.end()


async def test_a_cancelled_stream_leaves_its_sessions(make_rig: Any) -> None:
    rig = await make_rig(hold="fold")
    scheduler = rig.serving.model("fold").scheduler
    stream = Stream(rig)
    key = (await stream.ask(1, open=OPEN)).open.session
    for _ in range(5):
        await stream.step(1, X[:, :1])
    await rig.until(lambda: scheduler.pending == 5)
    stream.call.cancel()
    await rig.until(lambda: scheduler.pending == 1)  # the one that runs
    rig.held["fold"].released.set()
    states = await rig.states(key)
    assert states.step == 1
    assert (rig.array_of(states.states[0]) == X[:, 0]).all()


async def test_more_requests_than_may_be_open(make_rig: Any) -> None:
    """The client is slowed down, not refused."""
    rig = await make_rig(max_pending_per_session=4)
    stream = Stream(rig)

    async def write() -> None:
        await stream.send(1, open=OPEN)
        for t in range(60):
            await stream.step(1, X[:, t % 11 : t % 11 + 1])
        await stream.call.done_writing()

    writing = asyncio.ensure_future(write())
    answers = [answer async for answer in stream.call]
    await writing
    assert [answer.request_id for answer in answers] == list(range(1, 62))
    assert [answer.step.step for answer in answers[1:]] == list(range(1, 61))


async def test_shutting_down(rig: Any) -> None:
    stream = Stream(rig)
    await stream.ask(1, open=OPEN)
    rig.serving.draining = True
    answer = await stream.ask(2, open=OPEN)
    check(answer, Code.UNAVAILABLE, "ShuttingDown", "the server is shutting down")
    answer = await stream.ask(1, step=pb.StepRequest(inputs=[rig.tensor("x", X)]))
    assert answer.step.step == 1
    await stream.end()
