"""What the fake server serves.

The model "sums" adds up what it sees: state `total += sum(frame) * [1, 2]`, output `totals` is the
state. "pair" has two inputs and two outputs, to tell names apart; "scaled" has a constant and an
input that may be left out; "alone" has no batch axis; "quiet" takes and gives nothing.
"""

from __future__ import annotations

import numpy as np

from rnnserve.v1 import session_pb2 as pb


def tensor(name, array, datatype="FP32"):
    return pb.Tensor(name=name, datatype=datatype, shape=array.shape, contents=array.tobytes())


def array_of(message, dtype=np.float32):
    return np.frombuffer(message.contents, dtype).reshape(tuple(message.shape))


def spec(name, shape, datatype="FP32", time_axis=None, **more):
    return pb.TensorSpec(name=name, datatype=datatype, shape=shape, time_axis=time_axis, **more)


class Sums:
    unbatched = False
    constants = ()
    inputs = (spec("frames", (-1, -1, 3), time_axis=1),)
    outputs = (spec("totals", (-1, -1, 2), time_axis=1),)
    states = (spec("total", (-1, 2)),)

    def run(self, state, inputs):
        per_step = array_of(inputs["frames"]).sum(axis=2)[:, :, None] * np.float32([1, 2])
        totals = state[:, None] + np.cumsum(per_step, axis=1, dtype=np.float32)
        return totals[:, -1], {"totals": totals}


class Pair(Sums):
    """`up` counts frames times `gain` upwards, `down` downwards; `gain` has no time axis."""

    inputs = (spec("frames", (-1, -1, 1), time_axis=1), spec("gain", (-1,), "INT32"))
    outputs = (spec("up", (-1, -1, 1), time_axis=1), spec("down", (-1, 1)))
    states = (spec("total", (-1, 2)),)

    def run(self, state, inputs):
        gain = array_of(inputs["gain"], np.int32).astype(np.float32)
        up = state[:, None, :1] + np.cumsum(
            array_of(inputs["frames"]) * gain[:, None, None], axis=1
        )
        after = np.concatenate([up[:, -1], -up[:, -1]], axis=1).astype(np.float32)
        return after, {"up": up.astype(np.float32), "down": after[:, 1:]}


class Scaled(Sums):
    """Like "sums", of the frames that the mask lets through, times a constant."""

    inputs = (*Sums.inputs, spec("mask", (-1, -1), "BOOL", time_axis=1, has_default=True))
    constants = (spec("gain", (-1, 2), "FP16"),)

    def run(self, state, inputs):
        frames = array_of(inputs["frames"])
        if "mask" in inputs:
            frames = frames * array_of(inputs["mask"], np.bool_)[:, :, None]
        per_step = frames.sum(axis=2)[:, :, None] * array_of(inputs["gain"], np.float16)[:, None]
        totals = state[:, None] + np.cumsum(per_step, axis=1, dtype=np.float32)
        return totals[:, -1], {"totals": totals}


class Alone(Sums):
    """Like "sums", times a number, without a batch axis; `count` is how many frames there were."""

    unbatched = True
    inputs = (spec("frames", (-1, 3), time_axis=0), spec("scale", (), "INT32"))
    outputs = (spec("totals", (-1, 2), time_axis=0), spec("count", ()))
    states = (spec("total", (2,)),)
    constants = (spec("limit", ()),)

    def run(self, state, inputs):
        frames = array_of(inputs["frames"]) * np.float32(array_of(inputs["scale"], np.int32))
        steps = np.minimum(frames.sum(axis=1), array_of(inputs["limit"]))[:, None]
        totals = state + np.cumsum(steps * np.float32([1, 2]), axis=0, dtype=np.float32)
        return totals[-1], {"totals": totals, "count": np.array(len(totals), np.float32)}


class Quiet(Sums):
    inputs = outputs = ()

    def run(self, state, inputs):
        return state + 1, {}


class Texts(Sums):
    """Of a datatype that numpy has no fixed-size dtype for."""

    outputs = (spec("words", (-1, -1), "BYTES", time_axis=1),)


MODELS = {
    "sums": Sums(),
    "pair": Pair(),
    "scaled": Scaled(),
    "alone": Alone(),
    "quiet": Quiet(),
    "texts": Texts(),
}
