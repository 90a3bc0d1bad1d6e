"""Short forms of what every file here does with the client."""

from __future__ import annotations

import queue
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

if TYPE_CHECKING:
    from collections.abc import Iterator

SUMS = "sums_int32"
LIMIT_S = 30.0


def inputs_of(**arrays: Any) -> list[Any]:
    """Each as the client sends it: name, dtype and shape are the array's."""
    tensors = []
    for name, array in arrays.items():
        tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensors.append(tensor.set_data_from_numpy(array))
    return tensors


def request(
    model: str, x: Any, sequence: int | str = 0, flags: str = "", **options: Any
) -> dict[str, Any]:
    """The arguments of `infer`. `x` is an array, or a number for the sums: one row of it. `flags`:
    "start", "end" or both.
    """
    array = x if isinstance(x, np.ndarray) else np.array([[x]], np.int32)
    return {
        "model_name": model,
        "inputs": inputs_of(x=array),
        "sequence_id": sequence,
        "sequence_start": "start" in flags,
        "sequence_end": "end" in flags,
        **options,
    }


def slow(sequence: int, flags: str = "", turns: int = 1, **options: Any) -> dict[str, Any]:
    """A request that counts those of its sequence, and takes as long as so many turns."""
    return {
        "model_name": "slow",
        "inputs": inputs_of(turns=np.array([turns])),
        "sequence_id": sequence,
        "sequence_start": "start" in flags,
        "sequence_end": "end" in flags,
        **options,
    }


def count(result: Any) -> int:
    number: int = result.as_numpy("count").item()
    return number


def add(client: Any, x: Any, sequence: int | str, flags: str = "", **options: Any) -> Any:
    """The sum after one request of a sequence of `SUMS`, or another `model` of its kind."""
    model = options.pop("model", SUMS)
    return client.infer(**request(model, x, sequence, flags, **options)).as_numpy("sum").item()


def refusal(attempt: Any, *arguments: Any, **options: Any) -> tuple[str, str]:
    """Code and text of what must fail."""
    try:
        attempt(*arguments, **options)
    except InferenceServerException as error:
        return error.status().removeprefix("StatusCode."), error.message()
    raise AssertionError("nothing was refused")


def no_start(sequence: int | str, model: str = SUMS) -> str:
    return (
        f"inference request for sequence {sequence} to model '{model}' must specify the START flag "
        "on the first request of the sequence"
    )


class Answers:
    """What came back over a stream, or to callbacks, in its order."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()

    def callback(self, result: Any, error: Any) -> None:
        self._queue.put((result, error))

    def next(self) -> Any:
        """The next result, or error."""
        result, error = self._queue.get(timeout=LIMIT_S)
        return result if error is None else error

    def sums(self, count: int) -> list[Any]:
        """Of the next ones, which are no errors."""
        results = [self.next() for _ in range(count)]
        errors = [r for r in results if isinstance(r, InferenceServerException)]
        assert not errors, errors
        return [result.as_numpy("sum").item() for result in results]

    @property
    def empty(self) -> bool:
        return self._queue.empty()


@contextmanager
def stream(address: str, **options: Any) -> Iterator[tuple[Any, Answers]]:
    """A client with a stream, and what comes back over it."""
    answers = Answers()
    with triton.InferenceServerClient(address) as client:
        client.start_stream(answers.callback, **options)
        yield client, answers
