"""cuDNN's layers through the plain ones to which Keras converts their weights.

The former run on a GPU alone. Runs in Keras' environment (Python 3.7).
"""

from __future__ import annotations

from keras.engine import saving

PLAIN = {
    "CuDNNLSTM": ("LSTM", {"recurrent_activation": "sigmoid"}),
    "CuDNNGRU": ("GRU", {"recurrent_activation": "sigmoid", "reset_after": True}),
}


def has_twin(described):
    """Whether a layer is one of cuDNN's."""
    return described["class_name"] in PLAIN


def twin(described):
    """The layer that computes the same on any device."""
    name, options = PLAIN[described["class_name"]]
    return {"class_name": name, "config": dict(described["config"], **options)}


def to_plain(weights, layer):
    """The weights of one of cuDNN's layers as its twin `layer` has them."""
    return saving._convert_rnn_weights(layer, weights)


def from_plain(gradients, cudnn):
    """Gradients of the twin's weights as those of the layer `cudnn`.

    The conversion only moves numbers, but for LSTM's bias: cuDNN's layer has two halves that are
    added, so each has the gradient of the sum; Keras' conversion gives half of it to each.
    """
    if type(cudnn).__name__ == "CuDNNLSTM":
        gradients = [*gradients[:2], 2 * gradients[2]]
    return saving._convert_rnn_weights(cudnn, gradients)
