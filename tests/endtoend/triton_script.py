"""What a program that knows only `tritonclient` does with the server. Prints what it saw as JSON.

python triton_script.py ADDRESS UTTERANCES.npz   (never imported: `tritonclient` registers package
`inference` in its process, and so does the server)
"""

from __future__ import annotations

import asyncio
import json
import queue
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

MODEL = "vowels"


def inputs_of(frames: Any) -> list[Any]:
    tensor = triton.InferInput("frames", [1, *frames.shape], "FP32")
    tensor.set_data_from_numpy(frames[None])
    return [tensor]


def output_of(result: Any) -> list[list[float]]:
    found: list[list[float]] = result.as_numpy("probabilities")[0].tolist()
    return found


def asked(client: Any) -> dict[str, Any]:
    """What there is, in the client's own JSON."""
    return {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready(MODEL),
        "model_ready_1": client.is_model_ready(MODEL, "1"),
        "other_ready": client.is_model_ready("other"),
        "server": client.get_server_metadata(as_json=True),
        "metadata": client.get_model_metadata(MODEL, as_json=True),
        "config": client.get_model_config(MODEL, as_json=True)["config"],
    }


def by_infer(client: Any, utterances: list[Any]) -> dict[str, Any]:
    """Sequences one request at a time, interleaved; ids are numbers and texts in turn."""
    ids = [number + 1 if number % 2 else f"utterance {number}" for number in range(len(utterances))]
    got: list[list[Any]] = [[] for _ in utterances]
    for t in range(max(map(len, utterances))):
        for number, frames in enumerate(utterances):
            if t < len(frames):
                result = client.infer(
                    MODEL,
                    inputs_of(frames[t : t + 1]),
                    request_id=f"{number}/{t}",
                    outputs=[triton.InferRequestedOutput("probabilities")],
                    sequence_id=ids[number],
                    sequence_start=t == 0,
                    sequence_end=t == len(frames) - 1,
                    priority=1,
                    timeout=10_000_000,
                )
                assert result.get_response().id == f"{number}/{t}"
                got[number] += output_of(result)
    return {"outputs": got}


def by_stream(client: Any, utterances: list[Any]) -> dict[str, Any]:
    """The same over one stream with a callback; everything is sent before the answers are read."""
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    sent = []
    for t in range(max(map(len, utterances))):
        for number, frames in enumerate(utterances):
            if t < len(frames):
                client.async_stream_infer(
                    MODEL,
                    inputs_of(frames[t : t + 1]),
                    request_id=f"{number}/{t}",
                    sequence_id=1000 + number,
                    sequence_start=t == 0,
                    sequence_end=t == len(frames) - 1,
                    enable_empty_final_response=True,
                )
                sent.append(number)
    got: list[list[Any]] = [[] for _ in utterances]
    order = []
    for _ in sent:
        result, error = answers.get(timeout=30)
        assert error is None, error
        response = result.get_response()
        assert response.parameters["triton_final_response"].bool_param
        order.append(response.id)
        got[int(response.id.partition("/")[0])] += output_of(result)
    # an error is told, and the stream goes on
    client.async_stream_infer(MODEL, inputs_of(utterances[0][:1]), sequence_id=5000)
    _, error = answers.get(timeout=30)
    whole = {"sequence_id": 5000, "sequence_start": True, "sequence_end": True}
    client.async_stream_infer(MODEL, inputs_of(utterances[0]), **whole)
    result, nothing = answers.get(timeout=30)
    assert nothing is None
    client.stop_stream()
    return {"outputs": got, "order": order, "error": error.message(), "after": output_of(result)}


def cancelled(client: Any, frames: Any) -> dict[str, Any]:
    """A stream that is dropped with requests on the way."""
    client.start_stream(callback=lambda result, error: None)
    for t in range(len(frames)):
        client.async_stream_infer(
            MODEL, inputs_of(frames[t : t + 1]), sequence_id=7000, sequence_start=t == 0
        )
    client.stop_stream(cancel_requests=True)
    whole = {"sequence_id": 7000, "sequence_start": True, "sequence_end": True}
    return {"after": output_of(client.infer(MODEL, inputs_of(frames), **whole))}


