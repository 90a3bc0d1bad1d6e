"""`tritonclient` with sequences of "encoder" and "decoder" (see test_beginnings.py). Prints what it
got as JSON: by infer after each other, then by stream without waiting.

python triton_beginnings.py ADDRESS
"""

from __future__ import annotations

import json
import queue
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as triton

X = np.array([[[1, 2], [3, 4]]])
GAIN = np.array([[2, 3]])
STATES_OF = "rnnserve_states_of"


def inputs(**arrays: Any) -> list[Any]:
    tensors = []
    for name, array in arrays.items():
        tensors.append(triton.InferInput(name, list(array.shape), "INT64"))
        tensors[-1].set_data_from_numpy(array)
    return tensors


def main() -> None:
    results: queue.SimpleQueue[Any] = queue.SimpleQueue()
    requests: list[dict[str, Any]] = [
        {"model_name": "encoder", "inputs": inputs(x=X), "sequence_id": 7, "sequence_start": True},
        {"model_name": "decoder", "inputs": inputs(x=X, gain=GAIN), "sequence_id": 8,
         "sequence_start": True, "parameters": {STATES_OF: "encoder/7"}},
        {"model_name": "decoder", "inputs": inputs(x=X), "sequence_id": 8, "sequence_end": True},
        {"model_name": "encoder", "inputs": inputs(x=X), "sequence_id": 7, "sequence_end": True},
    ]  # fmt: skip
    with triton.InferenceServerClient(sys.argv[1]) as client:
        got = [client.infer(**request) for request in requests]
        client.start_stream(lambda result, error: results.put(error or result))
        for request in requests:
            client.async_stream_infer(**request)
        streamed = [results.get(timeout=20) for _ in requests]
        metadata = client.get_model_metadata("decoder")
        config = client.get_model_config("decoder").config
    # load generators look every input of the one up in the other
    names = [
        [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in metadata.inputs],
        [
            (tensor.name, triton.model_config_pb2.DataType.Name(tensor.data_type)[5:],
             [-1, *tensor.dims])
            for tensor in config.input
        ],
    ]  # fmt: skip
    outputs = [[result.as_numpy("y") for result in way] for way in (got, streamed)]
    shown = [[None if y is None else y.tolist() for y in way] for way in outputs]
    print(json.dumps({"inputs": names, "outputs": shown}))


if __name__ == "__main__":
    main()
