"""The same server over models that are a few lines of numpy each: see `MODELS`.

They compute in integers, which lose nothing: any step that is lost, doubled, out of turn or of
another session shows in every later answer.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from server.repository.spec import ControlSpec, ModelSpec, StateSpec, TensorSpec
from server.stubs.inference.model_config_pb2 import ModelConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]
    Function = Callable[[Arrays], Arrays]

WIRE = {
    **{"?": "BOOL", "i1": "INT8", "i4": "INT32", "i8": "INT64", "u2": "UINT16", "f2": "FP16"},
    **{"f4": "FP32", "f8": "FP64"},
}


class NumpyEngine:
    """`function` goes from inputs, states and constants to outputs and new states, by name."""

    def __init__(self, spec: ModelSpec, rows: int, function: Function) -> None:
        self.spec = spec
        self.function = function
        kept = (*spec.states, *spec.constants)
        self.pools = {s.name: np.repeat(s.initial[None], rows, axis=0) for s in kept}

    def run(
        self, inputs: Mapping[str, Any], read: NDArray[np.int64], write: NDArray[np.int64]
    ) -> Arrays:
        for tensor in self.spec.fed:
            assert inputs[tensor.name].dtype == tensor.dtype
            assert inputs[tensor.name].flags.c_contiguous
            assert self.spec.max_batch_size == 0 or len(inputs[tensor.name]) == len(read)
        after = self.function({**inputs, **self.read(read)})
        for constant in self.spec.constants:  # they ride along
            after[constant.name] = self.pools[constant.name][read]
        self.write(write, {name: after[name] for name in self.pools})
        return {output.name: after[output.name] for output in self.spec.outputs}

    def read(self, rows: NDArray[np.int64]) -> Arrays:
        return {name: pool[rows] for name, pool in self.pools.items()}

    def write(self, rows: NDArray[np.int64], states: Mapping[str, Any]) -> None:
        assert states.keys() == self.pools.keys()
        for name, array in states.items():
            assert array.shape == (len(rows), *self.pools[name].shape[1:])
            assert array.dtype == self.pools[name].dtype
            self.pools[name][rows] = array


def tensor(
    name: str, kind: str, shape: tuple[int, ...], time: int | None = None, default: Any = None
) -> TensorSpec:
    dtype = np.dtype(kind)
    filled = None if default is None else np.array(default, dtype)
    return TensorSpec(name, WIRE[kind], dtype, shape, time, filled)


def kept(name: str, kind: str, shape: tuple[int, ...], initial: Any = 0) -> StateSpec:
    dtype = np.dtype(kind)
    full = np.full(shape, initial, dtype)
    return StateSpec(name, f"{name}_next", WIRE[kind], dtype, shape, 0, full)


def model(name: str, **changes: Any) -> ModelSpec:
    fields: dict[str, Any] = {
        "version": 1,
        "onnx_path": Path("none.onnx"),
        "digest": hashlib.sha256(name.encode()).hexdigest(),
        "max_batch_size": 8,
        "inputs": (tensor("x", "i8", (-1, -1, 2), time=1),),
        "outputs": (),
        "states": (kept("h", "i8", (2,)),),
        "constants": (),
        "idle_s": 60.0,
        "may_be_cut": True,
        "config": ModelConfig(name=name),
    }
    return ModelSpec(name=name, **(fields | changes))


def fold(h: NDArray[Any], steps: NDArray[Any], counts: NDArray[Any] | None = None) -> NDArray[Any]:
    """Every timestep's `h = 3 * h + step`, where it counts: (batch, time, 2)."""
    states = []
    for time in range(steps.shape[1]):
        after = 3 * h + steps[:, time]
        h = after if counts is None else np.where(counts[:, time, None], after, h)
        states.append(h)
    return np.stack(states, axis=1)


def encode(given: Arrays) -> Arrays:
    return {"h": fold(given["h"], given["x"])[:, -1]}


