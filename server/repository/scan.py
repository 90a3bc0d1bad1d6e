"""What lies where: models and versions as directories.

<repository>/<model>/config.pbtxt
<repository>/<model>/<version>/model.onnx
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from server.errors import StartupError
from server.repository.problem import Problem

if TYPE_CHECKING:
    from pathlib import Path

    from server.stubs.inference.model_config_pb2 import ModelVersionPolicy

CONFIG = "config.pbtxt"
_MOST_DIGITS = 18  # of a version


# Of everything that lies under a model directory: path, time of change in ns, size in bytes.
Fingerprint: TypeAlias = frozenset[tuple[str, int, int]]


def scan(repository: Path, *, may_be_empty: bool = False) -> list[Path]:
    """The model directories in `repository`, by name: those with a configuration or a version.

    Files, hidden directories and directories that hold neither are passed over. Raises
    StartupError where there is nothing to serve, unless that is to be expected.
    """
    if not repository.is_dir():
        raise StartupError(f"{repository}: not a directory; expected a model repository")
    models = [path for path in sorted(repository.iterdir()) if is_model(path)]
    if not models and not may_be_empty:
        raise StartupError(
            f"{repository}: no model in it; expected <model>/{CONFIG} and <model>/1/model.onnx"
        )
    return models


def fingerprints(repository: Path) -> dict[str, Fingerprint]:
    """What tells whether a model has changed, by its name. Raises StartupError."""
    try:
        return {path.name: fingerprint(path) for path in scan(repository, may_be_empty=True)}
    except OSError as error:  # something has gone while we looked
        raise StartupError(f"{error.filename}: {error.strerror}") from None


def fingerprint(model_dir: Path) -> Fingerprint:
    """Raises OSError where something goes meanwhile."""
    found = []
    for path in model_dir.rglob("*"):
        stat = path.stat()
        found.append((str(path.relative_to(model_dir)), stat.st_mtime_ns, stat.st_size))
    return frozenset(found)


def versions(model_dir: Path) -> list[int]:
    """The versions that a model directory holds, ascending; other directories do not count."""
    return sorted(int(name) for name in _directories(model_dir) if _is_version(name))


def odd_names(model_dir: Path) -> list[str]:
    """Directories whose names are numbers, but no versions."""
    names = _directories(model_dir)
    return sorted(name for name in names if name.isdecimal() and not _is_version(name))


def choose(present: list[int], policy: ModelVersionPolicy) -> list[int]:
    """The versions to serve, ascending: by default the latest one. Raises Problem."""
    if not present:
        raise Problem("no version directory; expected 1/ with the model in it")
    if policy.HasField("all"):
        return present
    if policy.HasField("specific"):
        return _specific(present, policy)
    return present[-(policy.latest.num_versions or 1) :]


def missing(present: list[int], policy: ModelVersionPolicy) -> list[int]:
    """Versions that the policy names and that are not there, ascending."""
    return sorted(set(policy.specific.versions).difference(present))


def _specific(present: list[int], policy: ModelVersionPolicy) -> list[int]:
    """Those of the versions that are there, as Triton does."""
    wanted = set(policy.specific.versions)
    if not wanted.intersection(present):
        raise Problem(f"version_policy.specific: versions {sorted(wanted)}; present: {present}")
    return sorted(wanted.intersection(present))


def is_model(path: Path) -> bool:
    """Whether the directory holds a model, or something that was to be one."""
    if path.name.startswith(".") or not path.is_dir():
        return False
    return (path / CONFIG).is_file() or bool(versions(path))


def _directories(model_dir: Path) -> list[str]:
    return [path.name for path in model_dir.iterdir() if path.is_dir()]


def _is_version(name: str) -> bool:
    """A number above 0 as one writes it, which an int64 can hold."""
    is_number = name.isascii() and name.isdecimal() and not name.startswith("0")
    return is_number and len(name) <= _MOST_DIGITS
