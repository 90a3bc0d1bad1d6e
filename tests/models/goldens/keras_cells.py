"""Cells of one's own for the original Keras, the twins of those in `replay.py`."""

from __future__ import annotations

from keras import backend as K
from keras.layers import Layer


class MinimalCell(Layer):
    """`h = x W + h U`: the example of Keras' documentation."""

    def __init__(self, units, **kwargs):
        self.units = self.state_size = units
        super().__init__(**kwargs)

    def build(self, input_shape):
        self.kernel = self.weight("kernel", input_shape[-1], self.units)
        self.recurrent_kernel = self.weight("recurrent_kernel", self.units, self.units)
        self.built = True

    def weight(self, name, *shape):
        return self.add_weight(shape=shape, initializer="uniform", name=name)

    def call(self, inputs, states):
        h = K.dot(inputs, self.kernel) + K.dot(states[0], self.recurrent_kernel)
        return h, [h]

    def get_config(self):
        return dict(super().get_config(), units=self.units)


class ConditionedCell(MinimalCell):
    """`h = tanh(x W + h U + Σ constant V)`, with a V for each constant."""

    def build(self, input_shape):
        shapes = input_shape if isinstance(input_shape, list) else [input_shape]
        super().build(shapes[0])
        self.constant_kernels = [
            self.weight(f"constant_kernel_{number}", shape[-1], self.units)
            for number, shape in enumerate(shapes[1:])
        ]

    def call(self, inputs, states, constants=None):
        h, _ = super().call(inputs, states)
        for number, constant in enumerate(constants or []):
            h = h + K.dot(constant, self.constant_kernels[number])
        h = K.tanh(h)
        return h, [h]


class CarryCell(MinimalCell):
    """Two states of different sizes, and an output that is neither.

    `h = tanh(x W + h U)`, `c = c/2 + h V`, the output `c R`.
    """

    def __init__(self, units, carry, outputs, **kwargs):
        super().__init__(units, **kwargs)
        self.carry, self.output_size = carry, outputs
        self.state_size = (units, carry)

    def build(self, input_shape):
        super().build(input_shape)
        self.carry_kernel = self.weight("carry_kernel", self.units, self.carry)
        self.output_kernel = self.weight("output_kernel", self.carry, self.output_size)

    def call(self, inputs, states):
        h = K.tanh(super().call(inputs, states)[0])
        c = 0.5 * states[1] + K.dot(h, self.carry_kernel)
        return K.dot(c, self.output_kernel), [h, c]

    def get_config(self):
        return dict(super().get_config(), carry=self.carry, outputs=self.output_size)


class DecayCell:
    """`h = x + decay · h`, without weights and no layer."""

    def __init__(self, units, decay):
        self.state_size, self.decay = units, decay

    def call(self, inputs, states):
        h = inputs + self.decay * states[0]
        return h, [h]

    def get_config(self):
        return {"units": self.state_size, "decay": self.decay}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


CELLS = {cls.__name__: cls for cls in (MinimalCell, ConditionedCell, CarryCell, DecayCell)}