def decode(given: Arrays) -> Arrays:
    y = fold(given["d"], given["x"] * given["gain"][:, None], given["mask"])
    return {"y": y, "d": y[:, -1]}


def swap(given: Arrays) -> Arrays:
    return {"a": given["b"] + given["x"][:, -1], "b": given["a"]}


def alone(given: Arrays) -> Arrays:
    y = fold(given["h"], (given["x"] * given["scale"] * given["key"][0])[None])
    return {"y": y[0], "count": np.array(len(y[0])), "h": y[:, -1]}


def mixed(given: Arrays) -> Arrays:
    half = given["half"] + given["bias"] + given["more"].astype(np.float16)
    return {"half": half, "odd": ~given["odd"], "number": given["number"] + 1, "y": half}


def starts(given: Arrays) -> Arrays:
    """Begins with its first timestep, whatever its state is."""
    x, first = given["x"], given["first"][:, None]
    h = fold(np.where(first, 1000, given["h"]), x)
    return {"y": h, "h": h[:, -1]}


def shift(given: Arrays) -> Arrays:
    y = fold(given["h"], given["x"] + given["offset"][:, None] + given["slope"])
    return {"y": y, "h": y[:, -1]}


def generate(given: Arrays) -> Arrays:
    return {"n": given["n"] + given["stride"], "y": given["n"] + given["stride"]}


MODELS: list[tuple[ModelSpec, Function]] = [
    (model("encoder"), encode),  # all that it gives are states
    (
        model(
            "decoder",
            inputs=(
                tensor("x", "i8", (-1, -1, 2), time=1),
                tensor("mask", "?", (-1, -1), time=1, default=True),
            ),
            outputs=(tensor("y", "i8", (-1, -1, 2), time=1),),
            states=(kept("d", "i8", (2,), initial=1),),
            constants=(kept("gain", "i8", (2,)),),
        ),
        decode,
    ),
    (model("swap", states=(kept("a", "i8", (2,)), kept("b", "i8", (2,)))), swap),
    (
        model(
            "alone",
            max_batch_size=0,
            inputs=(tensor("x", "i8", (-1, 2), time=0), tensor("scale", "i8", (), default=1)),
            outputs=(tensor("y", "i8", (-1, 2), time=0), tensor("count", "i8", ())),
            constants=(kept("key", "i8", ()),),
        ),
        alone,
    ),
    (
        model(
            "mixed",
            may_be_cut=False,
            inputs=(tensor("more", "f8", (-1, 2), default=0.5),),
            outputs=(tensor("y", "f2", (-1, 2)),),
            states=(
                kept("half", "f2", (2,), initial=0.5),
                kept("odd", "?", (1,), initial=True),
                kept("number", "u2", ()),
            ),
            constants=(kept("bias", "f2", (2,)), kept("flags", "?", (3,))),
        ),
        mixed,
    ),
    (
        model(
            "starts",
            outputs=(tensor("y", "i8", (-1, -1, 2), time=1),),
            controls=(ControlSpec(tensor("first", "?", (-1,)), "start"),),
        ),
        starts,
    ),
    (
        model(
            "shifted",  # arrays are there where the inputs are not
            inputs=(
                tensor("x", "i8", (-1, -1, 2), time=1),
                tensor("offset", "i8", (-1, 2), default=[10, 20]),
                tensor("slope", "i8", (-1, -1, 2), time=1, default=[[1, 2]]),
            ),
            outputs=(tensor("y", "i8", (-1, -1, 2), time=1),),
        ),
        shift,
    ),
    (
        model(
            "generator",
            may_be_cut=False,
            inputs=(),
            outputs=(tensor("y", "i8", (-1,)),),
            states=(kept("n", "i8", ()),),
            constants=(kept("stride", "i8", ()),),
        ),
        generate,
    ),
]


@pytest.fixture
def engines() -> list[tuple[ModelSpec, NumpyEngine]]:
    return [(spec, NumpyEngine(spec, 400, function)) for spec, function in MODELS]
