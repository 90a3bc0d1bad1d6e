"""Sessions that begin with the states of another one: no session may stay open without them, and
the other one never notices.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from rnnserve.v1 import session_pb2 as pb

INVALID = grpc.StatusCode.INVALID_ARGUMENT
X = np.array([[[1, 2], [3, 4], [5, 6]]])
H = np.array([[9 + 9 + 5, 18 + 12 + 6]])  # of "encoder" after X
GAIN = np.array([[2, 3]])


def decoded(d: Any, x: Any = X) -> Any:
    for time in range(x.shape[1]):
        d = 3 * d + x[:, time] * GAIN
    return d


def opening(rig: Any, model: str = "decoder", **fields: Any) -> pb.OpenSessionRequest:
    constants = [rig.tensor("gain", GAIN)] if model == "decoder" else []
    return pb.OpenSessionRequest(model_name=model, constants=constants, **fields)


async def begun(rig: Any, source: pb.SessionKey, model: str = "decoder", **names: str) -> Any:
    wanted = pb.StatesOf(session=source, states=names)
    answer = await rig.sessions.OpenSession(opening(rig, model, states_of=wanted))
    return answer.session


async def encoded(rig: Any, x: Any = X) -> pb.SessionKey:
    key = await rig.open("encoder", batch_size=len(x))
    await rig.step(key, x)
    return key


async def states(rig: Any, key: pb.SessionKey) -> dict[str, Any]:
    arrays = rig.arrays_of((await rig.states(key)).states)
    return {name: array.tolist() for name, array in arrays.items()}


async def test_in_order_where_they_are_alike(rig: Any) -> None:
    encoder = await encoded(rig)
    decoder = await begun(rig, encoder)
    assert await states(rig, decoder) == {"d": H.tolist()}
    answer = await rig.step(decoder, X)
    assert (rig.array_of(answer.outputs[0]) == decoded(H)).all()
    assert answer.step == 1


async def test_the_other_session_goes_on(rig: Any) -> None:
    encoder = await encoded(rig)
    decoder = await begun(rig, encoder)
    await rig.step(decoder, X)
    answer = await rig.step(encoder, X, return_state=True)
    assert rig.array_of(answer.states[0]).tolist() == (27 * H + H).tolist()
    assert answer.step == 2


async def test_the_same_model_by_name(rig: Any) -> None:
    encoder = await encoded(rig)
    other = await begun(rig, encoder, "encoder")
    await rig.step(other, X)
    assert await states(rig, encoder) == {"h": H.tolist()}
    assert await states(rig, other) == {"h": (27 * H + H).tolist()}


async def test_the_same_model_shares_its_constants(rig: Any) -> None:
    request = opening(rig, initial_state=[rig.tensor("d", H)])
    first = (await rig.sessions.OpenSession(request)).session
    wanted = pb.StatesOf(session=first)
    request = pb.OpenSessionRequest(model_name="decoder", states_of=wanted)
    second = (await rig.sessions.OpenSession(request)).session
    request.constants.append(rig.tensor("gain", -GAIN))
    third = (await rig.sessions.OpenSession(request)).session
    await rig.sessions.CloseSession(pb.CloseSessionRequest(session=first))
    assert (rig.array_of((await rig.step(second, X)).outputs[0]) == decoded(H)).all()
    assert (rig.array_of((await rig.step(third, X)).outputs[0]) == decoded(H, -X)).all()
    await rig.sessions.ResetStates(pb.ResetStatesRequest(session=second))
    assert (rig.array_of((await rig.step(second, X)).outputs[0]) == decoded(1)).all()


async def test_constants_of_another_model_are_not_its_own(rig: Any) -> None:
    encoder = await encoded(rig)
    request = pb.OpenSessionRequest(model_name="decoder", states_of=pb.StatesOf(session=encoder))
    error = await rig.refused(rig.sessions.OpenSession(request), INVALID)
    assert "model 'decoder' has the constants ['gain']" in error.details()
    assert len(rig.serving.sessions) == 1


async def test_as_the_request_says(rig: Any) -> None:
    swap = await rig.open(
        "swap", initial_state=[rig.tensor(n, np.array([[v, v]])) for n, v in (("a", 1), ("b", 2))]
    )
    assert await states(rig, await begun(rig, swap, "swap")) == {"a": [[1, 1]], "b": [[2, 2]]}
    crossed = await begun(rig, swap, "swap", a="b", b="a")
    assert await states(rig, crossed) == {"a": [[2, 2]], "b": [[1, 1]]}
    doubled = await begun(rig, swap, "swap", a="b", b="b")
    assert await states(rig, doubled) == {"a": [[2, 2]], "b": [[2, 2]]}
    assert await states(rig, await begun(rig, swap, "decoder", d="b")) == {"d": [[2, 2]]}


async def test_several_rows(rig: Any) -> None:
    encoder = await encoded(rig, np.concatenate([X, -X, 2 * X]))
    wanted = pb.StatesOf(session=encoder)
    request = pb.OpenSessionRequest(model_name="encoder", batch_size=3, states_of=wanted)
    opened = await rig.sessions.OpenSession(request)
    expected = np.concatenate([H, -H, 2 * H]).tolist()
    assert await states(rig, opened.session) == {"h": expected}


async def test_after_all_that_was_asked_of_the_other_before(make_rig: Any) -> None:
    rig = await make_rig(hold="encoder")
    encoder = await rig.open("encoder")
    first = await rig.arrived(rig.step(encoder, X), "encoder")
    second = await rig.arrived(rig.step(encoder, X), "encoder")
    opened = await rig.arrived(begun(rig, encoder), "encoder")
    third = await rig.arrived(rig.step(encoder, X), "encoder")
    assert not opened.done()
    assert len(rig.serving.sessions) == 2  # it counts from the beginning
    rig.held["encoder"].released.set()
    assert await states(rig, await opened) == {"d": (27 * H + H).tolist()}
    assert [(await step).step for step in (first, second, third)] == [1, 2, 3]


async def test_it_counts_against_the_limit_of_sessions(make_rig: Any) -> None:
    rig = await make_rig(max_sessions=2)
    encoder = await encoded(rig)
    await begun(rig, encoder)
    await rig.refused(begun(rig, encoder), grpc.StatusCode.RESOURCE_EXHAUSTED, "LimitReached")
    assert await states(rig, encoder) == {"h": H.tolist()}


@pytest.mark.parametrize(
    ("model", "names", "text"),
    [
        ("swap", {}, "model 'swap' cannot begin with the states of model 'encoder': it has 'a' "
         "INT64 [2], 'b' INT64 [2], that one 'h' INT64 [2]; say for every state which"),
        ("swap", {"a": "h"}, "as {'a': 'h'}"),
        ("swap", {"a": "h", "b": "c"}, "as {'a': 'h', 'b': 'c'}"),
        ("swap", {"a": "h", "c": "h"}, "as {'a': 'h', 'c': 'h'}"),
        ("generator", {}, "it has 'n' INT64 [], that one 'h' INT64 [2]"),
    ],
)  # fmt: skip
async def test_states_that_do_not_fit(rig: Any, model: str, names: Any, text: str) -> None:
    encoder = await encoded(rig)
    request = pb.OpenSessionRequest(
        model_name=model, states_of=pb.StatesOf(session=encoder, states=names)
    )
    if model == "generator":
        request.constants.append(rig.tensor("stride", np.array([1])))
    error = await rig.refused(rig.sessions.OpenSession(request), INVALID, "InvalidRequest")
    assert text in error.details()
    assert len(rig.serving.sessions) == 1


async def test_what_else_is_refused(rig: Any) -> None:
    encoder = await encoded(rig)
    wanted = pb.StatesOf(session=encoder)
    both = opening(rig, states_of=wanted, initial_state=[rig.tensor("d", H)])
    error = await rig.refused(rig.sessions.OpenSession(both), INVALID)
    assert error.details() == "expected initial_state or states_of, got both"
    rows = pb.OpenSessionRequest(model_name="encoder", states_of=wanted, batch_size=2)
    error = await rig.refused(rig.sessions.OpenSession(rows), INVALID)
    assert "has batch size 1: one that begins with its states must have the same" in error.details()
    nobody = opening(rig, states_of=pb.StatesOf(stream_session=1))
    error = await rig.refused(rig.sessions.OpenSession(nobody), INVALID)
    assert error.details() == "states_of must name a session by its id and token"
    guessed = pb.SessionKey(session_id=encoder.session_id, token="guess")
    await rig.refused(begun(rig, guessed), grpc.StatusCode.NOT_FOUND, "SessionNotFound")
    await rig.sessions.CloseSession(pb.CloseSessionRequest(session=encoder))
    await rig.refused(begun(rig, encoder), grpc.StatusCode.NOT_FOUND, "SessionNotFound")
    assert len(rig.serving.sessions) == 0


async def test_of_a_session_that_is_closed_meanwhile(make_rig: Any) -> None:
    rig = await make_rig(hold="encoder")
    encoder = await rig.open("encoder")
    step = await rig.arrived(rig.step(encoder, X), "encoder")
    opened = await rig.arrived(begun(rig, encoder), "encoder")
    source = rig.serving.sessions.get(encoder.session_id, encoder.token)
    source.home.close(source)
    rig.held["encoder"].released.set()
    error = await rig.refused(opened, grpc.StatusCode.FAILED_PRECONDITION, "SessionClosed")
    assert encoder.session_id in error.details()  # that one, not the new one
    await step
    await rig.until(lambda: len(rig.serving.sessions) == 0)


async def test_of_a_session_that_is_about_to_close(make_rig: Any) -> None:
    rig = await make_rig(hold="encoder")
    encoder = await rig.open("encoder")
    step = await rig.arrived(rig.step(encoder, X), "encoder")
    close = pb.CloseSessionRequest(session=encoder)
    closing = await rig.arrived(rig.sessions.CloseSession(close), "encoder")
    await rig.refused(begun(rig, encoder), grpc.StatusCode.FAILED_PRECONDITION, "SessionClosed")
    assert len(rig.serving.sessions) == 1
    rig.held["encoder"].released.set()
    await asyncio.gather(step, closing)


@pytest.mark.parametrize("broken", ["read", "write"])
async def test_an_engine_that_fails(rig: Any, broken: str) -> None:
    encoder = await encoded(rig)
    model = "encoder" if broken == "read" else "decoder"
    engine = rig.serving.model(model).driver.engine

    def fail(*_: Any) -> None:
        raise RuntimeError("on purpose")

    setattr(engine, broken, fail)
    await rig.refused(begun(rig, encoder), grpc.StatusCode.INTERNAL, "InternalError")
    assert len(rig.serving.sessions) == 1
    delattr(engine, broken)
    assert await states(rig, await begun(rig, encoder)) == {"d": H.tolist()}


async def test_a_full_queue_of_the_other_session(make_rig: Any) -> None:
    rig = await make_rig(hold="encoder", max_pending_per_session=3)
    encoder = await rig.open("encoder")
    steps = [await rig.arrived(rig.step(encoder, X), "encoder") for _ in range(3)]
    await rig.refused(begun(rig, encoder), grpc.StatusCode.RESOURCE_EXHAUSTED, "LimitReached")
    assert len(rig.serving.sessions) == 1
    rig.held["encoder"].released.set()
    assert [(await step).step for step in steps] == [1, 2, 3]


async def test_a_full_queue_of_the_new_session_s_model(make_rig: Any) -> None:
    rig = await make_rig(max_pending=1)  # there is room for waiting, not for writing
    encoder = await encoded(rig)
    for _ in range(2):
        await rig.refused(begun(rig, encoder), grpc.StatusCode.RESOURCE_EXHAUSTED, "LimitReached")
        ledger = rig.serving.model("decoder").scheduler.ledger
        assert (len(rig.serving.sessions), ledger.reserved_rows, ledger.pending) == (1, 0, 0)
    assert await states(rig, encoder) == {"h": H.tolist()}


async def test_a_caller_that_goes_away(make_rig: Any) -> None:
    rig = await make_rig(hold="encoder")
    encoder = await rig.open("encoder")
    step = await rig.arrived(rig.step(encoder, X), "encoder")
    opened = await rig.arrived(begun(rig, encoder), "encoder")
    opened.cancel()
    decoder = rig.serving.model("decoder")
    (new,) = (s for s in rig.serving.sessions if s.home is decoder)
    await rig.until(lambda: new.closed)
    rig.held["encoder"].released.set()
    await step
    await rig.until(lambda: len(rig.serving.sessions) == 1)
    await rig.serving.idle()
    assert decoder.scheduler.ledger.reserved_rows == 0
    assert await states(rig, encoder) == {"h": H.tolist()}


async def test_it_does_not_expire_while_it_waits(make_rig: Any) -> None:
    rig = await make_rig(hold="encoder")
    encoder = await rig.open("encoder")
    step = await rig.arrived(rig.step(encoder, X), "encoder")
    request = opening(rig, states_of=pb.StatesOf(session=encoder), idle_ttl_s=0.001)
    opened = await rig.arrived(rig.sessions.OpenSession(request), "encoder")
    await asyncio.sleep(0.02)
    assert rig.serving.expire() == 0
    rig.held["encoder"].released.set()
    await step
    assert (await opened).step == 0


# ---- in a stream ---------------------------------------------------------------------------------


class Stream:
    """Messages out, answers in by their number."""

    def __init__(self, rig: Any) -> None:
        self.call = rig.sessions.Stream()
        self._sent = 0

    async def send(self, session: int, **action: Any) -> int:
        self._sent += 1
        message = pb.StreamRequest(request_id=self._sent, session=session, **action)
        await self.call.write(message)
        return self._sent

    async def answers(self) -> dict[int, pb.StreamResponse]:
        await self.call.done_writing()
        return {answer.request_id: answer async for answer in self.call}


async def test_by_its_number_and_without_waiting(make_rig: Any) -> None:
    rig = await make_rig(hold="encoder")
    stream = Stream(rig)
    step = pb.StepRequest(inputs=[rig.tensor("x", X)])
    await stream.send(1, open=opening(rig, "encoder"))
    await stream.send(1, step=step)
    wanted = pb.StatesOf(stream_session=1)
    opened = await stream.send(2, open=opening(rig, states_of=wanted))
    first = await stream.send(2, step=step)
    second = await stream.send(2, step=step)
    await stream.send(1, step=step)
    closed = await stream.send(2, close=pb.CloseSessionRequest())
    await rig.until(lambda: rig.serving.model("encoder").scheduler.pending >= 3)
    rig.held["encoder"].released.set()
    answers = await stream.answers()
    assert answers[opened].open.model_name == "decoder"
    once = decoded(H)
    assert (rig.array_of(answers[first].step.outputs[0]) == once).all()
    assert (rig.array_of(answers[second].step.outputs[0]) == decoded(once)).all()
    assert answers[closed].close.step == 2


async def test_by_its_key_from_another_call(rig: Any) -> None:
    encoder = await encoded(rig)
    stream = Stream(rig)
    await stream.send(0, open=opening(rig, states_of=pb.StatesOf(session=encoder)))
    step = await stream.send(0, step=pb.StepRequest(inputs=[rig.tensor("x", X)]))
    answers = await stream.answers()
    assert (rig.array_of(answers[step].step.outputs[0]) == decoded(H)).all()


async def test_a_number_that_the_stream_does_not_know(rig: Any) -> None:
    stream = Stream(rig)
    opened = await stream.send(2, open=opening(rig, states_of=pb.StatesOf(stream_session=1)))
    step = await stream.send(2, step=pb.StepRequest(inputs=[rig.tensor("x", X)]))
    answers = await stream.answers()
    assert "this stream has no session 1" in answers[opened].error.message
    assert "this stream has no session 2" in answers[step].error.message
    assert len(rig.serving.sessions) == 0


async def test_steps_behind_an_opening_that_fails(rig: Any) -> None:
    encoder = await encoded(rig)
    engine = rig.serving.model("encoder").driver.engine

    def fail(*_: Any) -> None:
        raise RuntimeError("on purpose")

    engine.read = fail
    stream = Stream(rig)
    opened = await stream.send(1, open=opening(rig, states_of=pb.StatesOf(session=encoder)))
    await stream.send(1, step=pb.StepRequest(inputs=[rig.tensor("x", X)]))
    answers = await stream.answers()
    assert answers[opened].error.kind == "InternalError"
    assert [answer.WhichOneof("result") for answer in answers.values()] == ["error", "error"]
    assert len(rig.serving.sessions) == 1


async def test_a_stream_that_breaks_while_it_waits(make_rig: Any) -> None:
    rig = await make_rig(hold="encoder")
    encoder = await rig.open("encoder")
    step = await rig.arrived(rig.step(encoder, X), "encoder")
    stream = Stream(rig)
    await stream.send(1, open=opening(rig, states_of=pb.StatesOf(session=encoder)))
    await stream.send(1, step=pb.StepRequest(inputs=[rig.tensor("x", X)]))
    await rig.until(lambda: rig.serving.model("decoder").scheduler.pending == 3)
    (new,) = (s for s in rig.serving.sessions if s.id != encoder.session_id)
    stream.call.cancel()
    await rig.until(lambda: new.closed)
    rig.held["encoder"].released.set()
    await step
    await rig.until(lambda: len(rig.serving.sessions) == 1)
    assert await states(rig, encoder) == {"h": H.tolist()}
