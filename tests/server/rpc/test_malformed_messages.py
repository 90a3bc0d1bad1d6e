"""Whatever a message holds: a clear answer, and a session as it was unless the answer is OK."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rnnserve.v1 import session_pb2 as pb
from server.stubs.inference import grpc_service_pb2 as oip

CLEAR = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED}
# one server for all examples: the more of them one session has seen, the better
EXAMPLES = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

names = st.sampled_from(["x", "h", "y", "h_next", ""]) | st.text(max_size=5)
datatypes = st.sampled_from(["INT64", "FP32", "BYTES", "BF16", ""]) | st.text(max_size=5)
sizes = st.sampled_from([1, 2, -1, 0, 2**31, 2**63 - 1, -(2**63)]) | st.integers(-3, 9)
shapes = st.sampled_from([(1, 1, 2), (1, 2), (1, 3, 2)]) | st.lists(sizes, max_size=5)
contents = st.sampled_from([bytes(16), bytes(48), b""]) | st.binary(max_size=40)
tensors = st.builds(
    lambda name, datatype, shape, raw: pb.Tensor(
        name=name, datatype=datatype, shape=shape, contents=raw
    ),
    names, datatypes, shapes, contents,
)  # fmt: skip


async def check(rig: Any, call: Any, before: Any) -> None:
    if await call.code() is not grpc.StatusCode.OK:
        assert await call.code() in CLEAR
        assert await call.details()
        assert await rig.snapshot() == before


@given(data=st.data())
@EXAMPLES
async def test_any_tensors_in_a_session(rig: Any, data: st.DataObject) -> None:
    key = await rig.open()
    await rig.step(key, np.array([[[3, 4]]]))
    before = await rig.snapshot()
    chosen = data.draw(st.lists(tensors, max_size=2))
    requests = {
        "Step": lambda: pb.StepRequest(
            session=key, inputs=chosen, return_state=True, return_sequences=data.draw(st.booleans())
        ),
        "SetStates": lambda: pb.SetStatesRequest(session=key, states=chosen),
        "ResetStates": lambda: pb.ResetStatesRequest(session=key, states=chosen),
    }
    method = data.draw(st.sampled_from(sorted(requests)))
    await check(rig, getattr(rig.sessions, method)(requests[method]()), before)
    await rig.step(key, np.array([[[1, 2]]]))
    await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))


@given(
    model=st.just("fold") | st.text(max_size=5),
    version=st.sampled_from(["", "1", "2", "-1", "½", "٣"]) | st.text(max_size=5),
    rows=st.sampled_from([0, 1, 8, 9, 2**32 - 1]),
    idle_ttl_s=st.floats(),
    states=st.lists(tensors, max_size=2),
)
@EXAMPLES
async def test_any_opening(
    rig: Any, model: str, version: str, rows: int, idle_ttl_s: float, states: list[pb.Tensor]
) -> None:
    request = pb.OpenSessionRequest(
        model_name=model,
        model_version=version,
        batch_size=rows,
        idle_ttl_s=idle_ttl_s,
        initial_state=states,
    )
    call = rig.sessions.OpenSession(request)
    if await call.code() is grpc.StatusCode.OK:
        opened = await call
        assert (opened.model_name, opened.batch_size) == ("fold", rows or 1)
        assert 0 < opened.idle_ttl_s < float("inf")
        await rig.sessions.CloseSession(pb.CloseSessionRequest(session=opened.session))
    else:
        assert await call.code() in CLEAR
    assert len(rig.serving.sessions) == 0


parameters = st.dictionaries(
    st.sampled_from(["sequence_id", "sequence_start", "sequence_end", "timeout"])
    | st.text(max_size=5),
    st.builds(lambda value: oip.InferParameter(bool_param=value), st.booleans())
    | st.builds(lambda value: oip.InferParameter(int64_param=value), st.integers(-1, 2))
    | st.builds(lambda value: oip.InferParameter(string_param=value), st.text(max_size=3))
    | st.just(oip.InferParameter()),
    max_size=3,
)


@given(
    chosen=st.lists(tensors, max_size=2),
    raw=st.booleans(),
    numbers=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
    outputs=st.lists(names, max_size=2),
    given_parameters=parameters,
    in_sequence=st.booleans(),
)
@EXAMPLES
async def test_any_inference(
    rig: Any,
    chosen: list[pb.Tensor],
    raw: bool,
    numbers: list[int],
    outputs: list[str],
    given_parameters: dict[str, oip.InferParameter],
    in_sequence: bool,
) -> None:
    first = rig.infer("fold", {"x": np.array([[[3, 4]]])}, 1, start=True)
    await rig.inference.ModelInfer(first)
    before = await rig.snapshot()
    request = oip.ModelInferRequest(model_name="fold")
    if in_sequence:
        request.parameters["sequence_id"].int64_param = 1
    for name, parameter in given_parameters.items():
        request.parameters[name].CopyFrom(parameter)
    for tensor in chosen:
        added = request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if raw:
            request.raw_input_contents.append(tensor.contents)
        else:
            added.contents.int64_contents.extend(numbers)
    for name in outputs:
        request.outputs.add(name=name)
    await check(rig, rig.inference.ModelInfer(request), before)


@given(
    session=st.integers(0, 2),
    action=st.sampled_from(["open", "resume", "step", "reset", "close", None]),
    chosen=st.lists(tensors, max_size=2),
    text=st.text(max_size=5),
)
@EXAMPLES
async def test_any_message_in_a_stream(
    rig: Any, session: int, action: str | None, chosen: list[pb.Tensor], text: str
) -> None:
    stream = rig.sessions.Stream()
    opening = pb.OpenSessionRequest(model_name="fold")
    await stream.write(pb.StreamRequest(request_id=1, session=1, open=opening))
    key = (await stream.read()).open.session
    before = await rig.snapshot()
    actions: dict[str | None, Any] = {
        "open": {"open": pb.OpenSessionRequest(model_name=text, initial_state=chosen)},
        "resume": {"resume": pb.SessionKey(session_id=text, token=text)},
        "step": {"step": pb.StepRequest(inputs=chosen)},
        "reset": {"reset": pb.ResetStatesRequest(states=chosen)},
        "close": {"close": pb.CloseSessionRequest()},
        None: {},
    }
    await stream.write(pb.StreamRequest(request_id=2, session=session, **actions[action]))
    answer = await stream.read()
    assert (answer.request_id, answer.session) == (2, session)
    if answer.HasField("error"):
        assert answer.error.code in {code.value[0] for code in CLEAR}
        assert answer.error.message
        assert await rig.snapshot() == before
    else:
        assert answer.WhichOneof("result") == action
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
    if action != "close" or answer.HasField("error"):
        await rig.sessions.CloseSession(pb.CloseSessionRequest(session=key))
