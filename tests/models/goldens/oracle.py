"""What the original Keras 2.2.4 computes for one case, on TensorFlow 1.15 and Python 3.7.

Keras computes in float64, from numbers that float32 can hold: its answers are then good for our
layers in both precisions, and only our own rounding counts.

A specification says which layer is called, with which shapes, masks, states and constants:

    {"name": …, "layer": {"class_name": …, "config": …}, "input_shape": [B, T, …],
     "calls": [{"mask": "random", "initial_state": true, "constants": [4], …}]}

`run` answers with a case: the same calls with all arrays, what Keras returns, and the gradients of
one scalar, the sum of everything returned times `directions`, plus the layer's losses.

| in a call       | means                                                                    |
|-----------------|--------------------------------------------------------------------------|
| `timesteps`     | in place of the T of `input_shape`                                       |
| `mask`          | "right": padding on the right; "random"; "first": the first step hidden  |
|                 | in every row; "rows": a row without any step; absent: none               |
| `initial_state` | true: drawn                                                              |
| `constants`     | the size of each constant `(B, size)`                                    |
| `reset`         | before the call, `reset_states()`: "zeros" or "values"                   |
| `flat`          | for the one who replays: everything in one list                          |
"""

from __future__ import annotations

import copy

import numpy as np
import tensorflow as tf
from keras import backend as K
from keras import layers
from keras.layers import convolutional_recurrent, recurrent

from tests.models.goldens import plain
from tests.models.goldens.chance import Chance, weight_scale
from tests.models.goldens.keras_cells import CELLS

tf.compat.v1.logging.set_verbosity("ERROR")
K.set_floatx("float64")

BUILT_IN = ("SimpleRNNCell", "GRUCell", "LSTMCell")


def run(specification):
    """The case of a specification."""
    return Oracle(specification).run()


def initial_weights(specification):
    """A case with the weights that a layer starts with."""
    K.clear_session()
    layer = make(specification["layer"])
    layer.build(tuple(specification["input_shape"]))
    return {
        "name": specification["name"],
        "layer": config_of(layer),
        "input_shape": specification["input_shape"],
        "weights": layer.get_weights(),
    }


