"""A run: the folder that a training leaves behind.

    model.safetensors    the weights
    model.json           the class and config of the model, and the run's name
    metrics.json         what came out; only a training that is finished has it
    history.csv          one row per epoch
    learning_curve.png   the same, as a picture
    checkpoint.pt        what an interrupted training goes on from
    tensorboard/         what `tensorboard --logdir` shows

The first two are all that `load` needs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from models.layer import Layer
from models.registry import deserialize, serialize

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

WEIGHTS, MODEL, METRICS = "model.safetensors", "model.json", "metrics.json"
HISTORY, CURVE = "history.csv", "learning_curve.png"


class RunError(Exception):
    """A folder is not a usable run; the text says what is wrong with it."""


@dataclass(frozen=True)
class Run:
    """A trained model, what it is called, and what came out (empty if nobody wrote it down)."""

    name: str
    model: Layer
    metrics: Mapping[str, Any]
    directory: Path


def save(run_dir: Path, model: Layer, name: str, metrics: Mapping[str, Any]) -> None:
    """Writes the model and its metrics; makes the folder at need.

    Raises ValueError where `load` would not get the model back (see `check`); then nothing is
    written.
    """
    check(model)
    run_dir.mkdir(parents=True, exist_ok=True)
    weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    save_file(weights, run_dir / WEIGHTS)
    _write_json(run_dir / MODEL, {"name": name, **serialize(model)})
    _write_json(run_dir / METRICS, metrics)


def check(model: Layer) -> None:
    """ValueError unless the config of `model`, a built one, makes its like once it is a file."""
    if not model.built:
        raise ValueError("Only a model that is built has weights to save.")
    config = serialize(model)
    for path, value in _not_for_json(config):
        raise ValueError(
            f"{model.name} cannot be saved: {path} in its config is {value!r}, which a file cannot "
            "hold. Give the layer a name that the package knows ('tanh', 'l2', …), or write a "
            "layer of your own with the decorator `models.register`."
        )
    with torch.random.fork_rng(devices=[]):  # the like's weights are nobody's
        like = _build(json.loads(json.dumps(config)))
    expected, found = (
        {key: tuple(value.shape) for key, value in m.state_dict().items()} for m in (model, like)
    )
    if expected != found:
        differing = sorted(expected.items() ^ found.items())
        raise ValueError(
            f"{model.name} cannot be saved: what its config makes has other weights: {differing}. "
            "Its `get_config` must hold all that decides about them."
        )


def load(run_dir: Path) -> Run:
    """The run in `run_dir`, on the CPU and ready for inference; its class must be registered.

    Raises RunError where files are missing or do not fit together.
    """
    for file in (MODEL, WEIGHTS):
        if not (run_dir / file).is_file():
            raise RunError(f"{run_dir} is not a run: it has no {file}.")
    try:
        config = json.loads((run_dir / MODEL).read_text(encoding="utf-8"))
        model = _build(config)
        name = str(config["name"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{run_dir / MODEL} does not describe a model: {error}") from error
    try:
        model.load_state_dict(load_file(run_dir / WEIGHTS))
    except (SafetensorError, RuntimeError) as error:
        raise RunError(f"{run_dir / WEIGHTS} does not fit {MODEL}: {error}") from error
    return Run(name, model.eval(), _load_metrics(run_dir / METRICS), run_dir)


def clear(run_dir: Path) -> None:
    """Removes what an older training left, so that nobody takes it for the result of a new one."""
    for file in (WEIGHTS, MODEL, METRICS, HISTORY, CURVE):
        (run_dir / file).unlink(missing_ok=True)


def _build(config: Mapping[str, Any]) -> Layer:
    """A built layer; ValueError where `config` is another thing's, or does not say the shape."""
    model = deserialize(config)
    if not isinstance(model, Layer):
        raise ValueError(f"{config['class_name']} is no layer.")
    if not model.built and model.batch_input_shape is not None:
        model.build(model.batch_input_shape)
    if not model.built:
        raise ValueError(
            f"the config of {model.name} does not say the shape of its inputs, so that it makes no "
            "weights. Put the layer into a Sequential, give it a batch_input_shape, or have its "
            "__init__ build it."
        )
    return model


def _not_for_json(value: Any, path: str = "") -> Iterator[tuple[str, object]]:
    """(where, what) for all in `value` that JSON has no form for."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _not_for_json(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _not_for_json(item, f"{path}[{index}]")
    elif not isinstance(value, (str, int, float, type(None))):
        yield path, value


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
