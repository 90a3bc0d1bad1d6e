"""`tritonclient` as an operator: loads, unloads and lists models. Prints what it saw as JSON.

python triton_control.py ADDRESS SECOND.onnx   (see triton_script.py)
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

MODEL = "vowels"


def said(call: Any) -> list[str]:
    """Status and text of a call that fails."""
    try:
        call()
    except InferenceServerException as error:
        return [str(error.status()), str(error.message())]
    return ["OK", ""]


def lines(index: dict[str, Any]) -> list[list[str]]:
    return [
        [model["name"], model.get("version", ""), model.get("state", "")]
        for model in index.get("models", [])
    ]


def by_hand(client: Any, other: bytes) -> dict[str, Any]:
    seen: dict[str, Any] = {"at first": lines(client.get_model_repository_index(as_json=True))}
    client.load_model(MODEL)
    seen["loaded"] = lines(client.get_model_repository_index(as_json=True))
    seen["ready"] = client.is_model_ready(MODEL)
    config = client.get_model_config(MODEL, as_json=True)["config"]
    client.load_model(MODEL, config=json.dumps(config | {"max_batch_size": 3}))
    changed = client.get_model_config(MODEL, as_json=True)["config"]
    seen["batch sizes"] = [config["max_batch_size"], changed["max_batch_size"]]
    renamed = json.dumps(config | {"name": "copy"})
    client.load_model("copy", config=renamed, files={"file:1/model.onnx": other})
    seen["with files"] = lines(client.get_model_repository_index(as_json=True))
    client.unload_model("copy", unload_dependents=True)
    client.unload_model(MODEL)
    seen["still ready"] = client.is_model_ready(MODEL)
    seen["unknown"] = said(lambda: client.load_model("unknown"))
    seen["broken"] = said(lambda: client.load_model(MODEL, config="{"))
    return seen


async def by_aio(address: str) -> list[Any]:
    async with triton_aio.InferenceServerClient(address) as client:
        await client.load_model(MODEL)
        loaded = await client.is_model_ready(MODEL)
        index = await client.get_model_repository_index(as_json=True)
        await client.unload_model(MODEL)
        return [loaded, lines(index)[0], await client.is_model_ready(MODEL)]


def main(address: str, other: str) -> None:
    with triton.InferenceServerClient(address) as client:
        seen = by_hand(client, Path(other).read_bytes())
    seen["aio"] = asyncio.run(by_aio(address))
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
