"""The kernels that ONNX Runtime's CUDA provider has: by op, version and element types.

cuda_kernels.tsv holds them for the version of onnxruntime-gpu that the project is tested with;
make_cuda_kernels.py wrote it from that package itself. How a node finds its kernel is ONNX
Runtime's rule (`KernelRegistry::VerifyKernelDef`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = Path(__file__).with_name("cuda_kernels.tsv")


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel. `last` is None where it is registered without an end.

    `types` maps a type parameter of the op ("T"), or the name of an input or output that has none,
    to the element types that the kernel takes, as ONNX writes them ("float", "int64").
    """

    first: int
    last: int | None
    types: Mapping[str, frozenset[str]]

    def takes_version(self, since: int) -> bool:
        """Whether it runs an op whose definition is of opset `since`.

        A kernel without an end runs the definition it was written for, and no later one.
        """
        return self.first == since or (self.last is not None and self.first < since <= self.last)


@cache
def cuda_kernels() -> Mapping[tuple[str, str], list[Kernel]]:
    """(domain, op) → its kernels; ONNX's own domain is ""."""
    kernels: dict[tuple[str, str], list[Kernel]] = defaultdict(list)
    for line in FILE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            domain, op, first, last, types = line.split("\t")
            taken = (part.partition("=") for part in types.split())
            kernels[domain, op].append(
                Kernel(
                    int(first),
                    int(last) if last else None,
                    {name: frozenset(allowed.split(",")) for name, _, allowed in taken},
                )
            )
    return dict(kernels)
