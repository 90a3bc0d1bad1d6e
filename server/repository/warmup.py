"""`model_warmup`: runs that the configuration wants before the model serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from server.datatypes import BY_NAME, Datatype
from server.repository.problem import Problem
from server.repository.spec import WarmupSample
from server.repository.tensors import agree, check_type
from server.repository.values import read_raw

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from server.repository.spec import ModelSpec
    from server.repository.tensors import Shape
    from server.stubs.inference.model_config_pb2 import ModelConfig, ModelWarmup

FILES = "warmup"  # directory beside the versions
_SEED = 0


class _Row(NamedTuple):
    """One row of something that the model is fed: its shape is without the batch axis."""

    datatype: Datatype
    shape: Shape


def warmup_shapes(config: ModelConfig, spec: ModelSpec) -> dict[str, Shape]:
    """Shapes with the batch axis, if the model has one, as 1, of the inputs that the first
    model_warmup names: what axes of any size have in the server's own first runs. Raises Problem.
    """
    rows = _rows(spec)
    leading = (1,) if spec.max_batch_size else ()
    shapes = {}
    for entry in config.model_warmup[:1]:
        for name, given in entry.inputs.items():
            shapes[name] = (*leading, *_shape(rows, name, given, _label(entry)))
    return {tensor.name: shapes[tensor.name] for tensor in spec.inputs if tensor.name in shapes}


def warmup_samples(
    config: ModelConfig, spec: ModelSpec, model_dir: Path
) -> tuple[WarmupSample, ...]:
    """Those that are to be run: a batch_size of 0 says that one is not, as in Triton. Raises
    Problem.
    """
    samples = (_sample(entry, spec, model_dir) for entry in config.model_warmup)
    return tuple(sample for sample in samples if sample.batch_size)


def _sample(entry: ModelWarmup, spec: ModelSpec, model_dir: Path) -> WarmupSample:
    label, rows, rng = _label(entry), _rows(spec), np.random.default_rng(_SEED)
    if entry.batch_size > max(1, spec.max_batch_size):
        most = f"1 to {spec.max_batch_size}, the max_batch_size" if spec.max_batch_size else "1"
        raise Problem(f"{label}: batch_size: {entry.batch_size}; expected {most}")
    row = {}
    for name, given in sorted(entry.inputs.items()):
        shape = _shape(rows, name, given, label)
        where = f"{label}: input {name!r}: input_data_file"
        row[name] = _values(given, rows[name].datatype, shape, where, model_dir / FILES, rng)
    return WarmupSample(entry.name, max(entry.count, 1), entry.batch_size, row)


def _label(entry: ModelWarmup) -> str:
    return f"model_warmup {entry.name!r}" if entry.name else "model_warmup"


def _rows(spec: ModelSpec) -> dict[str, _Row]:
    return dict(_each_row(spec))


def _each_row(spec: ModelSpec) -> Iterator[tuple[str, _Row]]:
    first = 1 if spec.max_batch_size else 0
    for tensor in spec.fed:
        yield tensor.name, _Row(BY_NAME[tensor.datatype], tensor.shape[first:])
    for state in spec.kept:
        yield state.name, _Row(BY_NAME[state.datatype], state.shape)


def _shape(rows: dict[str, _Row], name: str, given: ModelWarmup.Input, label: str) -> Shape:
    if name not in rows:
        raise Problem(f"{label}: no input {name!r}; there is: {', '.join(rows)}")
    datatype, expected = rows[name]
    if given.data_type:
        check_type(given.data_type, datatype, f"{label}: input {name!r}")
    if {*given.dims, *expected} <= {1}:
        return expected  # a control input is [1] in Triton, whatever the graph has for it
    shape = agree(given.dims, expected)
    if shape is None or min(given.dims, default=1) < 1:
        raise Problem(
            f"{label}: input {name!r}: dims {list(given.dims)}; expected sizes for {list(expected)}"
        )
    return shape


def _values(
    given: ModelWarmup.Input,
    datatype: Datatype,
    shape: Shape,
    label: str,
    directory: Path,
    rng: np.random.Generator,
) -> NDArray[Any]:
    """One row: zeros where nothing is said. What a file has beyond that is left out, as in Triton.
    Random numbers are from 0 to 1, as whole ones may be indices or lengths: others could be too
    large.
    """
    source = given.WhichOneof("input_data_type")
    if source == "input_data_file":
        name = given.input_data_file
        return read_raw(directory, name, label, datatype, shape, may_be_longer=True)
    if source == "random_data" and datatype.dtype.kind == "f":
        return rng.random(shape).astype(datatype.dtype)
    if source == "random_data":
        return rng.integers(0, 2, shape).astype(datatype.dtype)
    return np.zeros(shape, datatype.dtype)
