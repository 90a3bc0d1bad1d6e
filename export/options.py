"""What may be said of an export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import models
    from export.forms import Target


class Options(TypedDict, total=False):
    """Keywords of `to_onnx` and `install`; every one may be left out.

    - `name`: of the served model; the torch model's own by default.
    - `max_batch_size`: so many rows may run at once (64).
    - `idle_seconds`: without a request for so long, a session ends (600).
    - `inputs`: what the model takes, by the names of its arguments; a Sequential and a recurrent
      layer know it, and so does a module with an attribute `inputs`.
    - `outputs`: names for what it returns, if it is no dict.
    - `mask`: give a Sequential, or a recurrent layer, an input `mask (batch, time)`, true where a
      timestep counts; a request that leaves it out has them all count.
    - `may_be_cut`: whether a request gives the same in pieces of consecutive timesteps. The layers
      here are known; of a module of one's own it must be said, and is proven like all else. By
      default a module's attribute `causal`, else False.
    - `target`: "cuda" (the default) takes the forms that stay on the GPU, "cpu" the fastest there.
    - `one_step`: a graph for a single timestep, without a loop: the fastest for clients that send
      one timestep at a time. Longer requests are cut.
    - `dtype`: "float32" (the default) or "float16", for weights, states and all between.
    - `quantize`: weights of products as int8, by ONNX Runtime's dynamic quantisation.
    """

    name: str | None
    max_batch_size: int
    idle_seconds: float
    inputs: Mapping[str, models.Input] | None
    outputs: Sequence[str] | None
    mask: bool
    may_be_cut: bool | None
    target: Target
    one_step: bool
    dtype: Literal["float32", "float16"]
    quantize: bool
