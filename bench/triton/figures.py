"""What one measurement gives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figures:
    """`p50_us` is the latency of one message, be it a step or a frame of many; the last two are the
    processor time of a step, where it was measured.
    """

    steps_per_s: float
    p50_us: float
    server_us: float = 0.0
    client_us: float = 0.0


class Failed(Exception):
    """A measurement has no result; the text says why."""
