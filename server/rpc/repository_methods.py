"""GRPCInferenceService: which models there are, loading and unloading."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from server.errors import InvalidRequest
from server.overrides import Override
from server.rpc.methods import at_once, later, nothing_to_cancel
from server.stubs.inference import grpc_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from server.control import Entry, ModelControl
    from server.rpc.methods import Cancel, Respond

CONFIG, FILE = "config", "file:"
UNLOAD_DEPENDENTS = "unload_dependents"  # of ensembles, which there are none of
_under_way: set[asyncio.Task[None]] = set()


class RepositoryMethods:
    _control: ModelControl

    @at_once
    def RepositoryIndex(self, request: pb.RepositoryIndexRequest) -> Any:
        _check_repository(request.repository_name)
        entries = (_index_entry(entry) for entry in self._control.index())
        return pb.RepositoryIndexResponse(
            models=[entry for entry in entries if not request.ready or entry.state == "READY"]
        )

    @later
    def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, respond: Respond
    ) -> Cancel:
        _check_repository(request.repository_name)
        work = self._control.load(request.model_name, _override(request.parameters))
        return _to_its_end(work, pb.RepositoryModelLoadResponse(), respond)

    @later
    def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, respond: Respond
    ) -> Cancel:
        _check_repository(request.repository_name)
        for name, parameter in request.parameters.items():
            if name != UNLOAD_DEPENDENTS:
                raise InvalidRequest(
                    f"unload parameter '{name}' is not known; expected {UNLOAD_DEPENDENTS}"
                )
            _value(name, parameter, "bool_param")
        work = self._control.unload(request.model_name)
        return _to_its_end(work, pb.RepositoryModelUnloadResponse(), respond)


def _to_its_end(work: Coroutine[Any, Any, None], answer: Any, respond: Respond) -> Cancel:
    """Do what was asked for, even if the caller does not wait so long."""

    async def run() -> None:
        try:
            await work
        except Exception as error:
            respond(error)
        else:
            respond(answer)

    task = asyncio.get_running_loop().create_task(run())
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)
    return nothing_to_cancel


def _check_repository(name: str) -> None:
    """Raises InvalidRequest."""
    if name:
        raise InvalidRequest(
            f"repository_name '{name}': this server has one repository; leave the name out"
        )


def _index_entry(entry: Entry) -> pb.RepositoryIndexResponse.ModelIndex:
    version = str(entry.version) if entry.version else ""
    if entry.report is None:
        return pb.RepositoryIndexResponse.ModelIndex(name=entry.name, version=version)
    return pb.RepositoryIndexResponse.ModelIndex(
        name=entry.name,
        version=version,
        state=entry.report.state,
        reason=entry.report.reason,
    )


def _override(parameters: Mapping[str, pb.ModelRepositoryParameter]) -> Override | None:
    """What the request brings in place of what lies in the repository. Raises InvalidRequest."""
    config: str | None = None
    files = {}
    for name, parameter in parameters.items():
        if name == CONFIG:
            config = _value(name, parameter, "string_param")
        elif name.startswith(FILE):
            files[name.removeprefix(FILE)] = _value(name, parameter, "bytes_param")
        else:
            raise InvalidRequest(
                f"load parameter '{name}' is not known; expected {CONFIG} or {FILE}<path>"
            )
    if config is not None:
        return Override(config, files)
    if files:
        raise InvalidRequest(
            f"load parameter '{FILE}{next(iter(files))}': files replace all of the model, so its "
            f"configuration must come with them, as JSON in the parameter '{CONFIG}'"
        )
    return None


def _value(name: str, parameter: pb.ModelRepositoryParameter, kind: str) -> Any:
    found = parameter.WhichOneof("parameter_choice")
    if found != kind:
        raise InvalidRequest(f"parameter '{name}' must be {kind}, got {found}")
    return getattr(parameter, kind)