def refused(client: Any, frames: Any) -> dict[str, Any]:
    """Status and text of what must fail."""
    inputs = inputs_of(frames[:1])
    wrong_type = triton.InferInput("frames", [1, 1, 12], "INT32")
    wrong_type.set_data_from_numpy(np.zeros((1, 1, 12), np.int32))
    wrong_shape = triton.InferInput("frames", [1, 1, 11], "FP32")
    wrong_shape.set_data_from_numpy(np.zeros((1, 1, 11), np.float32))
    start = {"sequence_id": 9000, "sequence_start": True}
    other = [triton.InferRequestedOutput("other")]
    attempts = {
        "no START": lambda: client.infer(MODEL, inputs, sequence_id=9000),
        "no id": lambda: client.infer(MODEL, inputs),
        "type": lambda: client.infer(MODEL, [wrong_type], **start),
        "shape": lambda: client.infer(MODEL, [wrong_shape], **start),
        "output": lambda: client.infer(MODEL, inputs, outputs=other, **start),
        "model": lambda: client.infer("other", inputs, **start),
        "version": lambda: client.infer(MODEL, inputs, model_version="2", **start),
        "metadata": lambda: client.get_model_metadata("other"),
        "load": lambda: client.load_model(MODEL),
    }
    found = {}
    for name, attempt in attempts.items():
        try:
            attempt()
        except InferenceServerException as error:
            found[name] = [error.status(), error.message()]
    return found


def statistics(client: Any) -> Any:
    return client.get_inference_statistics(MODEL, as_json=True)["model_stats"]


async def by_asyncio(address: str, utterances: list[Any]) -> dict[str, Any]:
    async with triton_aio.InferenceServerClient(address) as client:

        async def play(number: int, frames: Any) -> list[Any]:
            got: list[Any] = []
            for t in range(len(frames)):
                result = await client.infer(
                    MODEL,
                    inputs_of(frames[t : t + 1]),
                    sequence_id=2000 + number,
                    sequence_start=t == 0,
                    sequence_end=t == len(frames) - 1,
                )
                got += output_of(result)
            return got

        plays = (play(number, frames) for number, frames in enumerate(utterances))
        outputs = await asyncio.gather(*plays)

        async def requests() -> Any:
            for t, frame in enumerate(utterances[0]):
                yield {
                    "model_name": MODEL,
                    "inputs": inputs_of(frame[None]),
                    "sequence_id": 3000,
                    "sequence_start": t == 0,
                    "sequence_end": t == len(utterances[0]) - 1,
                }

        streamed: list[Any] = []
        async for result, error in client.stream_infer(requests()):
            assert error is None, error
            streamed += output_of(result)
        return {"outputs": outputs, "streamed": streamed}


def beside_the_other_client(address: str, triton_client: Any, frames: Any) -> dict[str, Any]:
    """Both clients in one process: neither registers the other's messages."""
    import rnnserve

    with rnnserve.connect(address) as client, client.session(MODEL) as session:
        ours = [session.step(frame).tolist() for frame in frames]
    theirs = triton_client.infer(
        MODEL, inputs_of(frames), sequence_id=4000, sequence_start=True, sequence_end=True
    )
    return {"ours": ours, "theirs": output_of(theirs)}


def main() -> None:
    address, file = sys.argv[1:]
    with np.load(file) as arrays:
        utterances = list(arrays.values())
    with triton.InferenceServerClient(address) as client:
        seen = {
            "asked": asked(client),
            "infer": by_infer(client, utterances[:5]),
            "stream": by_stream(client, utterances),
            "cancelled": cancelled(client, utterances[0]),
            "refused": refused(client, utterances[0]),
            "both": beside_the_other_client(address, client, utterances[0]),
            "aio": asyncio.run(by_asyncio(address, utterances)),
            "statistics": statistics(client),
        }
    json.dump(seen, sys.stdout)


main()
