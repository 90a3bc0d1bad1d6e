"""What the rest of the server knows of a model: names, shapes and states, validated.

The repository reads it from a model directory; engine and wire only ever see these objects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from server.stubs.inference.model_config_pb2 import ModelConfig


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output as a request sees it.

    `shape` counts the batch axis, which is axis 0 and always -1; a model with max_batch_size 0 has
    no batch axis. -1 is any size. `time_axis` is the axis that counts timesteps, None where the
    tensor has none. An input with a `default` (an array of its dtype) may be left out of a request:
    it is that then in every row, which may be one number for all elements.

    In the graph the batch axis stands at `graph_axis`. Where it has other axes, `graph_shape` is
    its shape, counted as `shape` is, with as many axes of any size in the same order, but for time,
    which may be one step there. `labels` are names of classes, by the index of an output's element.
    """

    name: str
    datatype: str  # Open Inference name, "FP32"
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    time_axis: int | None = None
    default: NDArray[Any] | None = None
    graph_axis: int = 0
    graph_shape: tuple[int, ...] | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StateSpec:
    """A pair of tensors that carry one state from a step to the next.

    `shape` is that of one session's row, without the batch axis; in the graph the batch axis
    stands at `batch_axis`, None for a model without one. `initial` has `shape`.

    A constant of a session is kept the same way, but is given when the session is opened and never
    changes: its `output` is "".
    """

    name: str  # of the graph's input
    output: str  # of the graph's output
    datatype: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    batch_axis: int | None
    initial: NDArray[Any]

    @property
    def nbytes(self) -> int:
        """Bytes of one row."""
        return self.initial.nbytes


@dataclass(frozen=True, slots=True)
class FixedInput:
    """An input of the graph that is the same for every request, and no request carries.

    `value` has the input's shape and dtype; where the input has a batch axis, which is the first,
    it is that of one row (`per_row`) and has none.
    """

    name: str
    value: NDArray[Any]
    per_row: bool


@dataclass(frozen=True, slots=True)
class ControlSpec:
    """An input of the graph that tells the model where in its sequence a row of the batch is. The
    server feeds it.

    `signal`: the first step, the last, whether there is a request at all, or the sequence's id.
    Other than the batch the tensor has axes of size 1 only. `false` and `true` are numbers, without
    meaning for an id.
    """

    tensor: TensorSpec
    signal: Literal["start", "end", "ready", "id"]
    false: float = 0
    true: float = 1


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How the configuration wants the model to be run; None: as the server sees fit.

    `session` are entries of ONNX Runtime's session configuration and `cuda` options of its CUDA
    provider, both by its own names. After every run memory goes back to the system on the devices
    in `shrinks`. `device` is where the model runs, `gpu` the number of the GPU.
    """

    graph_level: Literal["all", "extended", "basic", "none"] = "all"
    parallel: bool = False  # nodes that do not need each other run at the same time
    intra_op_threads: int | None = None
    inter_op_threads: int | None = None
    memory_arena: bool = True
    memory_pattern: bool = False
    shrinks: tuple[Literal["cpu", "gpu"], ...] = ()
    session: Mapping[str, str] = field(default_factory=dict)
    cuda: Mapping[str, str] = field(default_factory=dict)
    device: Literal["auto", "gpu", "cpu"] = "auto"
    gpu: int | None = None


NO_OPTIONS = RunOptions()


@dataclass(frozen=True, slots=True)
class WarmupSample:
    """A run that the configuration wants before the model serves, `count` times, from the initial
    state, with `batch_size` equal rows; 1 for a model without a batch axis.

    `row` maps names to one row, without the batch axis, of the model's inputs; states and constants
    may be among them, which begin with that, and control inputs.
    """

    name: str
    count: int
    batch_size: int
    row: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One version of one model.

    `may_be_cut`: running a request in pieces of consecutive timesteps, the state carried from
    piece to piece, gives the same as running it whole. `idle_s` is the time without a request
    after which a session ends. `instances` runs may be under way at a time. `digest` is the SHA-256
    of model, configuration and the files that they name. `without_effect` are fields that are set
    in vain, and why; `hints` are for whoever set up the model.
    """

    name: str
    version: int
    onnx_path: Path
    digest: str
    max_batch_size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...]
    constants: tuple[StateSpec, ...]  # what a session gives once; not among `inputs`
    idle_s: float
    may_be_cut: bool
    config: ModelConfig
    piece: int | None = None  # the most timesteps that the graph takes at once; None: any number
    warmup: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # shapes for a first run
    samples: tuple[WarmupSample, ...] = ()
    options: RunOptions = NO_OPTIONS
    fixed: tuple[FixedInput, ...] = ()
    controls: tuple[ControlSpec, ...] = ()
    instances: int = 1
    without_effect: Mapping[str, str] = field(default_factory=dict)
    hints: tuple[str, ...] = ()

    @property
    def fed(self) -> tuple[TensorSpec, ...]:
        """What every run of the model is given: the inputs of requests, and control inputs."""
        return (*self.inputs, *(control.tensor for control in self.controls))

    @property
    def kept(self) -> tuple[StateSpec, ...]:
        """What is kept for every row of a session."""
        return (*self.states, *self.constants)

    @property
    def state_nbytes(self) -> int:
        """Bytes of state that one row of a session takes, its constants included."""
        return sum(state.nbytes for state in self.kept)
