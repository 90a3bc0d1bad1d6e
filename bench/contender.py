"""One contender of `bench.training`: builds its layer, then times a training step for each line it
reads. Runs in whatever environment has its framework, so it imports nothing else.

    python bench/contender.py FRAMEWORK LAYER

FRAMEWORK is ours, torch, keras (Keras 3 on torch) or tf_keras; LAYER is a key of `OPTIONS`. A step
is forward and backward: all outputs squared, averaged, and the gradients of all weights.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH, TIME, FEATURES, UNITS = 32, 100, 128, 256
WARM_UP = 3
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "LSTM sigmoid": ("LSTM", {"recurrent_activation": "sigmoid"}),
    "GRU sigmoid": ("GRU", {"recurrent_activation": "sigmoid", "reset_after": True}),
    "LSTM hard_sigmoid": ("LSTM", {"recurrent_activation": "hard_sigmoid"}),
    "GRU hard_sigmoid": ("GRU", {"recurrent_activation": "hard_sigmoid", "reset_after": False}),
}


def main(framework: str, layer: str) -> None:
    """Answers each line on standard input with the seconds that one step took."""
    inputs = np.random.default_rng(0).normal(size=(BATCH, TIME, FEATURES)).astype(np.float32)
    step = STEPS[framework](*OPTIONS[layer], inputs)
    for _ in range(WARM_UP):
        step()
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        step()
        print(time.perf_counter() - started, flush=True)


def ours(kind: str, options: dict[str, Any], inputs: Any) -> Callable[[], None]:
    import torch

    import models

    layer = getattr(models, kind)(UNITS, return_sequences=True, **options)
    layer.build(inputs.shape)
    return _torch_step(layer, torch.from_numpy(inputs))


def torchs(kind: str, options: dict[str, Any], inputs: Any) -> Callable[[], None]:
    import torch

    layer = getattr(torch.nn, kind)(FEATURES, UNITS, batch_first=True)
    return _torch_step(layer, torch.from_numpy(inputs), lambda answer: answer[0])


def keras_on_torch(kind: str, options: dict[str, Any], inputs: Any) -> Callable[[], None]:
    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    import torch

    gates = options["recurrent_activation"]
    if gates == "hard_sigmoid":  # Keras 3's own has another slope
        gates = lambda x: keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)  # noqa: E731
    options = {**options, "recurrent_activation": gates}
    layer = getattr(keras.layers, kind)(UNITS, return_sequences=True, **options)
    layer.build(inputs.shape)
    return _torch_step(layer, torch.from_numpy(inputs))


def tf_keras(kind: str, options: dict[str, Any], inputs: Any) -> Callable[[], None]:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf
    import tf_keras

    x = tf.constant(inputs)
    layer = getattr(tf_keras.layers, kind)(UNITS, return_sequences=True, **options)
    layer.build(inputs.shape)

    def gradients() -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(layer(x)))
        return tape.gradient(loss, layer.trainable_variables)

    compiled = tf.function(gradients)

    def step() -> None:
        for gradient in compiled():
            gradient.numpy()

    return step


def _torch_step(
    layer: Any, x: Any, output: Callable[[Any], Any] = lambda answer: answer
) -> Callable[[], None]:
    parameters = list(layer.parameters())

    def step() -> None:
        for parameter in parameters:
            parameter.grad = None
        output(layer(x)).square().mean().backward()

    return step


STEPS = {"ours": ours, "torch": torchs, "keras": keras_on_torch, "tf_keras": tf_keras}

if __name__ == "__main__":
    main(*sys.argv[1:])
