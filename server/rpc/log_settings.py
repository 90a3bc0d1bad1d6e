"""The logging extension's messages to `LogSettings` and back."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from server.errors import InvalidRequest, Unsupported
from server.stubs.inference import grpc_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from server.logs import LogSettings

FORMATS = ("default", "ISO8601")
MAX_QUOTED = 200  # characters of what was sent
# the field that carries each setting
FIELDS = {
    "log_info": "bool_param",
    "log_warning": "bool_param",
    "log_error": "bool_param",
    "log_verbose_level": "uint32_param",
    "log_format": "string_param",
}
KINDS = {"bool_param": "boolean", "uint32_param": "uint32", "string_param": "string"}


def changed(
    settings: LogSettings, asked: Mapping[str, pb.LogSettingsRequest.SettingValue]
) -> LogSettings:
    """With those that are named as they are asked for. Raises InvalidRequest, Unsupported."""
    return replace(settings, **{name: _value(name, value) for name, value in asked.items()})


def told(settings: LogSettings) -> pb.LogSettingsResponse:
    """All of them."""
    response = pb.LogSettingsResponse()
    response.settings["log_file"].string_param = ""  # none: standard error
    for name, value in asdict(settings).items():
        setattr(response.settings[name], FIELDS[name], value)
    return response


def _value(name: str, value: pb.LogSettingsRequest.SettingValue) -> Any:
    if name == "log_file":
        raise Unsupported(
            "log file location can not be updated through network protocol; the server logs to "
            "standard error"
        )
    field = FIELDS.get(name)
    if field is None:
        raise InvalidRequest(
            f"unknown log setting '{name[:MAX_QUOTED]}', expected one of {list(FIELDS)}"
        )
    given = value.WhichOneof("parameter_choice")
    if given != field:
        raise InvalidRequest(
            f"expect {KINDS[field]} for '{name}', got {KINDS.get(given or '', 'nothing')}"
        )
    content = getattr(value, FIELDS[name])
    if name == "log_format" and content not in FORMATS:
        raise InvalidRequest(
            f"invalid argument for log_format, got: {content[:MAX_QUOTED]}; expected one of "
            f"{', '.join(FORMATS)}"
        )
    return content
