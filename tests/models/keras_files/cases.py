"""The models whose files the fixtures are: for Keras, which wrote them, and for our own layers.

A layer is `(class name, arguments)`, a case the input's shape without the batch axis and its layers
in order. Sizes are tiny and differ from one another, so that no shape fits by chance.
"""

from __future__ import annotations

SEQUENCES = (5, 3)
IMAGES = (3, 5, 4, 2)
HARD, SIGMOID = {"recurrent_activation": "hard_sigmoid"}, {"recurrent_activation": "sigmoid"}
ALL_STEPS = {"return_sequences": True}

STACK = [
    ("LSTMCell", {**HARD, "units": 2}),
    ("GRUCell", {**HARD, "units": 4, "reset_after": False}),
    ("LSTMCell", {**SIGMOID, "units": 2}),
]
# The trained cells' weights come first in a layer's list of weights, but not in every file.
FROZEN = [
    ("SimpleRNNCell", {"units": 3, "trainable": False}),
    ("SimpleRNNCell", {"units": 3}),
    ("SimpleRNNCell", {"units": 3, "trainable": False}),
]
CHAIN = [
    ("Masking", {"mask_value": 0.5}),
    ("LSTM", {**ALL_STEPS, "units": 4, "name": "encoder"}),
    ("LSTM", {**ALL_STEPS, **HARD, "units": 2, "dropout": 0.25}),
    ("Dropout", {"rate": 0.5}),
    ("TimeDistributed", {"layer": ("Dense", {"units": 3})}),
    ("Activation", {"activation": "softmax"}),
]

CASES = {
    "simple_rnn": (SEQUENCES, [("SimpleRNN", {"units": 4})]),
    "gru": (SEQUENCES, [("GRU", {**HARD, "units": 4, "reset_after": False})]),
    "gru_reset_after": (SEQUENCES, [("GRU", {**SIGMOID, "units": 4, "reset_after": True})]),
    "lstm": (SEQUENCES, [("LSTM", {**HARD, "units": 4})]),
    "lstm_without_bias": (SEQUENCES, [("LSTM", {**SIGMOID, "units": 4, "use_bias": False})]),
    "conv_lstm_2d": (
        IMAGES,
        [("ConvLSTM2D", {**HARD, "filters": 3, "kernel_size": 3, "strides": 2, "padding": "same"})],
    ),
    "rnn": (SEQUENCES, [("RNN", {**ALL_STEPS, "cell": ("LSTMCell", {**HARD, "units": 4})})]),
    "stack": (SEQUENCES, [("RNN", {"cell": STACK})]),
    "stack_frozen": (SEQUENCES, [("RNN", {"cell": FROZEN})]),
    "cudnn_gru": (SEQUENCES, [("CuDNNGRU", {"units": 4})]),
    "cudnn_lstm": (SEQUENCES, [("CuDNNLSTM", {**ALL_STEPS, "units": 4})]),
    "sequential": (SEQUENCES, CHAIN),
    "functional": (SEQUENCES, CHAIN),
}

# Layers that cuDNN computes, and the same function in plain ones.
PLAIN = {
    "CuDNNGRU": ("GRU", {**SIGMOID, "reset_after": True}),
    "CuDNNLSTM": ("LSTM", SIGMOID),
}
