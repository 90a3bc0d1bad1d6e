"""What a program that knows only `tritonclient` sees of trace and log settings. Prints it as JSON.

python triton_settings.py ADDRESS   (never imported: `tritonclient` registers package `inference`)
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

if TYPE_CHECKING:
    from collections.abc import Callable

OPTIONS = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own
CONNECTIONS = 12  # of several processes, each is reached by some of them


def plain(told: dict[str, Any]) -> dict[str, Any]:
    """The client's JSON without the wrapping of each value."""
    return {
        name: setting.get("value", next(iter(setting.values()), None))
        for name, setting in told.get("settings", {}).items()
    }


def refused(call: Callable[[], Any]) -> list[str]:
    try:
        call()
    except InferenceServerException as error:
        return [str(error.status()), str(error.message())]
    raise AssertionError("was not refused")


def by_everybody(address: str, ask: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """What all connections are told alike."""
    told = []
    for _ in range(CONNECTIONS):
        client = triton.InferenceServerClient(address, channel_args=OPTIONS)
        told.append(plain(ask(client)))
        client.close()
    assert all(one == told[0] for one in told), told
    return told[0]


def traces(address: str, client: Any) -> dict[str, Any]:
    levels = ["TIMESTAMPS", "TENSORS"]
    model = {"trace_level": levels, "trace_rate": "5", "log_frequency": "2"}
    update = client.update_trace_settings
    seen = {
        "first": plain(client.get_trace_settings(as_json=True)),
        "model": plain(update("vowels", model, as_json=True)),
        "all": plain(update(settings={"trace_count": "9", "trace_rate": "6"}, as_json=True)),
        "model then": by_everybody(
            address, lambda each: each.get_trace_settings("vowels", as_json=True)
        ),
        "all then": by_everybody(address, lambda each: each.get_trace_settings(as_json=True)),
        "unknown model": refused(lambda: update("nobody", {"trace_rate": "1"})),
        "unknown setting": refused(lambda: update(settings={"rate": "1"})),
    }
    update("vowels", dict.fromkeys(model))
    update(settings={"trace_count": None, "trace_rate": None})
    seen["last"] = by_everybody(
        address, lambda each: each.get_trace_settings("vowels", as_json=True)
    )
    return seen


def logs(address: str, client: Any) -> dict[str, Any]:
    update = client.update_log_settings
    seen = {
        "first": plain(client.get_log_settings(as_json=True)),
        "changed": plain(update({"log_info": False, "log_verbose_level": 1}, as_json=True)),
        "then": by_everybody(address, lambda each: each.get_log_settings(as_json=True)),
        "file": refused(lambda: update({"log_file": "elsewhere"})),
        "format": refused(lambda: update({"log_format": "other"})),
        "cleared": refused(lambda: update({"log_info": None})),
    }
    settings = {"log_info": True, "log_verbose_level": 0, "log_format": "default"}
    seen["last"] = plain(update(settings, as_json=True))
    return seen


async def by_aio(address: str) -> dict[str, Any]:
    async with triton_aio.InferenceServerClient(address) as client:
        return {
            "traces": plain(await client.get_trace_settings(as_json=True)),
            "trace changed": plain(
                await client.update_trace_settings("vowels", {"trace_rate": "3"}, as_json=True)
            ),
            "trace cleared": plain(
                await client.update_trace_settings("vowels", {"trace_rate": None}, as_json=True)
            ),
            "logs": plain(await client.get_log_settings(as_json=True)),
            "log changed": plain(
                await client.update_log_settings({"log_warning": True}, as_json=True)
            ),
        }


def main(address: str) -> None:
    with triton.InferenceServerClient(address) as client:
        seen = {
            "extensions": client.get_server_metadata(as_json=True)["extensions"],
            "traces": traces(address, client),
            "logs": logs(address, client),
        }
    seen["aio"] = asyncio.run(by_aio(address))
    json.dump(seen, sys.stdout)


main(sys.argv[1])
