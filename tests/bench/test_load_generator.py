"""Where perf_analyzer comes from, and what is said where it cannot be had. `pip` takes wheels out
of a folder here, which are made for the purpose.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bench import libraries, load_generator
from bench.libraries import Unavailable

FILES = {
    "tritonclient-2.41.0": "tritonclient-2.41.0.data/data/bin/perf_analyzer",
    "nvidia_cuda_runtime_cu12-12.9.79": "nvidia/cuda_runtime/lib/libcudart.so.12",
}
PROGRAM = Path(shutil.which("true") or "/bin/true").read_bytes()


def wheel(folder: Path, name: str, member: str) -> None:
    distribution, version = name.split("-")
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as archive:
        archive.writestr(member, PROGRAM)
        archive.writestr(f"{name}.data/other", b"not wanted")
        metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        archive.writestr(f"{name}.dist-info/METADATA", metadata)
        archive.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{name}.dist-info/RECORD", "")


def fetch(folder: Path, wheels: Path) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    command = [sys.executable, "-m", "bench.load_generator", str(folder)]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=90)


def test_it_is_fetched(tmp_path: Path) -> None:
    for name, member in FILES.items():
        wheel(tmp_path, name, member)
    folder = tmp_path / "perf"
    fetched = fetch(folder, tmp_path)
    assert (fetched.returncode, fetched.stderr) == (0, "")
    found = {file.name for file in folder.iterdir()}
    assert found == {"perf_analyzer", "libcudart.so.12", ".installed"}
    program = load_generator.find(folder)
    assert subprocess.run([program.path], env=program.variables).returncode == 0
    assert program.variables["LD_LIBRARY_PATH"] == str(folder)


def test_where_it_cannot_be_had_that_is_said_and_no_error(tmp_path: Path) -> None:
    wheel(tmp_path, *next(iter(FILES.items())))
    folder = tmp_path / "perf"
    fetched = fetch(folder, tmp_path)
    assert fetched.returncode == 0
    assert "no perf_analyzer: " in fetched.stderr
    assert "nvidia-cuda-runtime-cu12==12.9.79" in fetched.stderr
    assert not (folder / ".installed").exists()  # so that the next `make test` tries again
    with pytest.raises(Unavailable, match=r"python -m bench\.load_generator perf` fetches it"):
        load_generator.find(folder)


def test_a_wheel_without_it(tmp_path: Path) -> None:
    """As there are for machines that NVIDIA has not built it for."""
    for name in FILES:
        wheel(tmp_path, name, "other")
    fetched = fetch(tmp_path / "perf", tmp_path)
    assert (fetched.returncode, "perf_analyzer is not in" in fetched.stderr) == (0, True)


def test_a_program_for_another_machine(tmp_path: Path) -> None:
    (tmp_path / "perf_analyzer").write_text("neither a script nor a program")
    with pytest.raises(Unavailable, match="perf_analyzer is no program for this machine"):
        load_generator.find(tmp_path)


def test_a_library_that_the_system_lacks_is_named_with_its_package() -> None:
    text = libraries.with_packages(["libb64.so.0d", "libssl.so.3"])
    assert text == "libb64.so.0d, libssl.so.3; on Debian: apt-get install libb64-0d libssl3"
