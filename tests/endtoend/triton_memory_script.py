"""What a program that knows only `tritonclient` does with shared memory and classes. Prints what it
saw as JSON.

python triton_memory_script.py ADDRESS UTTERANCES.npz   (never imported, as triton_script.py)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import secrets
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
import tritonclient.utils.shared_memory as memory
from tritonclient.utils import InferenceServerException

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "vowels"
FRAME, OUTPUT = 12 * 4, 9 * 4  # bytes of a timestep
SIZE = 64 * FRAME
KEYS = {name: f"/rnnserve-test-{name}-{secrets.token_hex(6)}" for name in ("in", "out")}


@contextlib.contextmanager
def segments() -> Iterator[tuple[Any, Any]]:
    with contextlib.ExitStack() as stack:
        handles = []
        for name, key in KEYS.items():
            handles.append(memory.create_shared_memory_region(name, key, SIZE, create_only=True))
            stack.callback(memory.destroy_shared_memory_region, handles[-1])
        yield handles[0], handles[1]


def input_at(shape: list[int], byte_size: int, offset: int = 0, region: str = "in") -> list[Any]:
    tensor = triton.InferInput("frames", shape, "FP32")
    tensor.set_shared_memory(region, byte_size, offset)
    return [tensor]


def output_at(byte_size: int, offset: int = 0, region: str = "out") -> list[Any]:
    wanted = triton.InferRequestedOutput("probabilities")
    wanted.set_shared_memory(region, byte_size, offset)
    return [wanted]


def numpy_of(handle: Any, timesteps: int, offset: int = 0) -> list[list[float]]:
    found = memory.get_contents_as_numpy(handle, np.float32, [timesteps, 9], offset)
    rows: list[list[float]] = found.tolist()
    return rows


def by_infer(client: Any, ins: Any, out: Any, frames: Any) -> dict[str, Any]:
    """One timestep after the other, all in the same place."""
    rows = []
    for t, frame in enumerate(frames):
        memory.set_shared_memory_region(ins, [frame])
        flags = {"sequence_start": t == 0, "sequence_end": t == len(frames) - 1}
        result = client.infer(
            MODEL, input_at([1, 1, 12], FRAME), outputs=output_at(OUTPUT), sequence_id=1, **flags
        )
        rows += numpy_of(out, 1)
    response = result.get_response()
    described = result.get_output("probabilities")
    return {
        "rows": rows,
        "raw": [len(raw) for raw in response.raw_output_contents],
        "shape": list(described.shape),
        "datatype": described.datatype,
    }


def by_stream(client: Any, ins: Any, out: Any, frames: Any) -> dict[str, Any]:
    """Everything is sent before the answers are read: each timestep has its own place."""
    memory.set_shared_memory_region(ins, [frames])
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put(error))
    for t in range(len(frames)):
        client.async_stream_infer(
            MODEL,
            input_at([1, 1, 12], FRAME, t * FRAME),
            outputs=output_at(OUTPUT, t * OUTPUT),
            sequence_id=2,
            sequence_start=t == 0,
            sequence_end=t == len(frames) - 1,
        )
    errors = [answers.get(timeout=30) for _ in frames]
    client.stop_stream()
    return {
        "rows": numpy_of(out, len(frames)),
        "errors": [error.message() for error in errors if error is not None],
    }


async def by_asyncio(address: str, ins: Any, out: Any, frames: Any) -> dict[str, Any]:
    """The whole sequence at once, in a region of its own of the same segments."""
    offset, byte_size = 16, len(frames) * FRAME
    memory.set_shared_memory_region(ins, [frames], offset)
    async with triton_aio.InferenceServerClient(address) as client:
        await client.register_system_shared_memory("aio in", KEYS["in"], byte_size, offset)
        await client.register_system_shared_memory("aio out", KEYS["out"], SIZE - 8, 8)
        status = await client.get_system_shared_memory_status("aio in", as_json=True)
        await client.infer(
            MODEL,
            input_at([1, len(frames), 12], byte_size, region="aio in"),
            outputs=output_at(len(frames) * OUTPUT, region="aio out"),
            sequence_id=3,
            sequence_start=True,
            sequence_end=True,
        )
        for name in ("aio in", "aio out"):
            await client.unregister_system_shared_memory(name)
    return {"rows": numpy_of(out, len(frames), 8), "status": status, "offset": offset}


def classes(client: Any, frames: Any) -> Any:
    tensor = triton.InferInput("frames", [1, 1, 12], "FP32")
    tensor.set_data_from_numpy(frames[None, :1])
    result = client.infer(
        MODEL,
        [tensor],
        outputs=[triton.InferRequestedOutput("probabilities", class_count=3)],
        sequence_id=4,
        sequence_start=True,
        sequence_end=True,
    )
    found = result.as_numpy("probabilities")
    return {"shape": found.shape, "texts": [text.decode() for text in found.ravel()]}


def refused(client: Any) -> dict[str, Any]:
    """Status and text of what must fail."""
    start = {"sequence_id": 5, "sequence_start": True}
    register = client.register_system_shared_memory

    def infer(given: list[Any], wanted: list[Any]) -> None:
        client.infer(MODEL, given, outputs=wanted, **start)

    right = input_at([1, 1, 12], FRAME)
    attempts = {
        "twice": lambda: register("in", KEYS["in"], SIZE),
        "too long": lambda: register("long", KEYS["in"], 2**40),
        "no segment": lambda: register("none", "/rnnserve-nowhere", 8),
        "elsewhere": lambda: register("none", "/../../etc/passwd", 8),
        "status": lambda: client.get_system_shared_memory_status("none"),
        "no region": lambda: infer(right, output_at(OUTPUT, region="none")),
        "offset": lambda: infer(right, output_at(OUTPUT, SIZE)),
        "bounds": lambda: infer(right, output_at(OUTPUT, SIZE - OUTPUT + 1)),
        "too small": lambda: infer(right, output_at(OUTPUT - 1)),
        "too large": lambda: infer(input_at([1, 1, 12], FRAME + 4), output_at(OUTPUT)),
        "cuda": lambda: client.register_cuda_shared_memory("c", b"QUJD", 0, 8),
    }
    found = {}
    for name, attempt in attempts.items():
        try:
            attempt()
        except InferenceServerException as error:
            found[name] = [error.status(), error.message()]
    return found


def status_of(client: Any) -> dict[str, Any]:
    regions: dict[str, Any] = client.get_system_shared_memory_status(as_json=True)
    return regions.get("regions", {})


def main() -> None:
    address, file = sys.argv[1:]
    with np.load(file) as arrays:
        frames = arrays["arr_0"]
    with triton.InferenceServerClient(address) as client, segments() as (ins, out):
        client.unregister_system_shared_memory()  # as its own examples begin
        client.unregister_cuda_shared_memory()
        for name, key in KEYS.items():
            client.register_system_shared_memory(name, key, SIZE)
        seen = {
            "status": status_of(client),
            "infer": by_infer(client, ins, out, frames),
            "stream": by_stream(client, ins, out, frames),
            "aio": asyncio.run(by_asyncio(address, ins, out, frames)),
            "classes": classes(client, frames),
            "refused": refused(client),
            "cuda": client.get_cuda_shared_memory_status(as_json=True),
            "extensions": list(client.get_server_metadata().extensions),
            "keys": KEYS,
        }
        client.unregister_system_shared_memory()
        seen["left"] = status_of(client)
    json.dump(seen, sys.stdout)


main()
