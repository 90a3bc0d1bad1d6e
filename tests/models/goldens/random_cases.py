"""Random specifications over the whole family: any layer, any options, shapes, masks, states.

The form of a specification is described in `oracle.py`. What Keras itself refuses is never drawn:
unrolling one timestep, masks with ConvLSTM2D and cuDNN's layers, strides with dilation.
"""

from __future__ import annotations

import random

from tests.models.goldens.cases import ACTIVATIONS, CONSTRAINTS, MASKS, RANDOM, cell

INITIALIZERS = [name for name in RANDOM if isinstance(name, str)]
REGULARIZERS = [
    *(None, None, None, "l1", "l2", "l1_l2"),
    {"class_name": "L1L2", "config": {"l1": 0.1, "l2": 0.0}},
    {"class_name": "L1L2", "config": {"l1": 0.03, "l2": 0.2}},
]
RATES = (0.0, 0.0, 0.0, 0.3, 0.5, 0.8, 1.0, -0.5, 1.5)
BUILT_IN = ("SimpleRNNCell", "GRUCell", "LSTMCell")
CUSTOM = ("MinimalCell", "CarryCell", "DecayCell")
KINDS = (
    *("SimpleRNN", "GRU", "LSTM", "ConvLSTM2D", "CuDNNGRU", "CuDNNLSTM"),
    *("GRU", "LSTM", "ConvLSTM2D", "cell", "stack", "stack", "constants"),
)


def specifications(count, seed):
    """`count` of them, always the same ones for a seed."""
    for number in range(count):
        yield Draw(f"random/{seed}/{number}").specification()


