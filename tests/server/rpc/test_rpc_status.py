"""Errors on the wire: every kind has a status, and every status arrives."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from structlog.testing import capture_logs

from rnnserve.v1 import session_pb2 as pb
from server import errors
from server.rpc.status import STATUS, code_of, expected

if TYPE_CHECKING:
    from collections.abc import Iterator


def subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


def test_every_kind_of_error_has_a_status() -> None:
    abstract = {errors.OpenInferenceError}
    assert set(STATUS) == set(subclasses(errors.RequestError)) - abstract


@pytest.mark.parametrize("kind", sorted(STATUS, key=lambda kind: kind.__name__))
def test_an_expected_error_is_shown_as_it_is(kind: type[errors.RequestError]) -> None:
    error = kind("said to the caller")
    with capture_logs() as logs:
        assert expected(error) is error
    assert code_of(error) is STATUS[kind]
    assert not logs


def test_the_client_knows_every_kind() -> None:
    import rnnserve.errors

    kinds = {kind for kind in STATUS if not issubclass(kind, errors.OpenInferenceError)}
    assert {kind.__name__ for kind in kinds} <= set(dir(rnnserve.errors))


def test_a_bug_shows_nothing_of_itself_but_the_log_has_it() -> None:
    bug = KeyError("secret")
    with capture_logs() as logs:
        shown = expected(bug)
    assert code_of(shown) is grpc.StatusCode.INTERNAL
    assert "secret" not in str(shown)
    assert [log["exc_info"] for log in logs] == [bug]


async def test_a_bug_in_a_method_answers_internal(rig: Any) -> None:
    del rig.serving.sessions  # nothing works any more
    with capture_logs() as logs:
        call = rig.sessions.GetStates(pb.GetStatesRequest())
        error = await rig.refused(call, grpc.StatusCode.INTERNAL, "InternalError")
    assert "sessions" not in error.details()
    assert len(logs) == 1


async def test_a_text_longer_than_http_headers_may_be_arrives_cut(rig: Any) -> None:
    key = await rig.open()
    before = await rig.states(key)
    inputs = [rig.tensor("x" * 1_000_000, 0)]
    call = rig.sessions.Step(pb.StepRequest(session=key, inputs=inputs))
    error = await rig.refused(call, grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest")
    assert error.details().startswith("unexpected inference input 'xxx")
    assert await rig.states(key) == before


@pytest.mark.parametrize("name", ["\x00\n\r%", "ünï 中", "'\"\\"])
async def test_any_text_arrives_as_it_was(rig: Any, name: str) -> None:
    call = rig.sessions.OpenSession(pb.OpenSessionRequest(model_name=name))
    error = await rig.refused(call, grpc.StatusCode.NOT_FOUND, "ModelNotFound")
    assert error.details() == f"Request for unknown model: '{name}' is not found"


def test_every_error_says_what_it_is_for() -> None:
    for kind in subclasses(errors.RequestError):
        assert inspect.getdoc(kind) != inspect.getdoc(errors.RequestError), kind
