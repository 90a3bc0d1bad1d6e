"""Trace and log settings on the wire: told, changed, refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
import structlog

from server import logs
from server.stubs.inference import grpc_service_pb2 as oip
from server.trace_settings import DEFAULTS

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACES = {name: list(values) for name, values in DEFAULTS.items()}
LOGS = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    before = structlog.get_config()
    logs.configure("console", "info")
    yield
    structlog.configure(**before)


async def trace(rig: Any, model: str = "", **settings: list[str]) -> dict[str, list[str]]:
    request = oip.TraceSettingRequest(model_name=model)
    for name, values in settings.items():
        request.settings[name].value.extend(values)
    response = await rig.inference.TraceSetting(request)
    return {name: list(setting.value) for name, setting in response.settings.items()}


async def log(rig: Any, **settings: Any) -> dict[str, Any]:
    """With each value in the field of its type; None in none."""
    kinds = {bool: "bool_param", int: "uint32_param", str: "string_param"}
    request = oip.LogSettingsRequest()
    for name, value in settings.items():
        setting = request.settings[name]
        if value is not None:
            setattr(setting, kinds[type(value)], value)
    response = await rig.inference.LogSettings(request)
    fields = {name: s.WhichOneof("parameter_choice") for name, s in response.settings.items()}
    return {name: getattr(response.settings[name], field) for name, field in fields.items()}


async def test_traces_are_told_and_changed(rig: Any) -> None:
    assert await trace(rig) == await trace(rig, "fold") == TRACES
    changed = TRACES | {"trace_level": ["TIMESTAMPS"], "trace_file": ["f"]}
    assert await trace(rig, "fold", trace_level=["TIMESTAMPS"], trace_file=["f"]) == changed
    assert await trace(rig, "fold") == changed
    assert await trace(rig) == await trace(rig, "mixed") == TRACES
    assert await trace(rig, trace_count=["3"]) == TRACES | {"trace_count": ["3"]}
    assert await trace(rig, "fold") == changed | {"trace_count": ["3"]}
    assert await trace(rig, "fold", trace_level=[], trace_file=[]) == await trace(rig)


@pytest.mark.parametrize("settings", [{}, {"trace_rate": ["1"]}])
async def test_traces_of_an_unknown_model(rig: Any, settings: dict[str, list[str]]) -> None:
    call = trace(rig, "nobody", **settings)
    error = await rig.refused(call, grpc.StatusCode.NOT_FOUND, "ModelNotFound")
    assert error.details() == "Request for unknown model: 'nobody' is not found"


async def test_a_refused_trace_setting(rig: Any) -> None:
    call = trace(rig, trace_rate=["1"], rate=["2"])
    await rig.refused(call, grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest")
    assert await trace(rig) == TRACES


async def test_logs_are_told_and_changed(rig: Any) -> None:
    assert await log(rig) == LOGS
    assert await log(rig, log_info=False) == LOGS | {"log_info": False}
    assert logs.settings().wanted() == ["warning", "error"]
    both = {"log_verbose_level": 2, "log_format": "ISO8601"}
    assert await log(rig, **both) == await log(rig) == LOGS | {"log_info": False} | both
    assert logs.settings().wanted() == ["debug", "warning", "error"]
    assert await log(rig, log_info=True, log_verbose_level=0, log_format="default") == LOGS


async def test_the_log_says_that_it_changes(rig: Any, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("console", "info")  # to where the test reads
    await log(rig, log_warning=False)
    await log(rig, log_warning=False)
    assert capsys.readouterr().err.count("a client changes what is logged") == 1


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("log_info", 1, "expect boolean for 'log_info', got uint32"),
        ("log_warning", "true", "expect boolean for 'log_warning', got string"),
        ("log_error", None, "expect boolean for 'log_error', got nothing"),
        ("log_verbose_level", True, "expect uint32 for 'log_verbose_level', got boolean"),
        ("log_format", 1, "expect string for 'log_format', got uint32"),
        ("log_format", "iso8601", "invalid argument for log_format, got: iso8601"),
        ("log_warnings", False, "unknown log setting 'log_warnings'"),
        ("", False, "unknown log setting ''"),
        ("x" * 100_000, False, "unknown log setting 'xxx"),
    ],
)
async def test_a_refused_log_setting(rig: Any, name: str, value: Any, said: str) -> None:
    call = log(rig, log_info=False, **{name: value}) if name != "log_info" else log(rig, log_info=1)
    error = await rig.refused(call, grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest")
    assert error.details().startswith(said)
    assert await log(rig) == LOGS


async def test_the_log_goes_where_it_goes(rig: Any) -> None:
    call = log(rig, log_info=False, log_file="/tmp/elsewhere")
    error = await rig.refused(call, grpc.StatusCode.UNIMPLEMENTED, "Unsupported")
    said = "log file location can not be updated through network protocol"
    assert error.details().startswith(said)
    assert await log(rig) == LOGS


async def test_the_server_says_that_it_has_them(rig: Any) -> None:
    told = await rig.inference.ServerMetadata(oip.ServerMetadataRequest())
    assert {"trace", "logging"} <= set(told.extensions)