class Draw:
    """One random specification."""

    def __init__(self, name):
        self.name = name
        self.random = random.Random(name)
        self.kind = self.pick(KINDS)
        self.constants = self.sizes(1, 2) if self.kind == "constants" else []

    # Chance

    def pick(self, choices):
        return self.random.choice(choices)

    def size(self, most, least=1):
        return self.random.randint(least, most)

    def sizes(self, least, most):
        return [self.size(4) for _ in range(self.size(most, least))]

    def maybe(self, probability=0.5):
        return self.random.random() < probability

    # The parts

    def specification(self):
        shape = [self.size(4), self.size(7), self.size(6)]
        if self.kind == "ConvLSTM2D":
            layer, shape = self.conv_lstm_2d()
        elif self.kind in ("cell", "stack", "constants"):
            layer = cell("RNN", cell=self.cell(shape[-1]), **self.loop())
        else:
            layer = cell(self.kind, units=self.size(6), **self.weights(), **self.loop())
            layer["config"].update(self.activity())
        calls = self.calls(layer["config"])
        self.settle(layer["config"], calls, shape)
        return {"name": self.name, "layer": layer, "input_shape": shape, "calls": calls}

    def settle(self, config, calls, shape):
        """Takes back what Keras cannot do together."""
        custom = "cell" in config and config["cell"]["class_name"] not in BUILT_IN
        masked = custom and any(call.get("mask") for call in calls)
        if (config.get("unroll") or masked) and shape[1] == 1:
            shape[1] = 2
        if config["stateful"]:
            config["batch_input_shape"] = [shape[0], None, *shape[2:]]

    def weights(self, name=None):
        """The options that a layer shares with its cell."""
        name = name or self.kind
        config = {
            "kernel_initializer": self.pick(INITIALIZERS),
            "recurrent_initializer": self.pick(INITIALIZERS),
            "bias_initializer": self.pick(("zeros", "ones", "normal")),
        }
        for which in ("kernel", "recurrent", "bias"):
            config[which + "_regularizer"] = self.pick(REGULARIZERS)
            config[which + "_constraint"] = self.pick((None, None, self.pick(CONSTRAINTS)))
        if "LSTM" in name:
            config["unit_forget_bias"] = self.maybe()
        if "CuDNN" in name:
            # The plain layer that Keras computes with has another bias to regularise.
            return dict(config, bias_regularizer=None)
        config.update(
            activation=self.pick(("tanh", "tanh", self.pick(ACTIVATIONS))),
            use_bias=self.maybe(0.8),
            dropout=self.pick(RATES),
            recurrent_dropout=self.pick(RATES),
        )
        if "RNN" not in name:
            gates = ("sigmoid", "hard_sigmoid", self.pick(ACTIVATIONS))
            config["recurrent_activation"] = self.pick(gates)
        if "Conv" not in name and "RNN" not in name:
            config["implementation"] = self.pick((1, 2))
        if "GRU" in name:
            config["reset_after"] = self.maybe()
        return config

    def activity(self):
        return {"activity_regularizer": self.pick(REGULARIZERS)}

    def loop(self):
        """The options of the layer alone."""
        config = {
            "return_sequences": self.maybe(),
            "return_state": self.maybe(),
            "go_backwards": self.maybe(0.3),
            "stateful": self.maybe(0.3),
            "trainable": self.maybe(0.95),
            "name": self.pick(("layer", "my_layer_7")),
        }
        if self.kind not in ("ConvLSTM2D", "CuDNNGRU", "CuDNNLSTM"):
            config["unroll"] = self.maybe(0.3)
        return config

    def conv_lstm_2d(self):
        shape = [self.size(3), self.size(4), self.size(6, 3), self.size(6, 3), self.size(3)]
        config = {
            "filters": self.size(3),
            "kernel_size": self.pick((1, 2, 3, [1, 2], [3, 2], [2, 3])),
            "padding": self.pick(("valid", "same", "SAME")),
            "data_format": self.pick((None, "channels_last", "channels_first")),
        }
        geometry = self.pick(("plain", "strides", "dilation"))
        if geometry == "strides":
            config["strides"] = self.pick((2, [1, 2], [2, 1], [2, 3], 3))
        if geometry == "dilation":
            config["dilation_rate"] = self.pick((2, [1, 2], [2, 1]))
            config["padding"] = self.pick(("same", config["padding"]))
            shape[2:4] = [size + 2 for size in shape[2:4]]
        if config["data_format"] == "channels_first":
            shape = [*shape[:2], shape[4], *shape[2:4]]
        config.update(self.weights(), **self.loop(), **self.activity())
        return {"class_name": "ConvLSTM2D", "config": config}, shape

    def cell(self, features):
        if self.kind == "cell":
            return self.one_cell(self.pick(BUILT_IN + CUSTOM), features)
        count = self.size(3)
        names = [self.pick(BUILT_IN + CUSTOM) for _ in range(count)]
        if self.kind == "constants":
            names[self.size(count) - 1] = "ConditionedCell"
        cells = []
        for name in names:
            cells.append(self.one_cell(name, features))
            features = cells[-1]["config"].get("outputs", cells[-1]["config"]["units"])
        if self.kind == "constants" and len(cells) == 1:
            return cells[0]
        if self.kind == "constants" and self.maybe(0.3):  # Keras needs constants for that
            cells[:2] = [cell("StackedRNNCells", cells=cells[:2])]
        return cell("StackedRNNCells", cells=cells, reverse_state_order=self.maybe(0.3))

    def one_cell(self, name, features):
        units = features if name == "DecayCell" else self.size(6)
        if name == "DecayCell":
            return cell(name, units=units, decay=self.pick((0.5, -0.3)))
        if name == "CarryCell":
            return cell(name, units=units, carry=self.size(4), outputs=self.size(4))
        options = self.weights(name.replace("Cell", "")) if name in BUILT_IN else {}
        options["trainable"] = self.maybe(0.9)
        return cell(name, units=units, **options)

    def calls(self, config):
        count = self.size(4, 2) if config["stateful"] and not self.drops(config) else 1
        return [self.call(config, number) for number in range(count)]

    def drops(self, config):
        """Whether masks of dropout are drawn: then one call, or they would be others in each."""
        text = str(config)
        return any(f"dropout': {rate}," in text for rate in RATES if 0 < rate < 1)

    def call(self, config, number):
        call = {"initial_state": self.maybe(0.4), "constants": self.constants}
        if self.kind not in ("ConvLSTM2D", "CuDNNGRU", "CuDNNLSTM") and self.maybe(0.4):
            call["mask"] = self.pick(MASKS)
        call["flat"] = self.maybe(0.3)
        if number and self.maybe(0.3):
            call["timesteps"] = self.size(5, 2)
        if config["stateful"] and self.maybe(0.3):
            call["reset"] = self.pick(("zeros", "values"))
        return call
