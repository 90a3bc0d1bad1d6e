"""A SessionService in memory that keeps to session.proto, and loses what it is told to lose."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field

import grpc
import numpy as np

from rnnserve.v1 import session_pb2 as pb
from rnnserve.v1 import session_pb2_grpc as pb_grpc
from tests.client.fake_models import MODELS, array_of, tensor


@dataclass
class Refusal(Exception):
    code: grpc.StatusCode
    kind: str
    message: str
    retry_after_s: str = ""
    expected_step: int = 0


@dataclass
class Row:
    """A session of the fake server."""

    model: str
    batch_size: int
    token: str
    state: np.ndarray
    constants: dict[str, pb.Tensor]
    step: int = 0
    answers: dict[int, tuple[bytes, pb.StepResponse]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    expired: bool = False


@dataclass
class Fake(pb_grpc.SessionServiceServicer):
    """The server; tests set the attributes to make it misbehave.

    `faults[call]`, for unary calls by their short names, and `cuts`, for streams, hold what goes
    wrong with the calls to come, one after the other:

    - "request": the connection breaks before the call has been read;
    - "answer": it breaks after the call was carried out;
    - "silence": the call is carried out, and no answer comes;
    - "": nothing; a `Refusal`: that, for this once.

    A cut is a pair with the number of steps of the stream that go well before.
    """

    sessions: dict[str, Row] = field(default_factory=dict)
    refusal: Refusal | None = None  # of every call
    lag: int = 0  # answers of a stream kept back; refusals overtake them
    hang_up_after: int | None = None  # requests of a stream, after which it ends with OK
    abort_after: int | None = None  # the same, with an error
    received: list[str] = field(default_factory=list)
    steps: list[pb.StepRequest] = field(default_factory=list)  # as they came
    gate: threading.Event = field(default_factory=threading.Event)  # steps wait for it
    target: str = ""
    opened: pb.OpenSessionRequest | None = None  # the latest session was, with this
    faults: dict[str, deque[str | Refusal]] = field(default_factory=lambda: defaultdict(deque))
    cuts: deque[tuple[int, str]] = field(default_factory=deque)
    streams: int = 0

    def refuse(self, code, kind="", message="the server's words", retry_after_s=""):
        """Refuses every request from now on."""
        self.refusal = Refusal(code, kind, message, retry_after_s)

    def DescribeModel(self, request, context):
        def describe():
            self._must_be_known(request.model_name)
            signature = self._signature(request.model_name)
            return pb.DescribeModelResponse(max_batch_size=4, idle_ttl_s=60.0, **signature)

        return self._unary(context, "describe", describe)

    def OpenSession(self, request, context):
        return self._unary(context, "open", self._open, request)

    def Step(self, request, context):
        return self._unary(context, "step", self._step, request.session, request)

    def ResetStates(self, request, context):
        return self._unary(context, "reset", self._put_states, pb.ResetStatesResponse, request)

    def SetStates(self, request, context):
        return self._unary(context, "set", self._put_states, pb.SetStatesResponse, request)

    def GetStates(self, request, context):
        def states():
            row = self._find(request.session)
            return pb.GetStatesResponse(states=[tensor("total", row.state)], step=row.step)

        return self._unary(context, "get", states)

    def Fork(self, request, context):
        def fork():
            row = self._find(request.session)
            return self._made(request, row.model, row.batch_size, row.state, row.constants)

        return self._unary(context, "fork", fork)

    def Snapshot(self, request, context):
        def snapshot():
            row = self._find(request.session)
            return pb.SnapshotResponse(snapshot=b"sums" + row.state.tobytes(), step=row.step)

        return self._unary(context, "snapshot", snapshot)

    def Restore(self, request, context):
        def restore():
            if request.snapshot[:4] != b"sums":
                raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "SnapshotRefused", "damaged")
            state = np.frombuffer(request.snapshot[4:], np.float32).reshape(1, 2)
            return self._made(request, request.model_name or "sums", 1, state, {})

        return self._unary(context, "restore", restore)

    def KeepAlive(self, request, context):
        def keep_alive():
            return pb.KeepAliveResponse(idle_ttl_s=60.0, step=self._find(request.session).step)

        return self._unary(context, "keep_alive", keep_alive)

    def DescribeSession(self, request, context):
        def info():
            self._find(request.session)
            return self._info(request.session.session_id)

        return self._unary(context, "info", info)

    def CloseSession(self, request, context):
        def close():
            row = self._find(request.session)
            del self.sessions[request.session.session_id]
            return pb.CloseSessionResponse(step=row.step)

        return self._unary(context, "close", close)

    def ListSessions(self, request, context):
        def page():
            names = sorted(
                name for name, row in self.sessions.items() if request.model_name in ("", row.model)
            )
            page = [name for name in names if name > request.page_token][:2]
            return pb.ListSessionsResponse(
                sessions=[self._info(name) for name in page],
                next_page_token=page[-1] if page and page[-1] != names[-1] else "",
            )

        return self._unary(context, "list", page)

    def Stream(self, requests, context):
        self.streams += 1
        go_well, how = self.cuts.popleft() if self.cuts else (None, "")
        keys = {}
        kept = deque()
        for number, request in enumerate(requests):
            if self.hang_up_after == number:
                return
            if self.abort_after == number:
                context.set_trailing_metadata([("rnnserve-error", "ShuttingDown")])
                context.abort(grpc.StatusCode.UNAVAILABLE, "good night")
            cut = go_well is not None and number > go_well
            if cut and how == "request":
                context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            answer = self._answer(keys, request)
            if cut and how == "answer":
                context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            if cut and how == "silence":
                continue
            if answer.HasField("error"):
                yield answer
            else:
                kept.append(answer)
            while len(kept) > self.lag:
                yield kept.popleft()
        yield from kept
        if how == "silence":
            _wait_for_the_end(context)

    def _answer(self, keys, request):
        action = request.WhichOneof("action")
        self.received.append(f"stream {action}")
        answer = pb.StreamResponse(request_id=request.request_id, session=request.session)
        try:
            if self.refusal:
                raise self.refusal
            if action == "resume":
                keys[request.session] = request.resume
                answer.open.CopyFrom(self._opened(request.resume))
            else:
                answer.step.CopyFrom(self._step(keys[request.session], request.step))
        except Refusal as refusal:
            answer.error.code = refusal.code.value[0]
            answer.error.kind = refusal.kind
            answer.error.message = refusal.message
            answer.error.expected_step = refusal.expected_step
            if refusal.retry_after_s:
                answer.error.retry_after_s = float(refusal.retry_after_s)
        return answer

    def _unary(self, context, name, method, *arguments):
        self.received.append(name)
        fault = self.faults[name].popleft() if self.faults[name] else ""
        try:
            if isinstance(fault, Refusal):
                raise fault
            if fault == "request":
                raise Refusal(grpc.StatusCode.UNAVAILABLE, "", "cut")
            if self.refusal:
                raise self.refusal
            answer = method(*arguments)
            if fault == "answer":
                raise Refusal(grpc.StatusCode.UNAVAILABLE, "", "cut")
            if fault == "silence":
                _wait_for_the_end(context)
            return answer
        except Refusal as refusal:
            metadata = [("rnnserve-error", refusal.kind)] if refusal.kind else []
            if refusal.retry_after_s:
                metadata.append(("retry-after-s", refusal.retry_after_s))
            if refusal.expected_step:
                metadata.append(("expected-step", str(refusal.expected_step)))
            context.set_trailing_metadata(metadata)
            context.abort(refusal.code, refusal.message)

    def _open(self, request):
        self._must_be_known(request.model_name)
        rows = request.batch_size or 1
        shape = (2,) if MODELS[request.model_name].unbatched else (rows, 2)
        state = np.zeros(shape, np.float32)
        if request.HasField("states_of"):
            state = self._find(request.states_of.session).state
        constants = {message.name: message for message in request.constants}
        self.opened = request
        return self._made(request, request.model_name, rows, state, constants)

    def _made(self, request, model, batch_size, state, constants):
        """A new session, or the one that the same request has made before."""
        name = request.session_id or f"session-{len(self.sessions)}-{time.monotonic_ns()}"
        token = request.token or f"secret-{name}"
        if name not in self.sessions:
            self.sessions[name] = Row(model, batch_size, token, state, constants)
        elif not request.token or self.sessions[name].token != token:
            raise Refusal(grpc.StatusCode.ALREADY_EXISTS, "SessionExists", f"{name} is taken")
        return self._opened(pb.SessionKey(session_id=name, token=token))

    def _opened(self, key):
        row = self._find(key)
        return pb.OpenSessionResponse(
            session=key,
            batch_size=row.batch_size,
            idle_ttl_s=60.0,
            step=row.step,
            **self._signature(row.model),
        )

    def _must_be_known(self, name):
        if name not in MODELS:
            raise Refusal(grpc.StatusCode.NOT_FOUND, "ModelNotFound", "no such model")

    def _signature(self, name):
        model = MODELS[name]
        kinds = ("unbatched", "inputs", "outputs", "states", "constants")
        said = {"model_name": name, "model_version": "1", "model_digest": "ab" * 32}
        return said | {kind: getattr(model, kind) for kind in kinds}

    def _find(self, key):
        row = self.sessions.get(key.session_id)
        if row is None or row.token != key.token:
            raise Refusal(grpc.StatusCode.NOT_FOUND, "SessionNotFound", "no such session")
        if row.expired:
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, "SessionExpired", "too late")
        return row

    def _step(self, key, request):
        self.steps.append(request)
        assert self.gate.wait(10)
        row = self._find(key)
        with row.lock:
            return self._remembered(row, request) or self._run(row, request)

    def _remembered(self, row, request):
        """The answer of a step that was committed before; None: it is the next one."""
        for number in [number for number in row.answers if number <= request.acknowledged]:
            del row.answers[number]
        if request.step == 0 or request.step == row.step + 1:
            return None
        if request.step > row.step:
            text = f"step {request.step}, expected {row.step + 1}"
            raise Refusal(
                grpc.StatusCode.FAILED_PRECONDITION, "StepGap", text, expected_step=row.step + 1
            )
        if request.step not in row.answers:
            raise Refusal(grpc.StatusCode.OUT_OF_RANGE, "StepForgotten", "too long ago")
        inputs, answer = row.answers[request.step]
        if inputs != _inputs(request):
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, "StepConflict", "other inputs")
        return answer

    def _run(self, row, request):
        inputs = row.constants | {message.name: message for message in request.inputs}
        if any(b"\x00\x00\x80\x7f" in message.contents for message in inputs.values()):  # infinity
            raise Refusal(grpc.StatusCode.INTERNAL, "StepFailed", "infinity is too much")
        state, outputs = MODELS[row.model].run(row.state, inputs)
        if not request.return_sequences:
            for spec in MODELS[row.model].outputs:
                if spec.HasField("time_axis"):
                    outputs[spec.name] = outputs[spec.name].take(-1, spec.time_axis)
        answer = pb.StepResponse(
            outputs=[tensor(name, array) for name, array in outputs.items()],
            states=[tensor("total", state)] if request.return_state else [],
            step=row.step + (not request.peek),
        )
        if not request.peek:
            row.state = state
            row.step += 1
            if request.step:
                row.answers[request.step] = _inputs(request), answer
        return answer

    def _put_states(self, response, request):
        row = self._find(request.session)
        row.state = (
            array_of(request.states[0]) if request.states else np.zeros_like(row.state)
        ).copy()
        return response(step=row.step)

    def _info(self, name):
        row = self.sessions[name]
        return pb.SessionInfo(
            session_id=name,
            model_name=row.model,
            model_version="1",
            batch_size=row.batch_size,
            step=row.step,
            idle_s=0.5,
            idle_ttl_s=60.0,
            pending=3,
            on_host=True,
            remembered_from=min(row.answers, default=0),
        )


def _wait_for_the_end(context):
    gone = threading.Event()
    if context.add_callback(gone.set):
        assert gone.wait(20)


def _inputs(request):
    return b"".join(message.SerializeToString() for message in request.inputs)
