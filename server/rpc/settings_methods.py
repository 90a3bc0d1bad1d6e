"""GRPCInferenceService: settings that can be changed while the server runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from server import logs
from server.rpc import log_settings
from server.rpc.methods import at_once
from server.stubs.inference import grpc_service_pb2 as pb

if TYPE_CHECKING:
    from server.serving import Serving

log = structlog.get_logger()


class SettingsMethods:
    _serving: Serving

    @at_once
    def TraceSetting(self, request: pb.TraceSettingRequest) -> Any:
        if request.model_name:
            self._serving.catalogue.versions(request.model_name)
        traces = self._serving.traces
        if request.settings:
            asked = {name: (*setting.value,) for name, setting in request.settings.items()}
            traces.change(request.model_name, asked)
        response = pb.TraceSettingResponse()
        for name, values in traces.told(request.model_name).items():
            response.settings[name].value.extend(values)
        return response

    @at_once
    def LogSettings(self, request: pb.LogSettingsRequest) -> Any:
        before = logs.settings()
        after = log_settings.changed(before, request.settings)
        if after != before:
            log.warning("a client changes what is logged", wanted=after.wanted())
            logs.change(after)
        return log_settings.told(after)
