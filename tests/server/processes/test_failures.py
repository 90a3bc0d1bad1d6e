"""An error that crosses from one process to another is the same on the other side."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from server import errors
from server.processes.failures import error_of
from server.rpc.status import STATUS, failure


def crossed(error: Exception) -> errors.RequestError:
    code, text, metadata = failure(error)
    return error_of(AioRpcError(code, Metadata(), Metadata(*metadata), details=text), process=3)


@pytest.mark.parametrize("kind", list(STATUS), ids=lambda kind: kind.__name__)
def test_every_kind(kind: type[Any]) -> None:
    extra = {errors.LimitReached: (2.5,), errors.StepGap: (17,)}.get(kind, ())
    error = kind("what was wrong", *extra)
    again = crossed(error)
    assert type(again) is kind
    assert failure(again) == failure(error)


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
def test_a_process_that_is_no_more(code: grpc.StatusCode) -> None:
    error = error_of(AioRpcError(code, Metadata(), Metadata(), details="broken pipe"), process=3)
    assert isinstance(error, errors.SessionNotFound)
    assert "process 3" in str(error)


def test_what_nobody_expects_is_a_bug() -> None:
    failed = AioRpcError(grpc.StatusCode.UNKNOWN, Metadata(), Metadata(), details="surprise")
    error = error_of(failed, process=3)
    assert isinstance(error, errors.InternalError)
    assert "surprise" in str(error)
