"""Graph surgery on inputs: those that are fed stay, all others become part of the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    import onnx
    from numpy.typing import NDArray

    from server.repository.spec import FixedInput

_SEPARATE_INITIALISERS = 4  # IR version from which an initialiser need not be an input too


def keep_inputs(model: onnx.ModelProto, fed: Collection[str]) -> None:
    """Only `fed` are inputs afterwards. Values that the file holds for them go, or ONNX Runtime
    might take those; what else it holds values for is no input any more but a constant, which may
    be folded. Inputs without a value that are not in `fed` are left to whoever gives them one.
    """
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    stored.update(tensor.values.name for tensor in graph.sparse_initializer)
    values = [tensor for tensor in graph.initializer if tensor.name not in fed]
    sparse = [tensor for tensor in graph.sparse_initializer if tensor.values.name not in fed]
    if len(values) + len(sparse) < len(stored):
        del graph.initializer[:], graph.sparse_initializer[:]
        graph.initializer.extend(values)
        graph.sparse_initializer.extend(sparse)
    drop_inputs(graph, stored.difference(fed))
    model.ir_version = max(model.ir_version, _SEPARATE_INITIALISERS)


def drop_inputs(graph: onnx.GraphProto, names: Collection[str]) -> None:
    """Inputs that are computed from now on."""
    kept = [value for value in graph.input if value.name not in names]
    del graph.input[:]
    graph.input.extend(kept)


def fixed_inputs(
    fixed: Iterable[FixedInput], prefix: str, batch_of: str
) -> Iterator[onnx.NodeProto]:
    """Nodes that give the inputs `fixed` their values. `batch_of` names a value whose first axis is
    the batch, needed where one of them has a batch axis.
    """
    fixed, rows = tuple(fixed), f"{prefix}batch_size"
    if any(constant.per_row for constant in fixed):
        yield helper.make_node("Shape", [batch_of], [f"{prefix}batch_shape"])
        yield _constant(f"{prefix}batch_axis", np.zeros(1, np.int64))
        yield helper.make_node("Gather", [f"{prefix}batch_shape", f"{prefix}batch_axis"], [rows])
    for constant in fixed:
        if constant.per_row:
            yield from _repeated(constant, f"{prefix}{constant.name}", rows)
        else:
            yield _constant(constant.name, constant.value)


def _repeated(constant: FixedInput, base: str, rows: str) -> Iterator[onnx.NodeProto]:
    """A row → as many of them as the batch has."""
    ones = np.ones(constant.value.ndim, np.int64)
    yield _constant(f"{base}.row", constant.value[np.newaxis])
    yield _constant(f"{base}.ones", ones)
    yield helper.make_node("Concat", [rows, f"{base}.ones"], [f"{base}.shape"], axis=0)
    yield helper.make_node("Expand", [f"{base}.row", f"{base}.shape"], [constant.name])


def _constant(name: str, value: NDArray[Any]) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
