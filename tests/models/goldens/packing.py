"""The form of the golden files: a list of cases as one JSON text and one vector of numbers.

A case is nested dicts and lists with arrays for leaves. Hundreds of tiny arrays as members of an
.npz would be mostly headers; here each leaves only its shape behind in the JSON, and its numbers go
to the vector, in the order in which they are met.

Runs in Keras' environment (Python 3.7), too.
"""

from __future__ import annotations

import json

import numpy as np

SHAPE = "array of shape"


def save(path, cases, dtype="float32"):
    """Writes `cases` to `path`."""
    values = []
    text = json.dumps(_pack(cases, values)).encode()
    numbers = np.concatenate([np.ravel(value) for value in values]).astype(dtype)
    np.savez_compressed(path, cases=np.frombuffer(text, np.uint8), values=numbers)


def load(path):
    """The cases that `save` wrote; all arrays have its dtype."""
    with np.load(path) as file:
        text, values = file["cases"].tobytes().decode(), file["values"]
    return _unpack(json.loads(text), values, [0])


def _pack(tree, values):
    if isinstance(tree, dict):
        return {key: _pack(value, values) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_pack(value, values) for value in tree]
    if isinstance(tree, np.ndarray):
        values.append(tree)
        return {SHAPE: list(tree.shape)}
    return tree


def _unpack(tree, values, used):
    """`used` holds one number: how many of `values` have found their place."""
    if isinstance(tree, list):
        return [_unpack(value, values, used) for value in tree]
    if not isinstance(tree, dict):
        return tree
    if SHAPE not in tree:
        return {key: _unpack(value, values, used) for key, value in tree.items()}
    start, shape = used[0], tree[SHAPE]
    used[0] += int(np.prod(shape))
    return values[start : used[0]].reshape(shape)
