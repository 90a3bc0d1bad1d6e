"""torch → ONNX: graphs whose states are inputs and outputs, proven before anybody serves them.

The road of a model: `plan` runs it once and looks, `program` makes the graph (`chain` for a row of
our own layers, `traced` for any other torch module; `recurrent`, `loop` and `cells/` for what is
recurrent in either), `verify` runs it against torch, `entry` puts it into a repository. `pipeline`
is all of that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from export.errors import ExportError, ProofFailed, UnsupportedLayer

if TYPE_CHECKING:
    from export.pipeline import Exported, export_run, install, to_onnx

__all__ = [
    "ExportError",
    "Exported",
    "ProofFailed",
    "UnsupportedLayer",
    "export_run",
    "install",
    "to_onnx",
]


def __getattr__(name: str) -> Any:
    """Import torch only for those who export: `rnnserve export --help` need not wait for it."""
    if name not in __all__:
        raise AttributeError(f"module 'export' has no attribute {name!r}")
    from export import pipeline

    return getattr(pipeline, name)
