"""Files of Keras: weights and whole models of Keras 2, tf_keras and Keras 3 into our layers.

    model = load_model("model.keras")         # or .h5: the config comes from the file
    load_weights(model, "model.weights.h5")   # or .h5, .keras: into a model that is there

From the file's bytes to the layers: `reading` tells the kinds apart, `legacy`, `store` and
`archive` read one each, and `saved` is what they all give. `chain`, `options` and `plan` make our
layers for a config; `convert`, `fit` and `loading` bring the weights.
"""

from models.keras_files.convert import Layout, convert
from models.keras_files.errors import KerasFileError
from models.keras_files.loading import load_model, load_weights
from models.keras_files.reading import read
from models.keras_files.saved import SavedLayer, SavedModel

__all__ = [
    "KerasFileError",
    "Layout",
    "SavedLayer",
    "SavedModel",
    "convert",
    "load_model",
    "load_weights",
    "read",
]
