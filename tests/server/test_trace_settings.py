"""Trace settings of the server and of single models: what is kept, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from server.errors import InvalidRequest
from server.trace_settings import DEFAULTS, TraceSettings

OTHERS = {  # per setting, a value that is not the default
    "trace_level": ["TIMESTAMPS"],
    "trace_rate": ["7"],
    "trace_count": ["0"],
    "log_frequency": ["4294967295"],
    "trace_file": ["a/path"],
}


def test_what_others_begin_with() -> None:
    told = {name: list(values) for name, values in TraceSettings().told().items()}
    assert told == {
        "trace_level": ["OFF"],
        "trace_rate": ["1000"],
        "trace_count": ["-1"],
        "log_frequency": ["0"],
        "trace_file": [""],
        "trace_mode": ["triton"],
    }


@pytest.mark.parametrize("name", OTHERS)
def test_one_is_set_and_reset(name: str) -> None:
    traces = TraceSettings()
    traces.change("", {name: OTHERS[name]})
    assert traces.told() == DEFAULTS | {name: (*OTHERS[name],)}
    traces.change("", {name: []})
    assert traces.told() == DEFAULTS


def test_a_model_follows_the_server_in_what_was_not_said_of_itself() -> None:
    traces = TraceSettings()
    traces.change("m", {"trace_rate": ["12"], "log_frequency": ["34"]})
    traces.change("", {"trace_rate": ["56"], "trace_count": ["78"]})
    assert traces.told("m") == DEFAULTS | {
        "trace_rate": ("12",), "trace_count": ("78",), "log_frequency": ("34",),
    }  # fmt: skip
    assert traces.told("other") == traces.told()
    traces.change("m", {"trace_rate": []})
    assert traces.told("m")["trace_rate"] == ("56",)
    traces.change("", {"trace_rate": [], "trace_count": []})
    assert traces.told("m") == DEFAULTS | {"log_frequency": ("34",)}
    traces.change("m", {"log_frequency": []})
    assert traces.told("m") == traces.told() == DEFAULTS


@pytest.mark.parametrize(
    ("levels", "told"),
    [
        (["TENSORS", "TIMESTAMPS"], ("TIMESTAMPS", "TENSORS")),
        (["TENSORS", "TENSORS"], ("TENSORS",)),
        (["OFF"], ("OFF",)),
    ],
)
def test_levels(levels: list[str], told: tuple[str, ...]) -> None:
    traces = TraceSettings()
    traces.change("", {"trace_level": levels})
    assert traces.told()["trace_level"] == told


def test_numbers_are_told_in_one_form() -> None:
    traces = TraceSettings()
    traces.change("", {"trace_rate": ["007"], "log_frequency": ["-0"]})
    assert (traces.told()["trace_rate"], traces.told()["log_frequency"]) == (("7",), ("0",))


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("trace_levels", ["OFF"], "unknown trace setting 'trace_levels'"),
        ("", ["OFF"], "unknown trace setting ''"),
        ("trace_level", ["OFF", "TENSORS"], "only one trace level 'OFF'"),
        ("trace_level", ["MAX"], "unknown trace level 'MAX'"),
        ("trace_level", [""], "unknown trace level ''"),
        ("trace_rate", ["1", "2"], "expect only 1 value for 'trace_rate'"),
        ("trace_rate", ["one"], "Unable to parse 'trace_rate', got: one"),
        ("trace_rate", [""], "Unable to parse 'trace_rate', got: "),
        ("trace_rate", ["٣"], "Unable to parse 'trace_rate'"),
        ("trace_rate", ["--3"], "Unable to parse 'trace_rate'"),
        ("trace_rate", ["1.0"], "Unable to parse 'trace_rate'"),
        ("trace_rate", ["-1"], "out of range [ 0, 4294967295 ], got: -1"),
        ("trace_rate", ["4294967296"], "out of range"),
        ("trace_rate", ["9" * 10_000], "out of range"),
        ("trace_count", ["-2"], "out of range [ -1, 2147483647 ]"),
        ("trace_count", ["2147483648"], "out of range"),
        ("log_frequency", ["-5"], "out of range"),
        ("trace_file", ["a", "b"], "expect only 1 value"),
        ("trace_file", ["a" * 5000], "at most 4096"),
        ("trace_mode", ["opentelemetry"], "'trace_mode' cannot be changed"),
    ],
)
@pytest.mark.parametrize("model", ["", "m"])
def test_what_is_refused_changes_nothing(
    model: str, name: str, values: list[str], said: str
) -> None:
    traces = TraceSettings()
    traces.change(model, {"trace_count": ["5"]})
    with pytest.raises(InvalidRequest) as refused:
        traces.change(model, {"trace_count": ["6"], name: values})
    assert said in str(refused.value)
    assert traces.told(model) == DEFAULTS | {"trace_count": ("5",)}


def test_a_rate_of_nothing_is_only_right_while_nothing_is_traced() -> None:
    traces = TraceSettings()
    traces.change("", {"trace_rate": ["0"]})
    for model in ("", "m"):
        with pytest.raises(InvalidRequest, match="trace_rate must be above 0"):
            traces.change(model, {"trace_level": ["TIMESTAMPS"]})
    traces.change("m", {"trace_level": ["TIMESTAMPS"], "trace_rate": ["1"]})
    assert traces.told("m")["trace_level"] == ("TIMESTAMPS",)
    assert traces.told()["trace_level"] == ("OFF",)


def test_the_mode_may_be_said_again() -> None:
    traces = TraceSettings()
    traces.change("", traces.told())
    assert traces.told() == DEFAULTS


@pytest.mark.parametrize("model", ["", "m"])
def test_the_log_says_once_that_no_trace_is_written(model: str) -> None:
    traces = TraceSettings()

    def warnings(settings: dict[str, Any]) -> int:
        with capture_logs() as events:
            traces.change(model, settings)
        return sum("no trace is written" in event["event"] for event in events)

    assert warnings({"trace_rate": ["1"]}) == 0
    assert warnings({"trace_level": ["TENSORS"]}) == 1
    assert warnings({"trace_level": ["TIMESTAMPS"]}) == 0
    assert warnings({"trace_level": ["OFF"]}) == 0
    assert warnings({"trace_level": ["TENSORS"]}) == 1
