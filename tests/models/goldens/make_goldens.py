"""Makes the golden files in this folder with Keras 3 on torch, which shares no code with `models`.

    pip install keras torch
    KERAS_BACKEND=torch python tests/models/goldens/make_goldens.py

One file per case: inputs, mask, initial states, weights in Keras' order, and what Keras answers:
the outputs of all timesteps and the final states, without and with the mask. Keras 3 has its own
hard sigmoid (x/6 + 0.5), so Keras 2's is passed as a function. The mask never hides a first step:
there Keras 3 puts out zeros and Keras 2, whose semantics we follow, the initial state.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import keras
import numpy as np

FOLDER = Path(__file__).parent
BATCH, TIME, FEATURES, UNITS = 3, 6, 4, 5
LAYERS = {
    "simple_rnn": (keras.layers.SimpleRNN, {}, 1),
    "gru_reset_before": (keras.layers.GRU, {"reset_after": False}, 1),
    "gru_reset_after": (keras.layers.GRU, {"reset_after": True}, 1),
    "lstm": (keras.layers.LSTM, {}, 2),
}
GATES = {
    "sigmoid": "sigmoid",
    "hard_sigmoid": lambda x: keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0),
}


def main() -> None:
    """Writes one .npz per layer and gate activation."""
    random = np.random.default_rng(20)
    for (name, (cls, options, n_states)), (gate, function) in itertools.product(
        LAYERS.items(), GATES.items()
    ):
        gated = name != "simple_rnn"
        if not gated and gate != "sigmoid":
            continue
        if gated:
            options = {**options, "recurrent_activation": function}
        layer = cls(UNITS, return_sequences=True, return_state=True, **options)
        arrays = golden(layer, n_states, random)
        np.savez_compressed(
            FOLDER / f"{name}_{gate}.npz" if gated else FOLDER / f"{name}.npz", **arrays
        )


def golden(layer, n_states: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Inputs, weights and answers of `layer`."""
    inputs = normal(random, BATCH, TIME, FEATURES)
    initial = [normal(random, BATCH, UNITS) for _ in range(n_states)]
    mask = random.random((BATCH, TIME)) < 0.6
    mask[:, 0] = True
    layer.build(inputs.shape)
    weights = [normal(random, *weight.shape) for weight in layer.get_weights()]
    layer.set_weights(weights)
    arrays = {"inputs": inputs, "mask": mask, "keras_version": np.array(keras.__version__)}
    arrays |= numbered("weight", weights) | numbered("initial", initial)
    for prefix, used in (("plain", None), ("masked", mask)):
        answer = layer(inputs, mask=used, initial_state=initial)
        outputs, *states = [keras.ops.convert_to_numpy(part) for part in answer]
        arrays |= {f"{prefix}_outputs": outputs} | numbered(f"{prefix}_state", states)
    return arrays


def normal(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Standard normal float32."""
    return random.standard_normal(shape).astype(np.float32)


def numbered(name: str, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
    """{"<name>_0": …, "<name>_1": …}."""
    return {f"{name}_{index}": array for index, array in enumerate(arrays)}


if __name__ == "__main__":
    main()
