"""What an op's definition says: since which opset it is so, and the type parameter of each tensor.

ONNX's own ops are in `onnx.defs`; ONNX Runtime's (domain com.microsoft) it tells itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import onnx
from onnxruntime.capi import onnxruntime_pybind11_state as ort

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Tensor = tuple[str, str]  # name, type parameter ("T", or a type itself: "tensor(int64)")


@dataclass(frozen=True, slots=True)
class Schema:
    """`inputs` and `outputs` in order; the last one stands for all that follow."""

    since: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def name_types(self, node: onnx.NodeProto) -> Iterator[tuple[Tensor, str]]:
        """The definition's name and type parameter for each tensor that the node has."""
        for values, tensors in ((node.input, self.inputs), (node.output, self.outputs)):
            for index, value in enumerate(values):
                if value and tensors:
                    yield tensors[min(index, len(tensors) - 1)], value


def schema_of(op_type: str, domain: str, opset: int) -> Schema | None:
    """The definition that counts at `opset`; None where nobody knows the op."""
    if domain in ("", "ai.onnx"):
        try:
            return _schema(onnx.defs.get_schema(op_type, opset, ""))
        except onnx.defs.SchemaError:
            return None
    known = [s for s in _foreign_schemas().get((domain, op_type), ()) if s.since <= opset]
    return max(known, key=lambda schema: schema.since, default=None)


@cache
def _foreign_schemas() -> dict[tuple[str, str], list[Schema]]:
    found: dict[tuple[str, str], list[Schema]] = {}
    for schema in ort.get_all_operator_schema():
        if schema.domain:
            found.setdefault((schema.domain, schema.name), []).append(_schema(schema))
    return found


def _schema(schema: Any) -> Schema:
    return Schema(schema.since_version, _tensors(schema.inputs), _tensors(schema.outputs))


def _tensors(parameters: Iterable[Any]) -> tuple[Tensor, ...]:
    """onnx and ONNX Runtime spell the one attribute differently."""
    return tuple((p.name, p.type_str if hasattr(p, "type_str") else p.typeStr) for p in parameters)
