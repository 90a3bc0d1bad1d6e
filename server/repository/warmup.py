"""`model_warmup`: which sizes a first run may have, for axes that take any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from server.repository.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from server.repository.spec import TensorSpec
    from server.stubs.inference.model_config_pb2 import ModelConfig


def warmup_shapes(config: ModelConfig, inputs: Iterable[TensorSpec]) -> dict[str, tuple[int, ...]]:
    """Shapes with the batch axis, if the model has one, as 1, of the inputs that the first
    model_warmup names. Raises Problem.
    """
    if not config.model_warmup:
        return {}
    specs = {tensor.name: tensor for tensor in inputs}
    leading = (1,) if config.max_batch_size else ()
    shapes = {}
    for name, given in sorted(config.model_warmup[0].inputs.items()):
        if name not in specs:
            raise Problem(f"model_warmup: no input {name!r}; there is: {', '.join(specs)}")
        shape, wanted = (*leading, *given.dims), specs[name].shape
        fits = len(shape) == len(wanted) and all(
            size > 0 and axis in (-1, size) for size, axis in zip(shape, wanted, strict=True)
        )
        if not fits:
            raise Problem(
                f"model_warmup: input {name!r}: dims {list(given.dims)}; expected sizes for "
                f"{list(wanted[len(leading) :])}"
            )
        shapes[name] = shape
    return shapes