class Oracle:
    """One layer, its random numbers and its graph."""

    def __init__(self, specification):
        K.clear_session()
        self.specification = specification
        self.chance = Chance(specification["name"])
        self.drawn_masks = []
        for module in (recurrent, convolutional_recurrent):
            module._generate_dropout_mask = self.dropout_mask
        self.shape = tuple(specification["input_shape"])
        self.batch = self.shape[0]
        described = specification["layer"]
        self.cudnn = make(described) if plain.has_twin(described) else None
        self.layer = make(plain.twin(described) if self.cudnn else self.unrolled(described))
        self.build()
        own = (self.cudnn or self.layer).weights
        scale = weight_scale(described)
        self.weights = [self.chance.normal(*K.int_shape(w), scale=scale) for w in own]
        converted = plain.to_plain(self.weights, self.layer) if self.cudnn else self.weights
        self.layer.set_weights(converted)

    def run(self):
        calls = [self.call(call) for call in self.specification["calls"]]
        return {
            "name": self.specification["name"],
            "layer": self.described(),
            "output_shape": self.layer.compute_output_shape(self.shape),
            "weights": self.weights,
            "dropout_masks": self.dropout_masks(),
            "calls": calls,
        }

    def build(self):
        """Builds ahead: built by a call with states, a layer could not reset them any more."""
        sizes = self.specification["calls"][0].get("constants")
        constants = [(self.batch, size) for size in sizes or ()]
        self.layer._num_constants = len(constants) or None
        self.layer.build([self.shape, *constants] if constants else self.shape)
        if self.cudnn:
            self.cudnn.build(self.shape)

    def unrolled(self, described):
        """Where cells of one's own meet a mask, Keras is asked for its unrolled loop.

        That repeats the output before at a masked step, and gives zeros while there is none, as
        our layers do. Its loop as a graph puts out the first state instead, whatever that is.
        """
        masked = any(call.get("mask") for call in self.specification["calls"])
        cell = described["config"].get("cell")
        if not masked or cell is None or cell["class_name"] in BUILT_IN:
            return described
        return dict(described, config=dict(described["config"], unroll=True))

    def described(self):
        """The layer's own config, but with the loop that was asked for."""
        if self.cudnn:
            return config_of(self.cudnn)
        described, asked = config_of(self.layer), self.specification["layer"]["config"]
        config = described["config"]
        if "unroll" in config:
            config["unroll"] = asked.get("unroll", False)
        if asked.get("cell", {}).get("class_name") == "StackedRNNCells":
            reverse = asked["cell"]["config"].get("reverse_state_order", False)
            config["cell"]["config"]["reverse_state_order"] = reverse  # Keras forgets to tell
        return described

    # One call

    def call(self, call):
        tensors = self.tensors(call)
        arrays = [self.chance.normal(*K.int_shape(tensor)) for tensor in flat(tensors)]
        mask = self.chance.mask(call.get("mask"), *K.int_shape(tensors["inputs"])[:2])
        fed = [] if mask is None else [K.placeholder(mask.shape, dtype="bool")]
        returned, losses, updates = self.returned(tensors, fed[0] if fed else None)
        directions = [self.chance.normal(*K.int_shape(tensor)) for tensor in returned]
        scalar = sum([K.sum(r * d) for r, d in zip(returned, directions)], losses)  # noqa: B905
        leaves = flat(tensors) + self.layer.trainable_weights
        reset = {"reset": self.reset(call["reset"])} if "reset" in call else {}
        answers = K.function(
            flat(tensors) + fed, [*returned, losses, *gradients(scalar, leaves)], updates=updates
        )(arrays + ([] if mask is None else [mask]))
        n = len(returned)
        return {
            **call,
            **reset,
            **unflat(arrays, tensors),
            "mask": mask,
            "directions": directions,
            "returned": answers[:n],
            "losses": np.asarray(answers[n]),
            "gradients": self.named(answers[n + 1 :], tensors),
            "states": K.batch_get_value(self.layer.states) if self.layer.stateful else None,
        }

    def returned(self, tensors, mask):
        """What the layer returns, the sum of its losses, the updates of its states."""
        layer, given = self.layer, {"mask": mask}
        given.update({key: tensors[key] for key in ("initial_state", "constants") if tensors[key]})
        losses, updates = len(layer._losses), len(layer._updates)  # of calls before
        returned = layer(tensors["inputs"], **given)
        terms = layer.cell.losses if isinstance(layer.cell, layers.Layer) else []
        total = sum(terms + layer._losses[losses:], K.constant(0.0))
        returned = returned if isinstance(returned, list) else [returned]
        return returned, total, layer._updates[updates:]

    def tensors(self, call):
        """The tensors with which the layer is called."""
        shape = (self.batch, call.get("timesteps", self.shape[1]), *self.shape[2:])
        states = self.state_shapes(shape) if call.get("initial_state") else []
        constants = [(self.batch, size) for size in call.get("constants", ())]
        # ConvLSTM2D fails on initial states that are Keras tensors, but takes TensorFlow's.
        convolutional = isinstance(self.layer.cell, layers.ConvLSTM2DCell)
        tensor = K.placeholder if convolutional else symbolic
        return {
            "inputs": symbolic(shape),
            "initial_state": [tensor(state) for state in states],
            "constants": [tensor(constant) for constant in constants],
        }

    def state_shapes(self, input_shape):
        cell = self.layer.cell
        if isinstance(cell, layers.ConvLSTM2DCell):
            output = self.layer.compute_output_shape(input_shape)
            output = output[0] if isinstance(output, list) else output
            return [(self.batch, *output[-3:])] * 2
        sizes = cell.state_size if hasattr(cell.state_size, "__len__") else [cell.state_size]
        return [(self.batch, size) for size in sizes]

    def reset(self, how):
        if how == "zeros":
            self.layer.reset_states()
            return None
        values = [self.chance.normal(*K.int_shape(state)) for state in self.layer.states]
        self.layer.reset_states(values)
        return values

    def named(self, values, tensors):
        """Gradients by name; `weights` are those that are trained."""
        count = len(flat(tensors))
        weights = values[count:]
        if self.cudnn and weights:
            weights = plain.from_plain(weights, self.cudnn)
        return dict(unflat(values[:count], tensors), weights=weights)

    # Dropout

    def dropout_mask(self, ones, rate, training=None, count=1):
        """In place of Keras' own function of this name: fixed masks, and a note of them."""
        masks = [self.chance.dropout(K.int_shape(ones), rate) for _ in range(count)]
        self.drawn_masks.append(masks)
        constants = [K.constant(mask) for mask in masks]
        return constants if count > 1 else constants[0]

    def dropout_masks(self):
        """For each cell, first cell first, the masks that it used of inputs and of h."""
        drawn = iter(self.drawn_masks)
        return [
            {
                name: used(cell, next(drawn)) if 0 < getattr(cell, rate, 0) < 1 else None
                for name, rate in (("inputs", "dropout"), ("recurrent", "recurrent_dropout"))
            }
            for cell in simple_cells(self.layer.cell)
        ]


def simple_cells(cell):
    """The cells of which a stack, or a stack of stacks, consists."""
    if not hasattr(cell, "cells"):
        return [cell]
    return [simple for part in cell.cells for simple in simple_cells(part)]


def used(cell, masks):
    """Implementation 2 draws a mask for each gate, too, but uses the first for all."""
    return masks[:1] if getattr(cell, "implementation", 1) == 2 else masks


def make(described):
    """A layer from its config."""
    return layers.deserialize(copy.deepcopy(described), custom_objects=CELLS)


def config_of(layer):
    return {"class_name": type(layer).__name__, "config": layer.get_config()}


def symbolic(shape):
    return layers.Input(batch_shape=shape)


def gradients(scalar, leaves):
    """Zeros where nothing depends on a leaf."""
    found = K.gradients(scalar, leaves)
    return [K.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, found)]  # noqa: B905


def flat(tensors):
    return [tensors["inputs"]] + tensors["initial_state"] + tensors["constants"]


def unflat(values, like):
    """`values` in the order of `flat`, by name."""
    states = 1 + len(like["initial_state"])
    return {
        "inputs": values[0],
        "initial_state": values[1:states],
        "constants": values[states:],
    }
