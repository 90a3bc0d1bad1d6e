"""Wrote keras_lstm.onnx and keras_gru.onnx by Keras' own export: steps, their states as inputs.

Run by hand in an environment of its own with `keras`, `tensorflow-cpu` and `tf2onnx`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

UNITS, FEATURES, CLASSES = 8, 5, 3


def stack(layer: Any, count: int, states: int) -> Any:
    """`count` layers, each with `states` states; without names the exporter invents some."""
    named = count == 1
    inputs = [layers.Input((None, FEATURES), name="frames" if named else None)]
    y, outputs = inputs[0], []
    for _ in range(count):
        initial = [
            layers.Input((UNITS,), name=f"{s}0_in" if named else None) for s in "hc"[:states]
        ]
        y, *after = layer(UNITS, return_sequences=True, return_state=True)(
            y, initial_state=initial if states > 1 else initial[0]
        )
        inputs += initial
        outputs += after
    return keras.Model(inputs, [layers.Dense(CLASSES)(y), *outputs])


if __name__ == "__main__":
    keras.utils.set_random_seed(1)
    for name, model in (
        ("keras_gru", stack(layers.GRU, 1, 1)),
        ("keras_lstm", stack(layers.LSTM, 2, 2)),
    ):
        model([np.zeros([size or 1 for size in i.shape], np.float32) for i in model.inputs])
        model.export(str(Path(__file__).with_name(f"{name}.onnx")), format="onnx")
