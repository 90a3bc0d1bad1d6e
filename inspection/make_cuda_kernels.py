"""Write cuda_kernels.tsv: every kernel of the CUDA provider, as the installed ONNX Runtime has it.

    python -m inspection.make_cuda_kernels

Run by hand on Linux with a C compiler, after the pinned version of onnxruntime-gpu has changed. It
needs no GPU and no CUDA: a provider registers its kernels when it is made, long before one of them
runs, so stand-ins for NVIDIA's libraries, in which every function returns 0, will do.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from inspection.kernels import FILE

if TYPE_CHECKING:
    from collections.abc import Iterable

_NO_LAST_VERSION = 2**31 - 1
_INSIDE = "INSPECTION_STAND_INS"  # set in the process that runs on stand-ins
Constraints = dict[str, frozenset[str]]
Version = tuple[str, str, int, int]  # domain, op, first and last version


def main() -> None:
    """Start this script again on stand-ins; there, write the table."""
    if _INSIDE in os.environ:
        FILE.write_text(table(), encoding="utf-8")
        print(f"wrote {FILE}")
        return
    with tempfile.TemporaryDirectory() as folder:
        make_stand_ins(Path(folder))
        environment = os.environ | {"LD_LIBRARY_PATH": folder, _INSIDE: "1"}
        subprocess.run([sys.executable, "-m", __spec__.name], env=environment, check=True)


def table() -> str:
    """One line for each kernel: domain, op, first and last version, types of each constraint."""
    kernels: dict[Version, list[Constraints]] = defaultdict(list)
    for kernel in ort.get_all_opkernel_def():
        if kernel.provider == "CUDAExecutionProvider":
            types = {
                name: frozenset(re.sub(r"tensor\((\w+)\)", r"\1", one) for one in allowed)
                for name, allowed in kernel.type_constraints.items()
            }
            kernels[(kernel.domain, kernel.op_name, *kernel.version_range)].append(types)
    lines = [f"# onnxruntime-gpu {onnxruntime.__version__}; made by make_cuda_kernels.py"]
    for (domain, op, first, last), alternatives in sorted(kernels.items()):
        version = (domain, op, str(first), "" if last == _NO_LAST_VERSION else str(last))
        texts = sorted(map(_text, merged(alternatives)))
        lines.extend("\t".join((*version, text)) for text in texts)
    return "\n".join(lines) + "\n"


def merged(alternatives: Iterable[Constraints]) -> list[Constraints]:
    """The same set of combinations in fewer lines: those that differ in one constraint are one."""
    left = [dict(types) for types in alternatives]
    done: list[Constraints] = []
    while left:
        types = left.pop()
        for other in left:
            different = [name for name in types if types[name] != other.get(name)]
            if types.keys() == other.keys() and len(different) <= 1:
                for name in different:
                    other[name] |= types[name]
                break
        else:
            done.append(types)
    return done


def _text(types: Constraints) -> str:
    return " ".join(
        f"{name}={','.join(sorted(allowed))}" for name, allowed in sorted(types.items())
    )


def make_stand_ins(folder: Path) -> None:
    """A shared library for each of NVIDIA's that the CUDA and TensorRT providers want.

    TensorRT's provider is in the way: ONNX Runtime asks all that it is built with.
    """
    capi = Path(ort.__file__).parent
    providers = [capi / f"libonnxruntime_providers_{name}.so" for name in ("cuda", "tensorrt")]
    wanted: dict[str, set[str]] = defaultdict(set)
    plain: set[str] = set()  # symbols without a version, of libraries that have none
    for provider in providers:
        listed = _output("readelf", "-d", str(provider))
        for library in re.findall(r"\[(lib(?:cu|nv)[\w.]+)\]", listed):
            wanted[library].update()
        for line in _output("nm", "-D", "--undefined-only", str(provider)).splitlines():
            symbol, _, library = line.split()[-1].partition("@")
            if library.startswith("libcu"):
                wanted[library].add(symbol)
            elif re.match(r"cu[A-Z]|create\w*_INTERNAL$|getInfer|getPlugin", symbol):
                plain.add(symbol)
    for library, symbols in wanted.items():
        _compile(folder, library, symbols, plain)


def _compile(folder: Path, library: str, symbols: set[str], plain: set[str]) -> None:
    source, versions, output = (folder / name for name in ("source.c", "versions", library))
    source.write_text("".join(f"long {name}(void) {{ return 0; }}\n" for name in symbols or plain))
    command = ["cc", "-shared", "-fPIC", "-w", str(source), "-o", str(output)]
    command.append(f"-Wl,-soname,{library}")
    if symbols:
        exported = " ".join(f"{name};" for name in symbols)
        versions.write_text(f"{library} {{ global: {exported} }};\n")
        command.append(f"-Wl,--version-script={versions}")
    subprocess.run(command, check=True)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
