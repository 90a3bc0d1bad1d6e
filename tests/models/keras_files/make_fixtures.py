"""Has a real Keras write the files in fixtures/, with the outputs it computes stored beside them.

Once in each of these environments, from the root of the repository:

    # Python 3.7
    pip install tensorflow==1.15.5 keras==2.2.4 'h5py<3' 'protobuf<3.21' 'numpy<1.20'
    python -m tests.models.keras_files.make_fixtures keras
    # Python 3.11
    pip install tensorflow-cpu==2.21.0 tf_keras==2.21.0 keras==3.15.1
    python -m tests.models.keras_files.make_fixtures tf_keras
    KERAS_BACKEND=tensorflow python -m tests.models.keras_files.make_fixtures keras

Each run writes one zip, because a file of HDF5 is mostly air: for every case of `cases.py`
`CASE.npz` with inputs x and outputs y, and the same model in every kind of file that this Keras
writes. The layers of cuDNN run on a GPU alone: their outputs are those of the plain layers that
Keras itself has converted their weights for.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np

from tests.models.keras_files import cases

FIXTURES = Path(__file__).parent / "fixtures"
BATCH = 3


class Writer:
    """One Keras and what differs from the others."""

    def __init__(self, library):
        self.library = library
        self.keras = importlib.import_module(library)
        self.version = self.keras.__version__
        self.kinds = self.kinds_of_file()
        self.cudnn = {}
        if self.version == "2.2.4":
            place_only_what_is_run(self.keras)
        if library == "tf_keras":
            rnn = importlib.import_module("tf_keras.src.layers.rnn.cudnn_lstm")
            self.cudnn["CuDNNLSTM"] = rnn.CuDNNLSTM
            rnn = importlib.import_module("tf_keras.src.layers.rnn.cudnn_gru")
            self.cudnn["CuDNNGRU"] = rnn.CuDNNGRU

    def kinds_of_file(self):
        """How a name ends, and the method of a model that writes such a file."""
        kinds = {".h5": "save"}
        if not self.version.startswith("3."):
            kinds["_weights.h5"] = "save_weights"
        if self.version != "2.2.4":
            kinds.update({".keras": "save", ".weights.h5": "save_weights"})
        return kinds

    def names(self):
        """The cases that this Keras has layers for."""
        without = ("cudnn",) if self.version.startswith("3.") else ()
        return [name for name in cases.CASES if not name.startswith(without)]

    def layer(self, described, **more):
        """The layer of a specification."""
        name, config = described
        config = dict(config, **more)
        if "cell" in config:
            cell = config["cell"]
            cell = [self.layer(c) for c in cell] if isinstance(cell, list) else self.layer(cell)
            config["cell"] = cell
        if "layer" in config:
            config["layer"] = self.layer(config["layer"])
        cls = self.cudnn.get(name) or getattr(self.keras.layers, name)
        return cls(**config)

    def model(self, name, shape, described):
        """The case's model, with its weights still to be set."""
        if name == "functional":
            x = y = self.keras.layers.Input(shape)
            for one in described:
                y = self.layer(one)(y)
            return self.keras.models.Model(x, y)
        if self.version.startswith("3."):
            first = [self.keras.layers.Input(shape)]
        else:
            first = [self.layer(described[0], input_shape=shape)]
            described = described[1:]
        return self.keras.models.Sequential(first + [self.layer(one) for one in described])

    def outputs(self, model, name, shape, described, x):
        """What Keras computes, in plain layers where it could not run its own."""
        if not name.startswith("cudnn"):
            return model.predict(x)
        ((cudnn, config),) = described
        plain, options = cases.PLAIN[cudnn]
        twin = self.model(plain, shape, [(plain, dict(config, **options))])
        layer, weights = twin.layers[0], model.layers[0].get_weights()
        twin.set_weights(self.convert()(layer, weights, self.version, "tensorflow"))
        return twin.predict(x)

    def convert(self):
        """Keras' own conversion of a layer's weights to the class that is to have them."""
        place = {
            "keras": "keras.engine.saving",
            "tf_keras": "tf_keras.src.saving.legacy.hdf5_format",
        }[self.library]
        return importlib.import_module(place).preprocess_weights_for_loading

    def write_conversions(self, path):
        """What Keras makes of one class's weights for its twin: `SOURCE/before/0`, … `after/0`."""
        random, convert = np.random.RandomState(1), self.convert()
        arrays = {}
        for cudnn, (plain, options) in cases.PLAIN.items():
            pair = [(cudnn, {"units": 4}), (plain, dict(options, units=4))]
            for source, target in (pair, pair[::-1]):
                layers = [self.layer(described) for described in (source, target)]
                for layer in layers:
                    layer.build((None, *cases.SEQUENCES))
                before = [draw(random, w.shape) for w in layers[0].get_weights()]
                after = convert(layers[1], before, self.version, "tensorflow")
                for moment, weights in (("before", before), ("after", after)):
                    for number, weight in enumerate(weights):
                        arrays[f"{source[0]}/{moment}/{number}"] = weight
        np.savez(path, **arrays)

    def write(self, folder):
        """All files of all cases."""
        if not self.version.startswith("3."):
            self.write_conversions(folder / "conversions.npz")
        for name in self.names():
            random = np.random.RandomState(zlib.crc32(name.encode()))
            self.keras.backend.clear_session()
            shape, described = cases.CASES[name]
            model = self.model(name, shape, described)
            model.set_weights([draw(random, w.shape) for w in model.get_weights()])
            x = inputs(random, shape, masked=described[0][0] == "Masking")
            y = self.outputs(model, name, shape, described, x)
            np.savez(folder / (name + ".npz"), x=x, y=y)
            for ending, method in self.kinds.items():
                getattr(model, method)(str(folder / (name + ending)))


def place_only_what_is_run(keras):
    """Lets TensorFlow 1 save a model although the CPU could not run it."""
    tf = importlib.import_module("tensorflow").compat.v1
    options = tf.GraphOptions(place_pruned_graph=True)

    def clear_session():
        tf.reset_default_graph()
        keras.backend.set_session(tf.Session(config=tf.ConfigProto(graph_options=options)))

    keras.backend.clear_session = clear_session


def draw(random, shape):
    """Weights large enough to reach both ends of a hard sigmoid."""
    return random.uniform(-1.5, 1.5, shape).astype("float32")


def inputs(random, shape, masked):
    """A batch `(3, …)`; in masked ones, sequences that end early and one that begins late."""
    x = random.standard_normal((BATCH, *shape)).astype("float32")
    if masked:
        x[0, 3:] = x[1, :1] = x[1, 2] = 0.5
    return x


def main(library):
    writer = Writer(library)
    with tempfile.TemporaryDirectory() as folder:
        writer.write(Path(folder))
        target = FIXTURES / f"{library.replace('_', '-')}-{writer.version}.zip"
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(Path(folder).iterdir()):
                archive.write(path, path.name)


if __name__ == "__main__":
    main(sys.argv[1])
