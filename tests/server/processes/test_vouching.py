"""What is passed on to another process was allowed to its caller: there nobody asks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from server.errors import InvalidRequest, NotAllowed
from server.processes.inference_service import RoutedInferenceService
from server.rpc.caller import Caller
from server.shared_memory import Regions
from server.stubs.inference import grpc_service_pb2 as pb

ELSEWHERE = Caller(lambda: (), lambda: "192.0.2.1")
HERE = Caller(lambda: (), lambda: "127.0.0.1")


class Catalogue:
    """Nothing is right here, so that everything is looked for elsewhere."""

    def homes(self, name: str, version: str) -> Any:
        raise InvalidRequest("not here")


class Peer:
    inference = SimpleNamespace(ModelInfer=print)
    broken = False  # it is the way there, too

    def __init__(self) -> None:
        self.passed_on: list[Any] = []

    def send(self, request: Any, receive: Any) -> None:
        self.passed_on.append(request)


class Routes:
    """To the other process, which has everything."""

    def __init__(self) -> None:
        self.peer = Peer()

    def elsewhere(self, ids: Any) -> Any:
        return self.peer

    def pass_on(self, peer: Peer, method: Any, request: Any, respond: Any) -> None:
        peer.send(request, respond)


def request(*, side: str = "") -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name="m")
    made.inputs.add(name="x")
    made.outputs.add(name="y")
    if side:
        getattr(made, side)[0].parameters["shared_memory_region"].string_param = "r"
    return made


@pytest.fixture
def routes() -> Routes:
    return Routes()


@pytest.fixture
def service(routes: Any) -> RoutedInferenceService:
    serving: Any = SimpleNamespace(catalogue=Catalogue(), regions=Regions())
    return RoutedInferenceService(serving, 8, routes, control=None)


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_shared_memory_of_a_caller_who_may_not(
    service: RoutedInferenceService, routes: Routes, side: str
) -> None:
    infer = RoutedInferenceService.ModelInfer.begin
    with pytest.raises(NotAllowed):
        infer(service, request(side=side), None, ELSEWHERE)
    assert not routes.peer.passed_on
    infer(service, request(side=side), None, HERE)
    infer(service, request(), None, ELSEWHERE)
    assert routes.peer.passed_on == [request(side=side), request()]


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_the_same_in_a_stream(service: RoutedInferenceService, routes: Routes, side: str) -> None:
    answers: list[Any] = []
    slot: Any = SimpleNamespace(fill=answers.append)
    stream: Any = service.stream(ELSEWHERE)
    stream._upstreams[routes.peer] = routes.peer
    stream.handle(request(side=side), slot)
    stream.handle(request(), slot)
    assert "setting shared_memory: local" in answers[0].error_message
    assert (len(answers), routes.peer.passed_on) == (1, [request()])
