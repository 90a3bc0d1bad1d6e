"""Which libraries of the system a program lacks, and which Debian packages bring them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


class Unavailable(Exception):
    """Something that others bring is not there; the text says what, and how to get it."""


def check(program: Path, variables: Mapping[str, str]) -> None:
    """Raise Unavailable, with what to do, if `program` lacks a library in that environment."""
    listed = subprocess.run(["ldd", program], env=variables, capture_output=True, text=True)
    lines = listed.stdout.splitlines()
    missing = {line.split()[0] for line in lines if line.endswith("not found")}
    if missing:
        raise Unavailable(f"{program.name} needs {with_packages(sorted(missing))}")
    if listed.returncode:
        raise Unavailable(f"{program.name} is no program for this machine: {listed.stderr.strip()}")


def with_packages(libraries: Iterable[str]) -> str:
    """Libraries, with the Debian packages that bring them."""
    packages = {package_of(name) for name in libraries}
    return f"{', '.join(libraries)}; on Debian: apt-get install {' '.join(sorted(packages))}"


def package_of(library: str) -> str:
    """Debian's name for the package: `libpython3.11.so.1.0` is in libpython3.11, `libssl.so.3` in
    libssl3, as its policy has it.
    """
    stem, _, version = library.partition(".so.")
    if stem.startswith("libpython"):
        return stem
    return {"libcrypto": "libssl3", "libz": "zlib1g", "libb64": "libb64-0d"}.get(
        stem, stem + version
    )
