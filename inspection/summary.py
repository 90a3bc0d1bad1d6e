"""Findings for programs: a dict for JSON."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inspection.findings import Findings
    from inspection.placement import Placement
    from inspection.reading import Value


def as_dict(findings: Findings, placement: Placement) -> dict[str, Any]:
    """Everything about a file: what it is, what was found, what to do next."""
    model, axes = findings.model, findings.batch.axes
    data = {value.name for value in findings.trial.data}
    return {
        "path": str(model.path),
        "opset": model.opset,
        "ir_version": model.proto.ir_version,
        "producer": model.proto.producer_name,
        "inputs": [
            _tensor(v, findings.batch.tensors.get(v.name), findings.time.inputs.get(v.name))
            for v in model.inputs
            if v.name in data
        ],
        "outputs": [
            _tensor(v, findings.batch.tensors.get(v.name), findings.time.outputs.get(v.name))
            for v in findings.served
        ],
        "states": [
            {
                "input": pair.input,
                "output": pair.output,
                "confidence": pair.confidence,
                "why": list(pair.reasons),
                "shape": findings.state_shape(pair.input),
                "batch_axis": None if axes is None else axes[pair.input],
            }
            for pair in findings.pairs
        ],
        "constants": [{"input": c.name, "value": c.text, "why": c.why} for c in findings.constants],
        "notes": list(findings.notes),
        "needs": list(findings.needs),
        "needs_sizes": list(findings.needs_sizes),
        "batch": {"found": findings.batched, "why": findings.batch.why},
        "time": {
            "found": bool(findings.time.inputs),
            "may_be_cut": findings.time.may_be_cut,
            "why": findings.time.why,
        },
        "session_bytes": findings.session_bytes(),
        "cuda": {
            "nodes": placement.nodes,
            "on_shapes": placement.on_shapes,
            "untyped": placement.untyped,
            "fallbacks": [
                {"node": f.node, "op": f.op_type, "why": f.reason} for f in placement.fallbacks
            ],
        },
        "next": next_command(findings),
    }


def _tensor(value: Value, batch_axis: int | None, time_axis: int | None) -> dict[str, Any]:
    """`type` and `batch_axis` as the file has them, `time_axis` as requests do: the batch first."""
    return {
        "name": value.name,
        "type": str(value),
        "batch_axis": batch_axis,
        "time_axis": time_axis,
    }


def next_command(findings: Findings) -> str:
    """What to type to have the model served, with the values that are still missing."""
    command = f"rnnserve add {shlex.quote(str(findings.model.path))} --repository DIR"
    return f"{command} {findings.missing}".rstrip()
