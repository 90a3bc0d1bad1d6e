"""Sequences of the Open Inference protocol, which are sessions under another name: the request's
parameters say which sequence it belongs to, whether it is the first or the last of it, and whether
it begins with the states of another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from server.core.remembered import fingerprint
from server.core.requests import Step, Stepped
from server.errors import InvalidRequest, RequestError, SessionNotFound, Unsupported
from server.rpc.handover import Source
from server.rpc.tensors import missing_inputs

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping

    from server.core.requests import Arrays
    from server.core.session import Session
    from server.serving import ServedModel, Serving
    from server.stubs.inference.grpc_service_pb2 import InferParameter

IGNORED = {"triton_enable_empty_final_response"}  # asks for what only decoupled models do
RESERVED_PREFIX = "triton_"
OWN_PREFIX = "rnnserve_"  # whoever sends another name means it for a model that reads it
STATES_OF = "rnnserve_states_of"
STEP = "rnnserve_step"
MAX_ID_BYTES = 256
MAX_DIGITS = 20  # of an id that may be a number of 64 bits
SCOPE_BYTES, SHOWN_OF_SCOPE = 16, 8


class Wish(NamedTuple):
    """What a request asks of the model's queue, if that is configured to listen: 0 for nothing."""

    priority: int = 0
    timeout_s: float = 0.0


class SequenceId(NamedTuple):
    """A session's id: a sequence id counts within one version of one model, and for one caller, if
    it says who it is.
    """

    model: str
    version: int
    id: int | str
    scope: str = ""

    def __str__(self) -> str:
        """Where sessions of all models are listed side by side, no two may look the same."""
        of_caller = f" of caller {self.scope[:SHOWN_OF_SCOPE]}" if self.scope else ""
        return f"sequence {self.id!r} of {self.model}/{self.version}{of_caller}"


@dataclass(frozen=True, slots=True)
class Sequence:
    """Where a request stands in its sequence; without an id it is in none. `states_of`, at START
    only: "MODEL/SEQUENCE ID". `step`: its number in the sequence, from 1; 0: not said. `scope`:
    whose ids they are.
    """

    id: int | str = 0
    start: bool = False
    end: bool = False
    states_of: str = ""
    step: int = 0
    scope: str = ""
    wish: Wish | None = None

    def key(self, model: ServedModel) -> SequenceId:
        return SequenceId(model.spec.name, model.spec.version, self.id, self.scope)


WHOLE = Sequence(start=True, end=True)  # where nothing is kept: every request is all there is


def scope_of(header: str) -> str:
    """Whose ids they are that come with this value of the header that names the caller: it may be a
    secret, and sequences are listed.
    """
    return blake2b(header.encode(), digest_size=SCOPE_BYTES).hexdigest() if header else ""


def sequence_of(parameters: Mapping[str, InferParameter], scope: str = "") -> Sequence:
    """What the request's parameters say. Raises InvalidRequest for a parameter of the wrong type,
    Unsupported for one that this server does not have.
    """
    id: int | str = 0
    states_of = ""
    step = 0
    wish: Wish | None = None
    flags = {"sequence_start": False, "sequence_end": False}
    for name, parameter in parameters.items():
        if name == "sequence_id":
            id = _value(name, parameter, "int64_param", "string_param", "uint64_param")
            if isinstance(id, str) and len(id.encode()) > MAX_ID_BYTES:
                raise InvalidRequest(f"sequence_id: expected at most {MAX_ID_BYTES} bytes")
        elif name in flags:
            flags[name] = _value(name, parameter, "bool_param")
        elif name == STATES_OF:
            states_of = _value(name, parameter, "string_param")
        elif name == STEP:
            step = _value(name, parameter, "int64_param", "uint64_param")
        elif name == "priority":
            wish = (wish or Wish())._replace(priority=_natural(name, parameter))
        elif name == "timeout":
            wish = (wish or Wish())._replace(timeout_s=_natural(name, parameter) / 1e6)
        elif name in IGNORED:
            continue
        elif name.startswith(RESERVED_PREFIX):
            raise InvalidRequest(
                f"parameter keys starting with '{RESERVED_PREFIX}' are reserved for Triton usage "
                f"and should not be specified, got '{name}'"
            )
        elif name.startswith(OWN_PREFIX):
            raise Unsupported(f"request parameter '{name}' is not offered by this server")
    if states_of and not flags["sequence_start"]:
        raise InvalidRequest(f"request parameter '{STATES_OF}' may only come with sequence_start")
    if step < 0 or (flags["sequence_start"] and step > 1):
        raise InvalidRequest(
            f"request parameter '{STEP}' counts the requests of a sequence from 1, at "
            f"sequence_start, got {step}"
        )
    start, end = flags["sequence_start"], flags["sequence_end"]
    return Sequence(id, start, end, states_of, step, scope, wish)


def with_model(sequence: Sequence, model: ServedModel) -> Sequence:
    """The same, where the model keeps something from one request to the next. Raises
    InvalidRequest.
    """
    if model.keeps_something:
        return sequence
    if sequence.states_of:
        raise InvalidRequest(f"model '{model.spec.name}' has no states: '{STATES_OF}' is wrong")
    return WHOLE if sequence.wish is None else replace(WHOLE, wish=sequence.wish)


def find_session(
    serving: Serving, homes: Iterable[ServedModel], sequence: Sequence
) -> Session | None:
    """The session of that id, if there is one; a START will replace it."""
    if not sequence.id:
        return None
    for model in homes:
        if (session := serving.sessions.find(sequence.key(model))) is not None:
            return session
    return None


