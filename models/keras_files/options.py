"""A layer's config as Keras wrote it → the arguments of our layer.

The versions of Keras call the same thing by different names. What they know beyond us is left out
where it is off, or concerns no number, and refused where it is on.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch.nn import functional

import models
from models.keras_files.errors import KerasFileError
from models.options import LayerOptions

if TYPE_CHECKING:
    from models.keras_files.saved import Config

CELLS = ("SimpleRNNCell", "GRUCell", "LSTMCell", "StackedRNNCells")
LAYERS = (
    *("RNN", "SimpleRNN", "GRU", "LSTM", "ConvLSTM2D", "CuDNNGRU", "CuDNNLSTM"),
    *("Dense", "Masking"),
)
DTYPES = ("float32", "float64")
# The seed of dropout, and how Keras 3 computes: nothing that a result depends on.
IRRELEVANT = ("seed", "use_cudnn", "batch_input_shape")
# Keras 3 gave hard_sigmoid another slope, 1/6.
HARD_SIGMOID_3 = functional.hardsigmoid

_UNIFORM, _NORMAL = {"distribution": "uniform"}, {"distribution": "normal"}
_SCALINGS = {
    "GlorotUniform": {"scale": 1.0, "mode": "fan_avg", **_UNIFORM},
    "GlorotNormal": {"scale": 1.0, "mode": "fan_avg", **_NORMAL},
    "HeUniform": {"scale": 2.0, "mode": "fan_in", **_UNIFORM},
    "HeNormal": {"scale": 2.0, "mode": "fan_in", **_NORMAL},
    "LecunUniform": {"scale": 1.0, "mode": "fan_in", **_UNIFORM},
    "LecunNormal": {"scale": 1.0, "mode": "fan_in", **_NORMAL},
}
_CLASSES = {"L1": "L1L2", "L2": "L1L2", "OrthogonalInitializer": "Orthogonal"}
_CLASSES |= {"IdentityInitializer": "Identity", **dict.fromkeys(_SCALINGS, "VarianceScaling")}


def layer_of(entry: Config, major: int) -> Any:
    """Our layer for one of Keras' with `class_name` and `config`, written by Keras `major`.

    Raises KerasFileError for a class or an option that has no counterpart here.
    """
    name = entry["class_name"]
    called = f"layer {entry['config'].get('name')!r} ({name})"
    if name not in LAYERS:
        raise KerasFileError(
            f"{called} has no counterpart here. What has one: {', '.join(LAYERS)}; besides "
            "TimeDistributed(Dense), an Activation after a Dense, and what acts in training alone."
        )
    try:
        return models.deserialize(_translated(entry, major))
    except KerasFileError as error:
        raise KerasFileError(f"{called}: {error}") from error
    except (ValueError, TypeError) as error:
        raise KerasFileError(f"{called}: {' '.join(map(str, error.args))}") from error


def activation(value: Any, major: int | None) -> Any:
    """An activation's name here; a function for the hard_sigmoid of Keras 3, which is another."""
    if isinstance(value, Mapping):
        raise KerasFileError(f"the activation {value.get('config', value)!r:.60} has no name here")
    return HARD_SIGMOID_3 if value == "hard_sigmoid" and (major or 0) >= 3 else value


def _translated(entry: Config, major: int) -> dict[str, Any]:
    """What `models.deserialize` takes, for a layer or a cell."""
    name = entry["class_name"]
    config = {key: value for key, value in entry["config"].items() if key not in IRRELEVANT}
    if name in (*LAYERS, *CELLS):  # a cell of one's own has options of its own
        config = _without_what_is_off(config, getattr(models, name))
    return {
        "class_name": name,
        "config": {key: _value(key, value, major) for key, value in config.items()},
    }


def _without_what_is_off(config: Config, cls: type[Any]) -> dict[str, Any]:
    known = {*inspect.signature(cls).parameters, *LayerOptions.__annotations__}
    for key, value in config.items():
        if key not in known and value:
            raise KerasFileError(f"there is no {key} here, and it is {value!r:.60}")
    return {key: value for key, value in config.items() if key in known}


def _value(key: str, value: Any, major: int) -> Any:
    if key == "name":
        return value and re.sub(r"[^A-Za-z0-9_-]", "_", value)
    if key == "dtype":
        return _dtype(value)
    if key == "cell":
        return _translated(value, major)
    if key == "cells":
        return [_translated(cell, major) for cell in value]
    if key.endswith("activation"):
        return activation(value, major)
    return _object(value) if isinstance(value, Mapping) else value


def _dtype(value: Any) -> Any:
    """The dtype, or that of a policy."""
    name = value["config"]["name"] if isinstance(value, Mapping) else value
    if name is not None and name not in DTYPES:
        raise KerasFileError(f"the dtype {name} is none of {', '.join(DTYPES)}")
    return name


def _object(value: Config) -> dict[str, Any]:
    """An initialiser, regulariser or constraint."""
    name = value["class_name"]
    given = {
        key: option for key, option in (value.get("config") or {}).items() if option is not None
    }
    if given.get("distribution") == "truncated_normal":
        given["distribution"] = "normal"  # which is truncated here, as in Keras 2
    if not isinstance(given.get("seed"), int):
        given.pop("seed", None)
    return {"class_name": _CLASSES.get(name, name), "config": {**_SCALINGS.get(name, {}), **given}}
