"""torch's own exporter, for what has no ONNX form here: a module → one flat graph."""

from __future__ import annotations

import copyreg
import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from onnx import inliner

from export.errors import UnsupportedLayer
from export.graph import OPSET, renamed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import onnx
    from torch import Tensor, nn

BATCH, TIME = "batch", "time"
_LOGS = ("torch.onnx", "torch.fx", "torch._dynamo", "torch.export", "torch._export")


def exported(
    module: nn.Module,
    arguments: Sequence[Tensor],
    axes: Sequence[dict[int, str]],
    inputs: Sequence[str],
    outputs: Sequence[str],
    what: str,
) -> onnx.GraphProto:
    """`module(*arguments)` as a graph without local functions.

    Its inputs and outputs are called as given, its other values `torch/…`. `axes` names the dynamic
    axes of each argument. Raises UnsupportedLayer, which begins with `what`, where torch cannot
    export the module.
    """
    # Names that no value inside has, whatever those outside are called.
    names = {f"given/{name}": name for name in inputs} | {f"made/{name}": name for name in outputs}
    sizes = {name: torch.export.Dim(name) for name in {n for a in axes for n in a.values()}}
    shapes = tuple({axis: sizes[name] for axis, name in each.items()} for each in axes)
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                module.eval(),
                tuple(arguments),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=(shapes,) if shapes else None,
                input_names=[name for name in names if name.startswith("given/")],
                output_names=[name for name in names if name.startswith("made/")],
                verbose=False,
            )
        except Exception as error:  # the exporter raises whatever it meets
            raise UnsupportedLayer(
                f"{what}: torch cannot export it: {_innermost(error)}"
            ) from error
    assert program is not None
    return renamed(inliner.inline_local_functions(program.model_proto).graph, "torch/", names)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's own warnings, on its inside and on packages that are not installed."""
    logs = [logging.getLogger(name) for name in _LOGS]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module=copyreg.__name__)
            warnings.filterwarnings("ignore", message="# The axis name")
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def _innermost(error: BaseException) -> str:
    """The innermost cause, which says more than the exporter's advice around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].strip() if lines else ''}"
