"""A checkpoint: one file from which a training goes on as if it had never stopped."""

from __future__ import annotations

import os
import pickle
import zipfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from models.training.settings import Settings

CHECKPOINT = "checkpoint.pt"


class ResumeError(Exception):
    """A training cannot be resumed; the text says why, and what would help."""


@dataclass(frozen=True)
class Checkpoint:
    """What a training was begun with, by name, and the state it has reached."""

    begun: Mapping[str, Any]
    training: Mapping[str, Any]


def beginning(name: str, seed: int, device: str, settings: Settings) -> dict[str, Any]:
    """All that decides how a training goes, by name."""
    return {"example": name, "seed": seed, "device": device, **asdict(settings)}


def save(run_dir: Path, checkpoint: Checkpoint) -> None:
    """Replaces the checkpoint in `run_dir`: whenever this is interrupted, there is a whole one."""
    path, aside = run_dir / CHECKPOINT, run_dir / (CHECKPOINT + ".new")
    with aside.open("wb") as file:
        torch.save({"begun": checkpoint.begun, "training": checkpoint.training}, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def load(run_dir: Path) -> Checkpoint:
    """The checkpoint in `run_dir`, on the CPU. Raises ResumeError where there is no usable one."""
    path = run_dir / CHECKPOINT
    if not path.is_file():
        raise ResumeError(f"There is nothing to resume in {run_dir}: it has no {CHECKPOINT}.")
    if not zipfile.is_zipfile(path):  # which torch would take for one of its older formats
        raise ResumeError(f"{path} is not a checkpoint, or not all of it.")
    try:
        # Generator states have to stay on the CPU; the others follow the model to its device.
        content = torch.load(path, map_location="cpu", weights_only=True)
        return Checkpoint(content["begun"], content["training"])
    except (RuntimeError, pickle.UnpicklingError, KeyError, TypeError) as error:
        raise ResumeError(f"{path} is not a checkpoint: {error}") from error


def check(run_dir: Path, checkpoint: Checkpoint, wanted: Mapping[str, Any]) -> None:
    """ResumeError, by name, where a training was not begun as `wanted` says."""
    begun = checkpoint.begun
    differing = [
        f"{name} {begun.get(name)!r}, not {wanted.get(name)!r}"
        for name in sorted(begun.keys() | wanted.keys())
        if begun.get(name) != wanted.get(name)
    ]
    if differing:
        raise ResumeError(
            f"{run_dir} was begun with {'; '.join(differing)}. Resume it as it was begun, or start "
            "anew without resuming."
        )
