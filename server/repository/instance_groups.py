"""`instance_group`: which device a model runs on. Its states live on that device, so there is one
for all instances.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from server.repository.problem import Problem
from server.stubs.inference.model_config_pb2 import ModelInstanceGroup

if TYPE_CHECKING:
    from server.stubs.inference.model_config_pb2 import ModelConfig

_Device = Literal["auto", "gpu", "cpu"]
# KIND_MODEL leaves the choice to whoever runs the model.
_DEVICES: dict[int, _Device] = {
    ModelInstanceGroup.KIND_AUTO: "auto",
    ModelInstanceGroup.KIND_MODEL: "auto",
    ModelInstanceGroup.KIND_GPU: "gpu",
    ModelInstanceGroup.KIND_CPU: "cpu",
}
_WITHOUT_GPUS = (ModelInstanceGroup.KIND_CPU, ModelInstanceGroup.KIND_MODEL)


def device_of(config: ModelConfig) -> tuple[_Device, int | None]:
    """The kind of device and the number of the GPU, None where nothing is said. Raises Problem."""
    devices: dict[_Device, str] = {}
    gpus: set[int] = set()
    for group in config.instance_group:
        if group.kind not in _DEVICES:
            raise Problem(f"instance_group.kind: {group.kind} is not known")
        kind = ModelInstanceGroup.Kind.Name(group.kind)
        if group.gpus and group.kind in _WITHOUT_GPUS:
            raise Problem(f"instance_group: {kind} with gpus {list(group.gpus)}; expected none")
        devices[_DEVICES[group.kind]] = kind
        gpus.update(group.gpus)
    if len(devices) > 1:
        raise Problem(
            f"instance_group: {' and '.join(devices.values())}; expected one kind: the states of a"
            " model live on one device"
        )
    if min(gpus, default=0) < 0:
        raise Problem(f"instance_group.gpus: {min(gpus)}; expected the number of a GPU, 0 or more")
    if len(gpus) > 1:
        raise Problem(
            f"instance_group.gpus: {sorted(gpus)}; expected one of them: the states of a model live"
            " on one device"
        )
    return next(iter(devices), "auto"), next(iter(gpus), None)


def tell_device(config: ModelConfig, gpu: int | None) -> None:
    """Says where the model runs, which a group of KIND_AUTO leaves to whoever runs it: on the GPU
    of that number, or on the CPU.
    """
    for group in config.instance_group:
        if group.kind == ModelInstanceGroup.KIND_AUTO:
            group.kind = ModelInstanceGroup.KIND_CPU
            if gpu is not None:
                group.kind = ModelInstanceGroup.KIND_GPU
                group.gpus[:] = [gpu]
