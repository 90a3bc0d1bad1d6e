"""An entry of a repository, as the server reads it, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from inspection.report import axes_told, placed, table_of, told_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from rich.console import RenderableType
    from rich.table import Table

    from inspection.placement import Placement
    from server.repository.spec import ModelSpec

_MOST_NUMBERS = 4  # of an array, shown
_SIGNALS = {
    "start": "that a session begins",
    "end": "that a session ends",
    "ready": "that there is a request",
    "id": "the number of the session",
}


def show_entry(spec: ModelSpec, placement: Placement, detailed: bool) -> RenderableType:
    """What the configuration of one version says, and where its nodes would run."""
    cut = "may be cut" if spec.may_be_cut else "runs whole"
    batch = (
        f"at most {spec.max_batch_size} rows share a run" if spec.max_batch_size else "unbatched"
    )
    lines = (
        f"{spec.name}, version {spec.version}: {spec.onnx_path}",
        f"{batch}; a request {cut}; a session ends after {spec.idle_s:g} s without one",
        f"state of a session: {told_bytes(spec.state_nbytes)} for each row",
    )
    head, *rest = (Text(line) for line in lines)
    return Group(head, _table(spec), *rest, placed(placement, detailed))


def entry_as_dict(spec: ModelSpec, placement: Placement) -> dict[str, Any]:
    """The same for programs."""
    return {
        "name": spec.name,
        "version": spec.version,
        "path": str(spec.onnx_path),
        "max_batch_size": spec.max_batch_size,
        "inputs": [{"name": t.name, "type": t.datatype, "shape": t.shape} for t in spec.inputs],
        "outputs": [{"name": t.name, "type": t.datatype, "shape": t.shape} for t in spec.outputs],
        "states": [
            {
                "input": s.name,
                "output": s.output,
                "type": s.datatype,
                "shape": s.shape,
                "batch_axis": s.batch_axis,
            }
            for s in spec.states
        ],
        "session_constants": [constant.name for constant in spec.constants],
        "constants": {fixed.name: fixed.value.tolist() for fixed in spec.fixed},
        "may_be_cut": spec.may_be_cut,
        "idle_seconds": spec.idle_s,
        "session_bytes": spec.state_nbytes,
        "cuda_fallbacks": [
            {"node": f.node, "op": f.op_type, "reason": f.reason} for f in placement.fallbacks
        ],
    }


def _table(spec: ModelSpec) -> Table:
    table = table_of("tensor", "type and shape", "what it is")
    for row in _rows(spec):
        table.add_row(*row)
    return table


def _rows(spec: ModelSpec) -> Iterator[tuple[str, str, str]]:
    for kind, whose, tensors in (
        ("input", "of each request", spec.inputs),
        ("output", "of each answer", spec.outputs),
    ):
        for tensor in tensors:
            role = whose + axes_told(tensor.graph_axis, tensor.time_axis)
            if tensor.default is not None:
                role += f"; {_numbers(tensor.default)} where it is left out"
            yield f"{kind} {tensor.name}", _shown(tensor.datatype, tensor.shape), role
    for state in spec.states:
        axis = f", batch axis {state.batch_axis}" if state.batch_axis else ""
        kept = _shown(state.datatype, state.shape)
        yield f"input {state.name}", kept, f"state, next value {state.output}{axis}"
    for constant in spec.constants:
        kept = _shown(constant.datatype, constant.shape)
        yield f"input {constant.name}", kept, "constant that a session gives when it opens"
    for fixed in spec.fixed:
        shape = f"{fixed.value.dtype} {list(fixed.value.shape)}"
        yield f"input {fixed.name}", shape, f"constant {_numbers(fixed.value)}"
    for control in spec.controls:
        tensor = control.tensor
        shape = _shown(tensor.datatype, tensor.shape)
        yield f"input {tensor.name}", shape, f"{_SIGNALS[control.signal]}: the server feeds it"


def _numbers(array: NDArray[Any]) -> str:
    """The first of them."""
    told = ", ".join(str(number) for number in array.ravel()[:_MOST_NUMBERS].tolist())
    return f"{told}, …" if array.size > _MOST_NUMBERS else told


def _shown(datatype: str, shape: tuple[int, ...]) -> str:
    return f"{datatype} {list(shape)}"
