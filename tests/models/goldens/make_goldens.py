"""Makes the golden files in this folder with the original Keras 2.2.4.

In an environment with Python 3.7, from the root of the repository:

    pip install tensorflow==1.15.5 keras==2.2.4 'h5py<3' 'protobuf<3.21' 'numpy<1.20'
    python -m tests.models.goldens.make_goldens

`cases.py` says what is in the files, `oracle.py` how Keras is asked, `packing.py` how they are
stored. cuDNN's layers run on a GPU alone: their answers are those of the plain layers that Keras
itself converts their weights to.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from keras import backend as K
from keras import constraints, initializers

from tests.models.goldens import cases, oracle, packing
from tests.models.goldens.chance import rounded

FOLDER = Path(__file__).parent


def main():
    """Writes one file for each family of layers, and two about weights."""
    for name, specifications in cases.FILES.items():
        packing.save(FOLDER / (name + ".npz"), [oracle.run(one) for one in specifications()])
    weights = [oracle.initial_weights(one) for one in cases.initial()]
    packing.save(FOLDER / "initial_weights.npz", weights)
    packing.save(FOLDER / "initializers.npz", [statistics(*one) for one in initial_values()])
    packing.save(FOLDER / "constraints.npz", [constrained(one) for one in cases.CONSTRAINTS])


def initial_values():
    return [(initializer, shape) for initializer in cases.RANDOM for shape in cases.SHAPES]


def statistics(initializer, shape):
    """What is alike in all samples: range, mean, deviation, and products of the rows."""
    value = initializers.get(initializer)(tuple(shape))
    value = value if isinstance(value, np.ndarray) else K.eval(value)
    rows = value.reshape(-1, shape[-1])
    rows = rows if rows.shape[0] < rows.shape[1] else rows.T
    return {
        "initializer": initializer,
        "shape": shape,
        "range": np.array([value.min(), value.max()]),
        "mean": np.array(value.mean()),
        "deviation": np.array(value.std()),
        "product": (rows @ rows.T)[:3, :3],
    }


def constrained(constraint):
    """A weight before and after."""
    random = np.random.RandomState(7)
    before = rounded(random.standard_normal((3, 4)))
    after = K.eval(constraints.get(constraint)(K.variable(before)))
    return {"constraint": constraint, "before": before, "after": after}


if __name__ == "__main__":
    main()
