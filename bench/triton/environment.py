"""Where the peer's programs are in the virtual environment made for them, and what they miss.

`nvidia-pytriton` carries Triton's server, its Python backend with a stub for each Python, and the
libraries that these were built with; `tritonclient` 2.41 carries perf_analyzer, which asks for two
of the same libraries by their usual names.
"""

from __future__ import annotations

import os
import subprocess
from functools import cached_property
from pathlib import Path

from bench import libraries
from bench.libraries import Unavailable

LIBRARIES = ("libb64.so.0d", "libcudart.so.12")  # perf_analyzer's, by the names it asks for
ASK_PYTHON = """
import importlib.metadata, sys, sysconfig
print("%d.%d" % sys.version_info[:2])
print(sysconfig.get_paths()["platlib"])
print(sysconfig.get_config_var("LIBDIR"))
print(importlib.metadata.version("nvidia-pytriton"))
print(importlib.metadata.version("tritonclient"))
print(importlib.metadata.version("onnxruntime"))
"""


class Environment:
    """The peer's environment at `root`; `scratch` is a folder for links into it."""

    def __init__(self, root: Path, scratch: Path) -> None:
        self._root = root.absolute()
        self._scratch = scratch
        python = self._root / "bin" / "python"
        if not python.exists():
            raise Unavailable(f"{root} is no virtual environment: `make bench-triton` makes it")
        asked = subprocess.run([python, "-c", ASK_PYTHON], capture_output=True, text=True)
        if asked.returncode:
            reason = asked.stderr.strip().rpartition("\n")[2]
            raise Unavailable(f"{root} lacks a package of bench/triton-peer.txt: {reason}")
        self.python, packages, python_libraries, *versions = asked.stdout.splitlines()
        self.pytriton, self.perf_analyzer_version, self.onnxruntime = versions
        self._packages = Path(packages)
        self._python_libraries = python_libraries  # a Python that is not the system's has its own

    @property
    def server(self) -> Path:
        return self._packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"

    @property
    def perf_analyzer(self) -> Path:
        return self._root / "bin" / "perf_analyzer"

    @cached_property
    def backends(self) -> Path:
        """The folder of backends, completed with the stub for this environment's Python."""
        folder = self._scratch / "backends"
        (folder / "python").mkdir(parents=True)
        tritonserver = self.server.parents[1]
        stub = tritonserver / "python_backend_stubs" / self.python / "triton_python_backend_stub"
        if not stub.exists():
            have = ", ".join(sorted(path.name for path in stub.parents[1].iterdir()))
            raise Unavailable(f"Triton's Python backend is for Python {have}, not {self.python}")
        for file in (*(tritonserver / "backends" / "python").iterdir(), stub):
            (folder / "python" / file.name).symlink_to(file)
        return folder

    @cached_property
    def variables(self) -> dict[str, str]:
        """The process environment in which all of the peer's programs find what they need."""
        links = self._scratch / "libraries"
        links.mkdir()
        bundled = self._packages / "nvidia_pytriton.libs"
        for name in LIBRARIES:
            stem, _, version = name.partition(".so.")
            found = [*bundled.glob(f"{stem}-*.so.{version}*")]
            if found:
                (links / name).symlink_to(found[0])
        return {
            **os.environ,
            # the stub takes the first python3 there for its own, and with it the packages
            "PATH": f"{self._root / 'bin'}:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": f"{links}:{bundled}:{self._python_libraries}",
        }

    def check(self) -> None:
        """Raise Unavailable, with what to do, if a program lacks a library of the system."""
        stub = self.backends / "python" / "triton_python_backend_stub"
        for program in (self.server, stub, self.perf_analyzer):
            libraries.check(program, self.variables)