def session_of(
    serving: Serving,
    model: ServedModel,
    sequence: Sequence,
    batch_size: int,
    session: Session | None,
) -> Session:
    """The session that the request belongs to: the one that was found, or a new one, opened by
    START, or for a model that keeps nothing by every request. `batch_size` is 0 where no input
    tells it. Raises InvalidRequest, ShuttingDown, LimitReached.
    """
    if not model.keeps_something:
        return serving.open(model, id=object(), batch_size=batch_size or 1, idle_ttl_s=float("inf"))
    if not sequence.id:
        raise InvalidRequest(
            f"inference request to model '{model.spec.name}' must specify a non-zero or non-empty "
            "correlation ID"
        )
    key = sequence.key(model)
    if sequence.start:
        return serving.open(model, id=key, batch_size=batch_size or 1, replaces=session)
    goes_on = session is not None and not (session.closed if sequence.step else session.ending)
    if session is None or not goes_on:
        raise no_start(model, sequence, hint(serving, key))
    if batch_size not in (0, session.batch_size):
        raise InvalidRequest(
            f"sequence {sequence.id} to model '{model.spec.name}' has batch size "
            f"{session.batch_size} since its START, but this request has {batch_size}"
        )
    return session


def no_start(model: ServedModel, sequence: Sequence, why: str = "") -> InvalidRequest:
    return InvalidRequest(
        f"inference request for sequence {sequence.id} to model '{model.spec.name}' must specify "
        f"the START flag on the first request of the sequence{why}"
    )


def beginning(sequence: Sequence, constants: Arrays) -> Hashable:
    """What a sequence begins with beside its first inputs."""
    if not sequence.start or not (sequence.states_of or constants):
        return ()
    arrays = tuple((name, constants[name].tobytes()) for name in sorted(constants))
    return sequence.states_of, arrays


def last_answer(
    serving: Serving, homes: Iterable[ServedModel], sequence: Sequence, step: Step
) -> Stepped | RequestError | None:
    """The answer to a numbered step that has come before and has ended its sequence."""
    if sequence.start and not sequence.end:
        return None  # a new sequence, whatever the one before has begun with
    for model in homes:
        for answer in serving.sessions.last_answers(sequence.key(model)):
            if answer.index == sequence.step:
                again = answer.again(step)
                is_new = sequence.start and isinstance(again, RequestError)
                return None if is_new else again
    return None


def has_begun_with(session: Session, step: Step) -> bool:
    """Whether the sequence is still at its first step, and that was this very one: then it makes no
    difference whether it begins once or twice.
    """
    first = next((each for each in session.pending or () if isinstance(each, Step)), None)
    if session.step == 0 and first is not None:
        return first.index == 1 and fingerprint(first) == fingerprint(step)
    answers = (session.answers or ()) if session.step == 1 else ()
    return any(isinstance(answer.again(step), Stepped) for answer in answers)


def source_of(
    serving: Serving, model: ServedModel, sequence: Sequence, batch_size: int
) -> Source | None:
    """Whose states the sequence is to begin with: of the latest version of that model that has such
    a sequence, a number before a string. Raises ModelNotFound, SessionNotFound, InvalidRequest.
    """
    if not sequence.states_of:
        return None
    for key in sources_of(serving, sequence):
        session = serving.sessions.find(key)
        if session is None:
            continue
        if session.id == sequence.key(model):
            raise InvalidRequest(f"sequence {key.id} cannot begin with its own states")
        return Source(session, model, batch_size, {})
    name, _, text = sequence.states_of.partition("/")
    raise SessionNotFound(
        f"no sequence '{text}' of model '{name}' whose states another one could begin with"
    )


def sources_of(serving: Serving, sequence: Sequence) -> Iterator[SequenceId]:
    """Those that `states_of` may mean, in the order in which they are looked for. Raises
    ModelNotFound.
    """
    name, _, text = sequence.states_of.partition("/")
    is_number = text.removeprefix("-").isdecimal() and len(text) <= MAX_DIGITS
    for version in reversed(serving.catalogue.all_versions(name)):
        for id in (int(text), text) if is_number else (text,):
            yield SequenceId(name, version, id, sequence.scope)


def check_constants(
    model: ServedModel,
    sequence: Sequence,
    session: Session | None,
    given: Arrays,
    names: Collection[str],
) -> None:
    """A START sets all constants, later they can only be said again. `names` are those of all that
    the request carries. Raises InvalidRequest.
    """
    missing = [name for name in model.constants if name not in given]
    if sequence.start and missing:
        raise missing_inputs(model, len(model.inputs) + len(model.constants), names, missing)
    if sequence.start or session is None:
        return
    for name, array in given.items():
        assert session.constants is not None
        if session.constants[name].tobytes() != array.tobytes():
            raise InvalidRequest(
                f"input '{name}' for model '{model.spec.name}' is a constant, set at START: it may "
                f"be left out of the other requests of sequence {sequence.id}, or be the same"
            )


def hint(serving: Serving, key: SequenceId) -> str:
    """Why there is no sequence of that id any more, if it did not end by itself."""
    why = serving.sessions.why_gone(key)
    return f"; it {why}" if why else ""


def _natural(name: str, parameter: InferParameter) -> int:
    value: int = _value(name, parameter, "int64_param", "uint64_param")
    if value < 0:
        raise InvalidRequest(f"request parameter '{name}' must be 0 or more, got {value}")
    return value


def _value(name: str, parameter: InferParameter, *kinds: str) -> Any:
    kind = parameter.WhichOneof("parameter_choice")
    if kind not in kinds:
        raise InvalidRequest(
            f"invalid value type for '{name}' parameter, expected {' or '.join(kinds)}, got {kind}"
        )
    return getattr(parameter, kind)
