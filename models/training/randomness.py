"""All random numbers of a training, from generators that one seed starts and a checkpoint holds."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Random:
    """The generators that a task draws from, and the state of torch's global ones.

    `numpy`, and torch's `generator` on the CPU, are for the order of batches, noise and the like.
    Dropout takes no generator; it draws from torch's global one of its device: `in_force` lends it
    a state of ours and gives the old one back, so that training neither depends on what was drawn
    before nor changes what others draw after.
    """

    numpy: np.random.Generator
    generator: torch.Generator

    def __init__(self, seed: int, device: torch.device) -> None:
        self.numpy = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self._devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=self._devices):
            torch.manual_seed(seed)
            self._global = self._get_global()

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Inside, torch's global generators go on from where they were at the last exit."""
        with torch.random.fork_rng(devices=self._devices):
            self._set_global(self._global)
            yield
            self._global = self._get_global()

    def state_dict(self) -> dict[str, Any]:
        """All states; to be taken outside of `in_force`."""
        return {
            "numpy": self.numpy.bit_generator.state,
            "generator": self.generator.get_state(),
            "global": self._global,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.numpy.bit_generator.state = state["numpy"]
        self.generator.set_state(state["generator"])
        self._global = state["global"]

    def _get_global(self) -> list[torch.Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in self._devices)]

    def _set_global(self, states: list[torch.Tensor]) -> None:
        cpu, *others = states
        torch.set_rng_state(cpu)
        for device, state in zip(self._devices, others, strict=True):
            torch.cuda.set_rng_state(state, device)
