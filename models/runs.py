"""A run: the folder that a training leaves behind.

    model.safetensors    the weights
    model.json           the class and config of the model, and the run's name
    metrics.json         what came out
    history.csv          one row per epoch
    learning_curve.png   the same, as a picture

The first two are all that `load` needs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from models.registry import deserialize, serialize
from models.sequential import Sequential

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

WEIGHTS, MODEL, METRICS = "model.safetensors", "model.json", "metrics.json"
HISTORY, CURVE = "history.csv", "learning_curve.png"


class RunError(Exception):
    """A folder is not a usable run; the text says what is wrong with it."""


@dataclass(frozen=True)
class Run:
    """A trained model, what it is called, and what came out (empty if nobody wrote it down)."""

    name: str
    model: Sequential
    metrics: Mapping[str, Any]
    directory: Path


def save(run_dir: Path, model: Sequential, name: str, metrics: Mapping[str, Any]) -> None:
    """Writes the model, a built one, and its metrics; makes the folder at need."""
    if not model.built:
        raise ValueError("Only a model that is built has weights to save.")
    run_dir.mkdir(parents=True, exist_ok=True)
    weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    save_file(weights, run_dir / WEIGHTS)
    _write_json(run_dir / MODEL, {"name": name, **serialize(model)})
    _write_json(run_dir / METRICS, metrics)


def load(run_dir: Path) -> Run:
    """The run in `run_dir`, on the CPU and ready for inference.

    Raises RunError where files are missing or do not fit together.
    """
    for file in (MODEL, WEIGHTS):
        if not (run_dir / file).is_file():
            raise RunError(f"{run_dir} is not a run: it has no {file}.")
    try:
        config = json.loads((run_dir / MODEL).read_text(encoding="utf-8"))
        model = deserialize(config)
        name = str(config["name"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{run_dir / MODEL} does not describe a model: {error}") from error
    if not isinstance(model, Sequential):
        raise RunError(f"{run_dir / MODEL} holds a {type(model).__name__}, not a Sequential.")
    try:
        model.load_state_dict(load_file(run_dir / WEIGHTS))
    except (SafetensorError, RuntimeError) as error:
        raise RunError(f"{run_dir / WEIGHTS} does not fit {MODEL}: {error}") from error
    return Run(name, model.eval(), _load_metrics(run_dir / METRICS), run_dir)


def _load_metrics(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} does not hold metrics: {error}") from error
    if not isinstance(metrics, dict):
        raise RunError(f"{path} does not hold metrics: expected an object, found {metrics!r:.50}")
    return metrics


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
