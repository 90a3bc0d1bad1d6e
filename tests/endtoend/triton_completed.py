"""What a program that knows only `tritonclient` sees of models whose configuration is not all
there. Prints it as JSON.

python triton_completed.py ADDRESS   (never imported, as triton_script.py)
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException


def infer(client: Any, model: str, arrays: dict[str, Any], **more: Any) -> Any:
    """The outputs by name, or the error's text."""
    inputs = []
    for name, values in arrays.items():
        array = np.asarray(values, np.float32)
        inputs.append(triton.InferInput(name, array.shape, "FP32"))
        inputs[-1].set_data_from_numpy(array)
    try:
        answer = client.infer(model, inputs, **more)
    except InferenceServerException as error:
        return error.message()
    names = [output.name for output in answer.get_response().outputs]
    return {name: answer.as_numpy(name).tolist() for name in names}


def main(address: str) -> None:
    with triton.InferenceServerClient(address) as client:
        models = ("plain", "numbers", "shaped")
        seen: dict[str, Any] = {
            "config": {m: client.get_model_config(m, as_json=True)["config"] for m in models},
            "metadata": {m: client.get_model_metadata(m, as_json=True) for m in models},
            "plain": infer(client, "plain", {"x": [[1, 2], [3, 4]]}),
            "numbers": infer(client, "numbers", {"x": [[1], [2], [3]]}),
            "as in the graph": infer(client, "numbers", {"x": [1, 2, 3]}),
        }
        x = [[[1, 2], [3, 4]]]  # (batch, 2, 2)
        bias = [[10, 20, 30, 40]]
        steps = ({"x": x}, {"x": x, "bias": bias}, {"x": x})
        seen["shaped"] = [
            infer(client, "shaped", step, sequence_id=7, sequence_start=not n, sequence_end=n == 2)
            for n, step in enumerate(steps)
        ]
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
