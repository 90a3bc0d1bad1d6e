"""Files as Keras would have written them for models that are no fixtures."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONFIG = "config.json"


def edited(source: Path, target: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a `.keras` file whose config `change` has been given."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == CONFIG:
                config = json.loads(data)
                change(config)
                data = json.dumps(config).encode()
            new.writestr(name, data)
    return target


def layer(config: dict[str, Any], class_name: str) -> dict[str, Any]:
    """The first layer of that class in a model's config."""
    layers = config["config"]["layers"]
    found: dict[str, Any] = next(one for one in layers if one["class_name"] == class_name)
    return found
