"""What an export can refuse, each with a text for the person who asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from export.proof import Proof


class ExportError(Exception):
    """The export cannot be done as asked: one line that says what was wrong and what to do."""


class UnsupportedLayer(ExportError):
    """The model holds a layer or an option that has no ONNX form here."""


class ProofFailed(ExportError):
    """The exported graph does not compute what the torch model computes; nothing was written."""

    def __init__(self, proof: Proof) -> None:
        super().__init__(
            f"{len(proof.failures)} of {len(proof.rows)} comparisons with torch failed: "
            "nothing was written"
        )
        self.proof = proof
