"""A client that sends all kinds of requests, one after the other, and judges every answer.

What it sends follows from its seed and its number alone, so that whatever it finds can be found
again. All clients have the same sequence ids, but each calls itself by a name of its own, so that
none may notice the others.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from fuzz import inference, messages, mutation, odd
from fuzz.reference import Key, Reference, Wrong
from fuzz.tally import Finding
from rnnserve.v1 import session_pb2
from server.stubs.inference import grpc_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuzz.tally import Tally

SERVICES = (
    pb.DESCRIPTOR.services_by_name["GRPCInferenceService"],
    session_pb2.DESCRIPTOR.services_by_name["SessionService"],
)
UNARY = tuple(
    (f"/{service.full_name}/{method.name}", method)
    for service in SERVICES
    for method in service.methods
    if not method.client_streaming
)
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
CLOSE = "/rnnserve.v1.SessionService/CloseSession"
Code = grpc.StatusCode
CLEAR = {
    *(Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.ALREADY_EXISTS, Code.FAILED_PRECONDITION),
    *(Code.OUT_OF_RANGE, Code.UNIMPLEMENTED, Code.RESOURCE_EXHAUSTED, Code.PERMISSION_DENIED),
    Code.UNAVAILABLE,  # if the server says it: it has not been asked to load and unload models
}
SHARES = {"right": 40, "spoiled": 30, "damaged": 10, "stream": 5, "other calls": 10, "noise": 5}
OPTIONS = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own
LIMIT_S = 20.0  # for one answer, or all of a stream's
MAX_SEQUENCES = 24
IDS = (
    *(1, 7, -7, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), "7", "-7", "a", "é" * 128, "1/7"),
    *("sequence", "x" * 256, "\0", "2/a"),
)
BUG = "internal error"  # with which a stream tells of one


class Answer(NamedTuple):
    code: Code
    details: str
    message: bytes


class Worker:
    def __init__(
        self,
        address: str,
        transport: str,
        seed: int,
        number: int,
        tally: Tally,
        limit_s: float = LIMIT_S,
    ) -> None:
        self._transport = transport
        self._number = number
        self._tally = tally
        self._limit_s = limit_s
        self._rng = Random(f"{seed}/{number}")
        self._name = (("rnnserve-caller", f"worker {number}"),) if number else ()
        self._reference = Reference()
        self._channel: Any = grpc.aio.insecure_channel(address, OPTIONS)
        self._sent = 0
        self._last = "", b""  # method and request

    async def run(self, goes_on: Callable[[int], bool]) -> None:
        """Send requests while `goes_on` says so of the next one's number; then end all sequences.
        Stops at the first answer that is wrong, which is noted in the tally.
        """
        try:
            while goes_on(self._sent + 1):
                self._sent += 1
                (kind,) = self._rng.choices([*SHARES], [*SHARES.values()])
                await getattr(self, "_" + kind.replace(" ", "_"))()
                if len(self._reference.sequences) > MAX_SEQUENCES or self._reference.unclear:
                    await self._end_sequences()
            await self._end_sequences()
        except Wrong as wrong:
            self._note(str(wrong))
        finally:
            await self._channel.close()

    # ---- what it sends ---------------------------------------------------------------------------

    async def _right(self) -> None:
        request = inference.right(self._rng, IDS)
        is_numbered = self._rng.random() < 0.3 and self._number_it(request)
        raw = request.SerializeToString()
        answer = await self._call("right", INFER, raw)
        self._judge(request, answer, "right")
        if is_numbered and answer.code is Code.OK:  # as if that had been lost
            self._judge(request, again := await self._call("again", INFER, raw))
            if again.code is not Code.OK:
                raise Wrong(f"was refused when it came again: {again.details}")

    def _number_it(self, request: pb.ModelInferRequest) -> bool:
        """Say which one of its sequence it is, if it is the next one."""
        number = self._reference.next_number(request)
        if number:
            request.parameters["rnnserve_step"].int64_param = number
        return number > 0

    async def _spoiled(self) -> None:
        request = self._spoiled_request()
        self._judge(request, await self._call("spoiled", INFER, request.SerializeToString()))

    async def _damaged(self) -> None:
        """A right request whose bytes are not all right; perhaps they still say something."""
        right = inference.right(self._rng, IDS).SerializeToString()
        damaged = mutation.mutated(self._rng, right)
        answer = await self._call("damaged", INFER, damaged)
        try:
            request = pb.ModelInferRequest.FromString(damaged)
        except DecodeError:
            self._refused(answer)
        else:
            self._judge(request, answer)

    async def _stream(self) -> None:
        """Several at once, whose answers come in their order; perhaps nonsense at the end."""
        rng, kinds = self._rng, []
        stream = self._channel.stream_stream(STREAM)(timeout=self._limit_s, metadata=self._name)
        requests = []
        for _ in range(rng.randrange(1, 12)):
            is_right = odd.flag(rng)
            request = inference.right(rng, IDS) if is_right else self._spoiled_request()
            kinds.append("right" if is_right else "")
            requests.append(request)
        nonsense = rng.random() < 0.3
        try:
            for request in requests:
                self._last = STREAM, request.SerializeToString()
                await stream.write(self._last[1])
            for request, kind in zip(requests, kinds, strict=True):
                self._last = STREAM, request.SerializeToString()
                self._judge_streamed(request, await stream.read(), kind)
            if nonsense:
                self._last = STREAM, b"\x0a\xff"
                await stream.write(self._last[1])
            await stream.done_writing()
            code = await stream.code()
        except (grpc.aio.AioRpcError, grpc.aio.UsageError) as broken:
            raise Wrong(f"the stream broke: {broken!r}") from broken
        if code is not (Code.INVALID_ARGUMENT if nonsense else Code.OK):
            raise Wrong(f"the stream ended with {code.name}: {await stream.details()}")

    async def _other_calls(self) -> None:
        """Any method, with a message of its type or one that is damaged."""
        path, method = self._rng.choice(UNARY)
        message = messages.message(self._rng, method.input_type)
        if isinstance(message, pb.ModelInferRequest):
            return self._judge(message, await self._call("other calls", path, _bytes(message)))
        if isinstance(message, pb.LogSettingsRequest) and "log_error" in message.settings:
            del message.settings["log_error"]  # or the log would not tell of bugs any more
        raw = _bytes(message)
        if self._rng.random() < 0.3 and not isinstance(message, pb.LogSettingsRequest):
            raw = mutation.mutated(self._rng, raw)
        answer = await self._call("other calls", path, raw)
        if answer.code is Code.OK:
            await self._close(GetMessageClass(method.output_type).FromString(answer.message))
        else:
            self._refused(answer)

    async def _noise(self) -> None:
        """Any method, with bytes that mean nothing, or by chance something."""
        path, method = self._rng.choice([each for each in UNARY if each[0] != INFER])
        noise = self._rng.randbytes(self._rng.choice((1, 2, 5, 20, 300)))
        answer = await self._call("noise", path, noise)
        if answer.code is Code.OK:
            await self._close(GetMessageClass(method.output_type).FromString(answer.message))
        else:
            self._refused(answer)

    def _spoiled_request(self) -> pb.ModelInferRequest:
        return inference.spoiled(self._rng, inference.right(self._rng, IDS))

    # ---- what comes back -------------------------------------------------------------------------

    async def _call(self, kind: str, path: str, request: bytes) -> Answer:
        self._last = path, request
        call = self._channel.unary_unary(path)(request, timeout=self._limit_s, metadata=self._name)
        code = await call.code()
        self._tally.add(kind, code.name)
        if code is Code.OK:
            return Answer(code, "", await call)
        if code is Code.UNAVAILABLE and "rnnserve-error" not in dict(
            await call.trailing_metadata()
        ):
            raise Wrong(f"the server cannot be reached any more: {await call.details()}")
        return Answer(code, await call.details() or "", b"")

    def _judge(self, request: pb.ModelInferRequest, answer: Answer, kind: str = "") -> None:
        """Raises Wrong."""
        if answer.code is not Code.OK:
            self._refused(answer)
            return self._not_answered(request, answer.details, kind)
        response = pb.ModelInferResponse.FromString(answer.message)
        self._answered(request, response, kind)

    def _judge_streamed(self, request: pb.ModelInferRequest, raw: Any, kind: str) -> None:
        """Raises Wrong."""
        if raw is grpc.aio.EOF:
            raise Wrong("the stream ended before all requests had an answer")
        answer = pb.ModelStreamInferResponse.FromString(raw)
        self._tally.add("stream", "ERROR" if answer.error_message else "OK")
        if not answer.error_message:
            return self._answered(request, answer.infer_response, kind)
        if answer.infer_response.id != request.id or answer.error_message.startswith(BUG):
            raise Wrong(f"in a stream: {answer.error_message!r} for {answer.infer_response.id!r}")
        self._not_answered(request, answer.error_message, kind)

    def _answered(
        self, request: pb.ModelInferRequest, response: pb.ModelInferResponse, kind: str
    ) -> None:
        if kind == "right" and self._expects(request) is False:
            raise Wrong("was answered, although it comes at the wrong time")
        self._reference.answered(request, response)

    def _not_answered(self, request: pb.ModelInferRequest, why: str, kind: str) -> None:
        if kind == "right" and self._expects(request):
            raise Wrong(f"was refused, although nothing is wrong with it: {why}")

    def _expects(self, request: pb.ModelInferRequest) -> bool | None:
        """Whether a right request comes at the right time; None if that cannot be told."""
        return None if self._reference.unclear else self._reference.accepts(request)

    def _refused(self, answer: Answer) -> None:
        """Raises Wrong unless it was, in clear words."""
        if answer.code not in CLEAR or not answer.details:
            raise Wrong(f"was answered {answer.code.name}: {answer.details}")

    # ---- and afterwards --------------------------------------------------------------------------

    async def _close(self, response: Any) -> None:
        """The session that a call has opened by chance, if it has."""
        if "session" in response.DESCRIPTOR.fields_by_name and response.HasField("session"):
            request = session_pb2.CloseSessionRequest(session=response.session)
            answer = await self._call("other calls", CLOSE, request.SerializeToString())
            if answer.code is not Code.OK:
                self._refused(answer)

    async def _end_sequences(self) -> None:
        for key in [*self._reference.sequences, *self._reference.unclear]:
            request = _ending(key)
            answer = await self._call("right", INFER, request.SerializeToString())
            if answer.code is not Code.OK:
                raise Wrong(f"{key} could not be ended: {answer.details}")
            self._reference.ended(key)

    def _note(self, what: str) -> None:
        method, request = self._last
        finding = Finding(
            what, self._transport, self._number, self._sent, method, request, _readable(*self._last)
        )
        self._tally.findings.append(finding)


def _ending(key: Key) -> pb.ModelInferRequest:
    """Begins the sequence anew, whatever it was, and ends it."""
    request = pb.ModelInferRequest(model_name=key.model, model_version=str(key.version))
    request.inputs.add(name="x", datatype="INT64", shape=[1, 1, 2])
    request.raw_input_contents.append(bytes(16))
    inference.in_sequence(request, key.id, start=True, end=True)
    return request


def _bytes(message: Message) -> bytes:
    return message.SerializeToString()


def _readable(path: str, request: bytes) -> str:
    """The request as text, if it can be read."""
    kinds = {**dict(UNARY), STREAM: dict(UNARY)[INFER]}
    try:
        return f"{GetMessageClass(kinds[path].input_type).FromString(request)}"
    except (DecodeError, KeyError):
        return "(no message)"
